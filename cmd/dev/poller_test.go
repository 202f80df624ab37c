package main

import (
	"encoding/json"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	a, b := newFile("a", "text/plain", 10), newFile("b", "text/plain", 20)
	arrived := func(files ...file) []received {
		var list []received
		for _, f := range files {
			list = append(list, received{name: f.name, size: int64(len(f.content)), sum: f.sum})
		}
		return list
	}
	damaged := arrived(a, b)
	damaged[1].sum[0]++
	for name, test := range map[string]struct {
		got  []received
		fine bool
	}{
		"the same":    {arrived(a, b), true},
		"one missing": {arrived(a), false},
		"swapped":     {arrived(b, a), false},
		"damaged":     {damaged, false},
	} {
		if err := compare([]file{a, b}, test.got); (err == nil) != test.fine {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAllRewritten(t *testing.T) {
	t.Parallel()
	p := poller{local: map[string]string{"platform-pending:w/1": "workspace:/x/1"}}
	for name, test := range map[string]struct {
		message string
		fine    bool
	}{
		"rewritten":   {`{"uri":"platform-pending:w/1"}`, true},
		"not fetched": {`{"uri":"platform-pending:w/2","other":"platform-pending:w/1"}`, false},
		"not named":   {`{}`, false},
	} {
		if err := allRewritten(p.rewrite(json.RawMessage(test.message)), p.local); (err == nil) != test.fine {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

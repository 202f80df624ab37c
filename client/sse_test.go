package client_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		in   string
		want []client.Event
	}{
		"one":                      {"id: 1\nevent: activity\ndata: {}\n\n", []client.Event{{"1", "activity", "{}"}}},
		"carriage returns":         {"id: 1\r\ndata: a\r\n\r\n", []client.Event{{"1", "", "a"}}},
		"no blank after the colon": {"id:1\ndata:a\n\n", []client.Event{{"1", "", "a"}}},
		"only one blank is taken":  {"data:  a\n\n", []client.Event{{"", "", " a"}}},
		"several data lines":       {"data: a\ndata: b\ndata\n\n", []client.Event{{"", "", "a\nb\n"}}},
		"empty data":               {"data:\n\n", []client.Event{{"", "", ""}}},
		"comments and retry":       {": ping\n\nretry: 2000\n\n: ping\ndata: a\n\n", []client.Event{{"", "", "a"}}},
		"the id stays":             {"id: 1\ndata: a\n\ndata: b\n\n", []client.Event{{"1", "", "a"}, {"1", "", "b"}}},
		"an id without data":       {"id: 7\n\ndata: b\n\n", []client.Event{{"7", "", "b"}}},
		"an id with NUL":           {"id: 1\x00\ndata: b\n\n", []client.Event{{"", "", "b"}}},
		"unknown fields":           {"wibble: 1\ndata: b\n\n", []client.Event{{"", "", "b"}}},
		"cut off":                  {"data: a\n\ndata: b\n", []client.Event{{"", "", "a"}}},
		"cut off in a line":        {"data: a\n\ndata: b", []client.Event{{"", "", "a"}}},
		"longer than a buffer":     {"data: " + long + "\n\n", []client.Event{{"", "", long}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := client.ReadEvents(r)
				if !errors.Is(err, io.EOF) {
					t.Errorf("ended with %v, want EOF", err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestEventWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := client.ReadEvents(io.MultiReader(strings.NewReader("data: "), zeros{})); err == nil {
		t.Error("no error")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

func TestNumbersMayHaveAFraction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "-7": -7, "7.0": 7, "7.9": 7, "-7.9": -7, "1e3": 1000, "1.5E2": 150,
		"2147483647": 2147483647, "2147483647.5": 2147483647, "-2147483648": -2147483648, "-2147483648.5": -2147483648,
	} {
		var small wire.Int32
		var large wire.Int64
		if err := json.Unmarshal([]byte(text), &small); err != nil || int64(small) != want {
			t.Errorf("Int32 of %s is %d, %v, want %d", text, small, err, want)
		}
		if err := json.Unmarshal([]byte(text), &large); err != nil || int64(large) != want {
			t.Errorf("Int64 of %s is %d, %v, want %d", text, large, err, want)
		}
	}
	var large wire.Int64
	if err := json.Unmarshal([]byte("9007199254740993"), &large); err != nil || large != 9007199254740993 {
		t.Errorf("a large whole number is rounded to %d, %v", large, err)
	}
	for _, text := range []string{`"7"`, `true`, `[]`, `{}`, `2147483648`, `-2147483649`, `99999999999.5`, `1e400`} {
		var small wire.Int32
		if err := json.Unmarshal([]byte(text), &small); err == nil {
			t.Errorf("Int32 takes %s as %d", text, small)
		}
	}
	for _, text := range []string{`9223372036854775808`, `-9.3e18`} {
		if err := json.Unmarshal([]byte(text), &large); err == nil {
			t.Errorf("Int64 takes %s as %d", text, large)
		}
	}
	if b, err := json.Marshal(wire.Int32(5)); err != nil || string(b) != "5" {
		t.Errorf("Int32 encodes as %s, %v", b, err)
	}
}

package signing_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/signing"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, signing.MinKeyBytes) }

func ring(t *testing.T, keys ...[]byte) *signing.Keyring {
	t.Helper()
	k, err := signing.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokenCarriesItsPayload(t *testing.T) {
	t.Parallel()
	k := ring(t, key(1))
	for _, payload := range []string{"", "x", `{"a":"ä"}`, "\x00.\xff"} {
		token := k.Sign("use", []byte(payload))
		if strings.ContainsAny(token, "+/=%&?# ") {
			t.Errorf("token %q needs escaping", token)
		}
		got, err := k.Verify("use", token)
		if err != nil {
			t.Fatalf("payload %q: %v", payload, err)
		}
		if diff := cmp.Diff(payload, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}

// Every single bit of a token counts.
func TestChangedTokenIsRefused(t *testing.T) {
	t.Parallel()
	k := ring(t, key(1))
	token := k.Sign("use", []byte("payload"))
	for i := range len(token) {
		for bit := range 8 {
			changed := []byte(token)
			changed[i] ^= 1 << bit
			if got, err := k.Verify("use", string(changed)); !errors.Is(err, signing.ErrInvalid) {
				t.Fatalf("byte %d bit %d: payload %q, error %v", i, bit, got, err)
			}
		}
	}
	for _, token := range []string{"", ".", "x", token + "A", token + ".", token[:len(token)-1], "." + token} {
		if _, err := k.Verify("use", token); !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

func TestPurposesAreApart(t *testing.T) {
	t.Parallel()
	k := ring(t, key(1))
	for _, other := range []string{"", "us", "uses", "use\x00"} {
		if _, err := k.Verify(other, k.Sign("use", []byte("payload"))); !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("purpose %q: %v", other, err)
		}
	}
	// The same bytes in a row, cut elsewhere.
	if k.Signature("use", []byte("rpayload")) == k.Signature("user", []byte("payload")) {
		t.Error("purpose and payload run into each other")
	}
}

func TestKeysChangeOneByOne(t *testing.T) {
	t.Parallel()
	before, during, after := ring(t, key(1)), ring(t, key(2), key(1)), ring(t, key(2))
	old := before.Sign("use", []byte("payload"))
	if _, err := during.Verify("use", old); err != nil {
		t.Errorf("what the older key signed: %v", err)
	}
	if _, err := after.Verify("use", old); !errors.Is(err, signing.ErrInvalid) {
		t.Errorf("what a dropped key signed: %v", err)
	}
	if _, err := after.Verify("use", during.Sign("use", []byte("payload"))); err != nil {
		t.Errorf("the first key does not sign: %v", err)
	}
}

func TestSignatureBesideItsPayload(t *testing.T) {
	t.Parallel()
	k := ring(t, key(1))
	signature := k.Signature("use", []byte("payload"))
	if err := k.Check("use", []byte("payload"), signature); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"payload":   k.Check("use", []byte("Payload"), signature),
		"purpose":   k.Check("other", []byte("payload"), signature),
		"cut":       k.Check("use", []byte("payload"), signature[:20]),
		"empty":     k.Check("use", []byte("payload"), ""),
		"other key": ring(t, key(2)).Check("use", []byte("payload"), signature),
		"random":    signing.Random().Check("use", []byte("payload"), signature),
	} {
		if !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	a, b := key(0xfb), key(0xfe)
	for name, text := range map[string]string{
		"hex":       hex.EncodeToString(a),
		"upper hex": strings.ToUpper(hex.EncodeToString(a)),
		"base64":    base64.StdEncoding.EncodeToString(a),
		"unpadded":  base64.RawStdEncoding.EncodeToString(a),
		"url":       base64.URLEncoding.EncodeToString(a),
		"two":       hex.EncodeToString(a) + ", " + base64.StdEncoding.EncodeToString(b),
	} {
		k, err := signing.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := k.Signature("use", nil), ring(t, a).Signature("use", nil); got != want {
			t.Errorf("%s: another key", name)
		}
	}
	secret := hex.EncodeToString(a)
	for name, text := range map[string]string{
		"none":      "",
		"short":     secret[:60],
		"not text":  secret[:63] + "!",
		"the same":  secret + "," + secret,
		"three":     secret + "," + hex.EncodeToString(b) + "," + hex.EncodeToString(key(3)),
		"a comma":   secret + ",",
		"only text": strings.Repeat("ä", 40),
	} {
		k, err := signing.Parse(text)
		if err == nil {
			t.Errorf("%s: %v", name, k)
			continue
		}
		if strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: error shows the key: %v", name, err)
		}
	}
}

func TestPrintedKeyringShowsNoKey(t *testing.T) {
	t.Parallel()
	k := ring(t, []byte("a key that is made of plain text!"))
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k)} {
		if strings.Contains(s, "plain") || strings.Contains(s, "97") {
			t.Errorf("%q", s)
		}
	}
}

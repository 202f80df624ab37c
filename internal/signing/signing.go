// Package signing makes and checks texts that only this service can have made:
// tokens that carry their own payload, and signatures of a payload that travels
// beside them. Both bind a purpose, so that what was made for one use is refused
// in every other, and both survive the change from one key to the next.
//
// What it makes is authentic, not secret: whoever holds a token can read it.
package signing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// MinKeyBytes is the shortest key: as long as what HMAC-SHA-256 makes of it.
	MinKeyBytes = sha256.Size

	// MaxKeys is the most keys at a time: the one that signs, and the one that
	// signed before.
	MaxKeys = 2

	// domain keeps these signatures apart from those of anything else that might
	// be given the same key.
	domain = "pendinguploads signing v1"

	separator = "."
)

// ErrInvalid: the text was not made for this purpose with any of the keys.
var ErrInvalid = errors.New("signature is not valid")

var encoding = base64.RawURLEncoding.Strict()

// Keyring signs with its first key and accepts what any of its keys signed.
// It is safe for concurrent use.
type Keyring struct {
	keys [][]byte
}

// New makes a keyring of one to MaxKeys different keys, each of at least
// MinKeyBytes bytes. Its errors name a key by its position, never by its bytes.
func New(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("%d signing keys, want 1 to %d", len(keys), MaxKeys)
	}
	ring := &Keyring{}
	for i, key := range keys {
		if len(key) < MinKeyBytes {
			return nil, fmt.Errorf("signing key %d has %d bytes, want at least %d", i+1, len(key), MinKeyBytes)
		}
		for j, other := range ring.keys {
			if hmac.Equal(key, other) {
				return nil, fmt.Errorf("signing keys %d and %d are the same", j+1, i+1)
			}
		}
		ring.keys = append(ring.keys, append([]byte(nil), key...))
	}
	return ring, nil
}

// Random makes a keyring of one fresh key, which ends with the process: nothing
// that it signs is good at another replica or after a restart.
func Random() *Keyring {
	key := make([]byte, MinKeyBytes)
	_, _ = rand.Read(key) // it fills the slice or ends the program
	return &Keyring{keys: [][]byte{key}}
}

// Parse makes a keyring of keys as configuration holds them: hex or base64 (with
// or without padding, of either alphabet), separated by commas.
func Parse(text string) (*Keyring, error) {
	var keys [][]byte
	for i, s := range strings.Split(text, ",") {
		key, ok := decodeKey(strings.TrimSpace(s))
		if !ok {
			return nil, fmt.Errorf("signing key %d is neither hex nor base64", i+1)
		}
		keys = append(keys, key)
	}
	return New(keys...)
}

// decodeKey prefers hex, which is base64 as well: a key's owner who wrote only
// hex digits meant hex.
func decodeKey(s string) ([]byte, bool) {
	if key, err := hex.DecodeString(s); err == nil {
		return key, true
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	key, err := base64.RawStdEncoding.DecodeString(s)
	return key, err == nil
}

// Sign makes a token of the payload, in characters that need no escaping in a
// URL, a header or JSON. The purpose is the use that it is good for, a constant
// of the caller's.
func (k *Keyring) Sign(purpose string, payload []byte) string {
	return encoding.EncodeToString(payload) + separator + k.Signature(purpose, payload)
}

// Verify returns the payload of a token that Sign made for the purpose, or
// ErrInvalid. A payload that should end with time has to say so itself.
func (k *Keyring) Verify(purpose, token string) ([]byte, error) {
	body, signature, ok := strings.Cut(token, separator)
	if !ok {
		return nil, ErrInvalid
	}
	payload, err := encoding.DecodeString(body)
	if err != nil {
		return nil, ErrInvalid
	}
	if err := k.Check(purpose, payload, signature); err != nil {
		return nil, err
	}
	return payload, nil
}

// Signature signs a payload that the checking side has anyway, such as the parts
// of a URL in a fixed order. Its characters need no escaping in a URL.
func (k *Keyring) Signature(purpose string, payload []byte) string {
	return encoding.EncodeToString(sum(k.keys[0], purpose, payload))
}

// Check compares a signature with what Signature makes of the payload, in time
// that does not depend on where they differ. It returns ErrInvalid.
func (k *Keyring) Check(purpose string, payload []byte, signature string) error {
	given, err := encoding.DecodeString(signature)
	if err != nil {
		return ErrInvalid
	}
	for _, key := range k.keys {
		if hmac.Equal(given, sum(key, purpose, payload)) {
			return nil
		}
	}
	return ErrInvalid
}

// sum puts a length in front of the purpose, so that no two pairs of purpose and
// payload are the same bytes.
func sum(key []byte, purpose string, payload []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(domain))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(purpose))))
	mac.Write([]byte(purpose))
	mac.Write(payload)
	return mac.Sum(nil)
}

// String hides the keys.
func (k *Keyring) String() string { return fmt.Sprintf("keyring of %d", len(k.keys)) }

// GoString is String, for %#v.
func (k *Keyring) GoString() string { return k.String() }

package s3blob

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Encryption is how the store encrypts objects at rest.
type Encryption string

const (
	// EncryptionDefault leaves it to the bucket.
	EncryptionDefault Encryption = ""

	// EncryptionAES256 uses keys of the store's own.
	EncryptionAES256 Encryption = "AES256"

	// EncryptionKMS uses a key of the store's key service.
	EncryptionKMS Encryption = "aws:kms"
)

// Bounds of S3 for the tags of one object.
const (
	maxTags          = 10
	maxTagKeyChars   = 128
	maxTagValueChars = 256
)

// protection is what every object is written with besides its content, whichever
// way it is written.
type protection struct {
	encryption types.ServerSideEncryption
	kmsKeyID   *string
	tagging    *string
	tags       map[string]string
}

func (c Config) protection() protection {
	return protection{
		encryption: types.ServerSideEncryption(c.Encryption),
		kmsKeyID:   optional(c.KMSKeyID),
		tagging:    optional(encodeTags(c.Tags)),
		tags:       c.Tags,
	}
}

func (p protection) onPut(in *s3.PutObjectInput) {
	in.ServerSideEncryption, in.SSEKMSKeyId, in.Tagging = p.encryption, p.kmsKeyID, p.tagging
}

func (p protection) onCreate(in *s3.CreateMultipartUploadInput) {
	in.ServerSideEncryption, in.SSEKMSKeyId, in.Tagging = p.encryption, p.kmsKeyID, p.tagging
}

// ProtectPut has a put ask for the encryption and the tags of every object of the
// Store.
func (s *Store) ProtectPut(in *s3.PutObjectInput) { s.protection.onPut(in) }

// ProtectCreate does the same for a multipart upload.
func (s *Store) ProtectCreate(in *s3.CreateMultipartUploadInput) { s.protection.onCreate(in) }

func (c Config) checkProtection() error {
	switch c.Encryption {
	case EncryptionDefault, EncryptionAES256, EncryptionKMS:
	default:
		return fmt.Errorf("s3: encryption %q, want %q, %q or none", c.Encryption, EncryptionAES256, EncryptionKMS)
	}
	switch {
	case c.KMSKeyID != "" && c.Encryption != EncryptionKMS:
		return fmt.Errorf("s3: key id of encryption %q, only %q has one", c.Encryption, EncryptionKMS)
	case strings.ContainsFunc(c.KMSKeyID, unprintable):
		return errors.New("s3: key id of encryption has a blank or a control character")
	case len(c.Tags) > maxTags:
		return fmt.Errorf("s3: %d tags, an object takes %d", len(c.Tags), maxTags)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		v := c.Tags[k]
		switch {
		case k == "" || len(k) > maxTagKeyChars || strings.HasPrefix(k, "aws:") || !tagText(k):
			return fmt.Errorf("s3: tag %q, want 1 to %d ASCII letters, digits, blanks and + - = . _ : / @, and not aws: in front", k, maxTagKeyChars)
		case len(v) > maxTagValueChars || !tagText(v):
			return fmt.Errorf("s3: tag %s=%q, want up to %d ASCII letters, digits, blanks and + - = . _ : / @", k, v, maxTagValueChars)
		}
	}
	return nil
}

// tagText is what every store takes: S3 has letters of all scripts, MinIO those
// of ASCII.
func tagText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune(" +-=._:/@", r)
	})
}

func unprintable(r rune) bool { return r <= ' ' || r == 0x7f }

// encodeTags is the form that the header takes. Blanks are percent-encoded,
// because not every store reads a plus as one.
func encodeTags(tags map[string]string) string {
	pairs := make([]string, 0, len(tags))
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		pairs = append(pairs, escapeTag(k)+"="+escapeTag(tags[k]))
	}
	return strings.Join(pairs, "&")
}

func escapeTag(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

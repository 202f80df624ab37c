package s3blob_test

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

func TestDeliveryConfigIsChecked(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 11 {
		many[strconv.Itoa(i)] = ""
	}
	buffers := pool(t, blob.PoolConfig{})
	for want, change := range map[string]func(*s3blob.Config){
		`region "eu central"`:                func(c *s3blob.Config) { c.Region = "eu central" },
		`region "a/b"`:                       func(c *s3blob.Config) { c.Region = "a/b" },
		`endpoint "s3.example:9000"`:         func(c *s3blob.Config) { c.Endpoint = "s3.example:9000" },
		`endpoint "ftp://s3.example"`:        func(c *s3blob.Config) { c.Endpoint = "ftp://s3.example" },
		`endpoint "https:///bucket"`:         func(c *s3blob.Config) { c.Endpoint = "https:///bucket" },
		`public endpoint "cdn.example"`:      func(c *s3blob.Config) { c.PublicEndpoint = "cdn.example" },
		`public endpoint "https://a/?b=c"`:   func(c *s3blob.Config) { c.PublicEndpoint = "https://a/?b=c" },
		`endpoint "http://u:xxxxx@s3"`:       func(c *s3blob.Config) { c.Endpoint = "http://u:secret@s3" },
		"endpoint is no URL":                 func(c *s3blob.Config) { c.Endpoint = "http://[u:secret" },
		`encryption "aes"`:                   func(c *s3blob.Config) { c.Encryption = "aes" },
		`key id of encryption "AES256"`:      func(c *s3blob.Config) { c.Encryption, c.KMSKeyID = s3blob.EncryptionAES256, "key" },
		`key id of encryption ""`:            func(c *s3blob.Config) { c.KMSKeyID = "key" },
		"key id of encryption has a blank":   func(c *s3blob.Config) { c.Encryption, c.KMSKeyID = s3blob.EncryptionKMS, "a\nb" },
		"11 tags":                            func(c *s3blob.Config) { c.Tags = many },
		`tag ""`:                             func(c *s3blob.Config) { c.Tags = map[string]string{"": "v"} },
		`tag "aws:x"`:                        func(c *s3blob.Config) { c.Tags = map[string]string{"aws:x": "v"} },
		`tag "Größe"`:                        func(c *s3blob.Config) { c.Tags = map[string]string{"Größe": "v"} },
		`tag "a&b"`:                          func(c *s3blob.Config) { c.Tags = map[string]string{"a&b": "v"} },
		`tag k="` + strings.Repeat("v", 257): func(c *s3blob.Config) { c.Tags = map[string]string{"k": strings.Repeat("v", 257)} },
		`tag k="\x00"`:                       func(c *s3blob.Config) { c.Tags = map[string]string{"k": "\x00"} },
	} {
		cfg := s3blob.Config{Bucket: "b", Pool: buffers}
		change(&cfg)
		_, err := s3blob.New(cfg, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	right := s3blob.Config{
		Bucket: "b", Pool: buffers, Region: "RegionOne", Endpoint: "http://[::1]:9000/below", PublicEndpoint: "https://s3.example",
		Encryption: s3blob.EncryptionKMS, Tags: maps.Clone(many),
	}
	delete(right.Tags, "0")
	if _, err := s3blob.New(right, nil); err != nil {
		t.Error(err)
	}
}

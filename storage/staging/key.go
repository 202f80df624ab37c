package staging

import (
	"fmt"
	"strings"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// maxPrefixBytes leaves room for two UUIDs and two slashes in S3's 1,024 bytes
// of key.
const maxPrefixBytes = 1024 - 2*37

// keyspace shapes and recognises the keys of one prefix. Its text is empty or
// ends in a slash.
type keyspace string

func newKeyspace(prefix string) (keyspace, error) {
	if prefix == "" {
		return "", nil
	}
	if strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") {
		return "", fmt.Errorf("S3_PREFIX %q begins or ends with a slash", prefix)
	}
	if len(prefix) > maxPrefixBytes {
		return "", fmt.Errorf("S3_PREFIX has %d bytes, limit %d", len(prefix), maxPrefixBytes)
	}
	return keyspace(prefix + "/"), nil
}

// Keys returns what makes the keys of the objects below a prefix, for those who
// move content there. The error names the setting.
func Keys(prefix string) (func(storage.WorkspaceID, storage.FileID) string, error) {
	k, err := newKeyspace(prefix)
	return k.key, err
}

func (k keyspace) key(ws storage.WorkspaceID, f storage.FileID) string {
	return string(k) + ws.String() + "/" + f.String()
}

// parse recognises exactly the keys that key makes, so that nothing else in a
// shared bucket is ever taken for ours.
func (k keyspace) parse(key string) (metadata.UploadID, bool) {
	rest, ok := strings.CutPrefix(key, string(k))
	if !ok {
		return metadata.UploadID{}, false
	}
	first, second, ok := strings.Cut(rest, "/")
	if !ok {
		return metadata.UploadID{}, false
	}
	ws, err := storage.ParseWorkspaceID(first)
	if err != nil {
		return metadata.UploadID{}, false
	}
	f, err := storage.ParseFileID(second)
	if err != nil || k.key(ws, f) != key {
		return metadata.UploadID{}, false
	}
	return metadata.UploadID{Workspace: ws, File: f}, true
}

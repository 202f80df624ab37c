package client_test

import (
	"encoding/json"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

func manifestFile(t *testing.T, a wire.Activity) storage.FileID {
	t.Helper()
	var m wire.UploadManifest
	if err := json.Unmarshal(a.RequestBody, &m); err != nil {
		t.Fatal(err)
	}
	f, err := storage.ParseFileID(m.FileID)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

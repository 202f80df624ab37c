package handlers_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// directParts is the reply to a reservation as far as it is about parts.
type directParts struct {
	Files []struct {
		FileID  string            `json:"file_id"`
		Method  *string           `json:"method"`
		URL     *string           `json:"url"`
		Headers map[string]string `json:"headers"`
		Parts   []struct {
			Number  int               `json:"number"`
			Size    int64             `json:"size"`
			Method  string            `json:"method"`
			URL     string            `json:"url"`
			Headers map[string]string `json:"headers"`
		} `json:"parts"`
	} `json:"files"`
	CommitToken string `json:"commit_token"`
}

// askedParts asks for a file of that many bytes in parts, whose digests are made
// up: nothing of it is sent.
func askedParts(size int64, partSize int) askedFile {
	f := askedFile{"name": "large.bin", "size": size, "sha256": strings.Repeat("ab", 32)}
	step := int64(partSize)
	if partSize > 0 {
		f["part_size"] = partSize
	} else {
		step = storage.DirectPartBytes
	}
	var sums []string
	for offset := int64(0); offset < size; offset += step {
		sums = append(sums, fmt.Sprintf("%064x", offset+1))
	}
	f["part_sha256"] = sums
	return f
}

func TestDirectReservationsInParts(t *testing.T) {
	t.Parallel()
	limits := storage.Limits{MaxFileBytes: storage.MaxFileBytesCeiling, MaxRequestBytes: 2 * storage.MaxFileBytesCeiling}
	w := newServerWith(t, setup{limits: limits}, withDirect(directKey))
	ws, token := w.workspace("poll")
	reserve := func(files ...askedFile) (r directParts) {
		t.Helper()
		got := w.postJSON(directPath(ws), token, map[string]any{"files": files})
		if got.status != http.StatusOK {
			t.Fatalf("reserve: %d %s", got.status, got.body)
		}
		got.json(t, &r)
		return r
	}
	const from = storage.DirectPartsFrom
	unasked := askedParts(from+1, 0)
	delete(unasked, "part_sha256")
	inBase64 := askedParts(from+1, 0)
	inBase64["part_sha256"] = []string{}
	var sums []string
	for i := range 5 {
		sums = append(sums, base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("%032d", i))))
	}
	inBase64["part_sha256"] = sums
	r := reserve(askedParts(from, 0), askedParts(from+1, 0), askedParts(100<<20, 5<<20), unasked, inBase64)
	for i, want := range [][]int64{nil, {16 << 20, 16 << 20, 16 << 20, 16 << 20, 1}, nil, nil, {16 << 20, 16 << 20, 16 << 20, 16 << 20, 1}} {
		f := r.Files[i]
		if i == 2 {
			for range 20 {
				want = append(want, 5<<20)
			}
		}
		var sizes []int64
		for j, p := range f.Parts {
			sizes = append(sizes, p.Size)
			if p.Number != j+1 || p.Method != "PUT" || p.Headers["Content-Length"] != fmt.Sprint(p.Size) || p.Headers["X-Amz-Checksum-Sha256"] == "" ||
				!strings.Contains(p.URL, fmt.Sprintf("partNumber=%d&", j+1)) || !strings.Contains(p.URL, f.FileID) {
				t.Errorf("file %d, part %d: %+v", i, j, p)
			}
		}
		if diff := cmp.Diff(want, sizes); diff != "" {
			t.Errorf("file %d (-want +got): %s", i, diff)
		}
		if whole := f.URL != nil && f.Method != nil && f.Headers != nil; whole != (want == nil) {
			t.Errorf("file %d: one request: %t", i, whole)
		}
	}
	got := w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": r.CommitToken})
	got.want(t, 409, "file not uploaded")
	// The upload, the parts and their digests are in the token.
	short := resign(t, r.CommitToken, directKey, func(r map[string]any) {
		r["f"].([]any)[1].(map[string]any)["p"].(map[string]any)["h"].([]any)[0] = "AAAA"
	})
	w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": short}).want(t, 400, "invalid commit_token")
	for _, secret := range []string{"X-Amz-Signature", "uploadId=", r.CommitToken} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}

	with := func(key string, value any) askedFile {
		f := askedParts(from+1, 0)
		f[key] = value
		return f
	}
	for name, f := range map[string]askedFile{
		"small parts":     with("part_size", 5<<20-1),
		"negative":        with("part_size", -1),
		"too few":         with("part_sha256", []string{strings.Repeat("a", 64)}),
		"too many":        with("size", from),
		"no digest":       with("part_sha256", []string{"", "", "", "", ""}),
		"of another size": with("part_size", 32<<20),
		"of a small file": with("size", 5),
	} {
		t.Run(name, func(t *testing.T) {
			got := w.postJSON(directPath(ws), token, map[string]any{"files": []askedFile{f}})
			got.want(t, 400, "part_sha256 must be the SHA-256 of each part of part_size bytes, 5242880 or more")
			if !strings.Contains(got.body, `"filename":"large.bin"`) {
				t.Errorf("%s does not name the file", got.body)
			}
		})
	}
}

// The largest reservation of parts, whose token comes back in a body, and one more
// within the minute, which is not refused.
func TestDirectReservationsInPartsAreBounded(t *testing.T) {
	t.Parallel()
	limits := storage.Limits{MaxFileBytes: storage.MaxFileBytesCeiling, MaxRequestBytes: 2 * storage.MaxFileBytesCeiling}
	w := newServerWith(t, setup{limits: limits}, withDirect(directKey))
	ws, token := w.workspace("poll")
	reserve := func(ws storage.WorkspaceID, token string, n int) (inParts int, r directParts) {
		t.Helper()
		files := make([]askedFile, n)
		for i := range files {
			files[i] = askedParts(100<<20, 5<<20)
		}
		got := w.postJSON(directPath(ws), token, map[string]any{"files": files})
		if got.status != http.StatusOK {
			t.Fatalf("%d files: %d %s", n, got.status, got.body)
		}
		got.json(t, &r)
		for i, f := range r.Files {
			if (f.URL != nil) == (len(f.Parts) > 0) {
				t.Errorf("file %d: one request: %t, %d parts", i, f.URL != nil, len(f.Parts))
			}
			if len(f.Parts) > 0 {
				inParts++
			}
		}
		return inParts, r
	}
	const most = storage.MaxFilesPerBatch
	inParts, r := reserve(ws, token, most)
	if inParts != most {
		t.Errorf("%d files in parts, want %d", inParts, most)
	}
	if got := w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": r.CommitToken}); got.status != http.StatusConflict {
		t.Errorf("64 files of 20 parts: commit: %d %s", got.status, got.body)
	}
	// It takes a minute until there is room for all of them again.
	if inParts, _ = reserve(ws, token, most); inParts == most {
		t.Error("as many again at once in parts")
	}
	other, itsToken := w.workspace("poll")
	if inParts, _ = reserve(other, itsToken, 2); inParts != 2 {
		t.Errorf("another workspace: %d files in parts, want 2", inParts)
	}
}

// A reservation that the quota refuses begins no upload.
func TestDirectReservationOverQuotaBeginsNoParts(t *testing.T) {
	t.Parallel()
	below := setup{
		rows:   metadata.UploadsConfig{Quota: storage.Quota{Bytes: storage.DirectPartsFrom}},
		limits: storage.Limits{MaxFileBytes: storage.MaxFileBytesCeiling, MaxRequestBytes: 2 * storage.MaxFileBytesCeiling},
	}
	w := newServerWith(t, below, withDirect(""), func(cfg *handlers.Config) { cfg.Quota = cfg.Uploads.(*metadata.Uploads) })
	ws, token := w.workspace("poll")
	got := w.postJSON(directPath(ws), token, map[string]any{"files": []askedFile{askedParts(storage.DirectPartsFrom+1, 0)}})
	got.want(t, http.StatusRequestEntityTooLarge, "workspace quota exceeded")
	for u, err := range w.objects.ListUnfinished(t.Context(), "") {
		t.Errorf("an upload was begun: %s, %v", u.Key, err)
	}
}

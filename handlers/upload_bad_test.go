package handlers_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// rawForm is a body with boundary "b", written by hand; lines end in CRLF.
func rawForm(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--b\r\n" + strings.ReplaceAll(p, "\n", "\r\n") + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

const rawType = "multipart/form-data; boundary=b"

func filePart(disposition string) string {
	return "Content-Disposition: " + disposition + "\nContent-Type: text/plain\n\nx"
}

func TestUploadRefusesBadInputAndLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	good := filePart(`form-data; name="files"; filename="good.txt"`)
	many := func(n int) string {
		var parts []string
		for i := range n {
			parts = append(parts, filePart(fmt.Sprintf(`form-data; name="files"; filename="%d.txt"`, i)))
		}
		return rawForm(parts...)
	}
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		text                    string
	}{
		{"no content type", "", "x", 400, "malformed multipart body"},
		{"JSON instead of a form", "application/json", `{"files":[]}`, 400, "malformed multipart body"},
		{"another multipart type", "multipart/mixed; boundary=b", rawForm(good), 400, "malformed multipart body"},
		{"no boundary", "multipart/form-data", rawForm(good), 400, "malformed multipart body"},
		{"another boundary", "multipart/form-data; boundary=other", rawForm(good), 400, "malformed multipart body"},
		{"empty body", rawType, "", 400, "malformed multipart body"},
		{"no parts", rawType, "--b--\r\n", 400, "no files field in request"},
		{"cut off in a header", rawType, "--b\r\nContent-Dispo", 400, "malformed multipart body"},
		{"cut off in a file", rawType, strings.TrimSuffix(rawForm(good, good), "\r\n--b--\r\n"), 400, "malformed multipart body"},
		{"cut off before the last boundary's end", rawType, strings.TrimSuffix(rawForm(good), "--\r\n"), 400, "malformed multipart body"},
		{"other fields alone", rawType, rawForm("Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\n\nx"), 400, "no files field in request"},
		{"empty file input of a browser", rawType, rawForm("Content-Disposition: form-data; name=\"files\"; filename=\"\"\nContent-Type: application/octet-stream\n\n"), 400, "no files field in request"},
		{"bytes without a file name", rawType, rawForm(good, "Content-Disposition: form-data; name=\"files\"\n\nx"), 400, "malformed part header"},
		{"unquoted name with a blank", rawType, rawForm(good, filePart(`form-data; name="files"; filename=a b.txt`)), 400, "malformed part header"},
		{"name ending in a backslash", rawType, rawForm(good, filePart(`form-data; name="files"; filename="a\"`)), 400, "malformed part header"},
		{"file name given twice", rawType, rawForm(good, filePart(`form-data; name="files"; filename="a"; filename="b"`)), 400, "malformed part header"},
		{"no disposition", rawType, rawForm("Content-Type: text/plain\n\nx", good), 400, "malformed part header"},
		{"file as an attachment", rawType, rawForm(filePart(`attachment; name="files"; filename="a"`)), 400, "malformed part header"},
		{"NUL in a header", rawType, rawForm(filePart("form-data; name=\"files\"; filename=\"a\x00b\"")), 400, "malformed multipart body"},
		{"DEL in a header", rawType, rawForm(filePart("form-data; name=\"files\"; filename=\"a\x7fb\"")), 400, "malformed multipart body"},
		{"huge part header", rawType, rawForm(filePart(`form-data; name="files"; filename="` + strings.Repeat("a", 200_000) + `"`)), 400, "malformed multipart body"},
		{"huge preamble", rawType, strings.Repeat("x", 200_000) + "\r\n" + rawForm(good), 400, "malformed multipart body"},
		{"65 files", rawType, many(65), 400, "too many files (limit 64)"},
		{"1001 fields", rawType, rawForm(append([]string{good}, slicesOf("Content-Disposition: form-data; name=\"n\"\n\nx", 1000)...)...), 400, "malformed multipart body"},
		{"an empty file", rawType, rawForm(good, "Content-Disposition: form-data; name=\"files\"; filename=\"nothing here.txt\"\n\n"), 400, "file is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var headers []string
			if tc.contentType != "" {
				headers = []string{"Content-Type", tc.contentType}
			}
			got := w.do("POST", uploadPath(ws), token, strings.NewReader(tc.body), headers...)
			got.want(t, tc.status, tc.text)
			if tc.text == "file is empty" && !strings.Contains(got.body, `"filename":"nothing here.txt"`) {
				t.Errorf("the file is not named: %s", got.body)
			}
		})
	}
	w.wantNothingStaged()
	if len(w.log.lines("upload not parseable")) == 0 {
		t.Error("bodies that cannot be parsed are not on record")
	}
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestUploadTakes64FilesInOrder(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	var parts []part
	for i := range 64 {
		parts = append(parts, part{name: fmt.Sprintf("%d.txt", i), content: fmt.Sprint(i)})
	}
	for i, f := range w.mustUpload(ws, token, parts...) {
		if f.Name != fmt.Sprintf("%d.txt", i) {
			t.Fatalf("file %d of the reply is %q", i, f.Name)
		}
	}
	rows := w.feed(ws, token, "?limit=500")
	for i, row := range rows { // newest first
		if want := fmt.Sprintf("chat_upload_receive: %d.txt", 63-i); row["summary"] != want {
			t.Fatalf("feed row %d is %v, want %s", i, row["summary"], want)
		}
	}
	if len(rows) != 64 {
		t.Errorf("%d feed rows", len(rows))
	}
}

func TestNamesAndTypesCannotInjectHeaders(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	for _, tc := range []struct{ disposition, mimeType, name, storedType, servedType string }{
		{`form-data; name="files"; filename="../../etc/passwd"`, "text/html; charset=utf-8", "passwd", "text/html", "text/html"},
		{`form-data; name="files"; filename="a/"`, "", "a", "", "application/octet-stream"},
		{`form-data; name="files"; filename="` + strings.Repeat("n", 5000) + `.txt"`, "x", strings.Repeat("n", 96) + ".txt", "application/octet-stream", "application/octet-stream"},
		{`form-data; name="files"; filename*=UTF-8''a%0D%0AX-Leak%3A%201.txt`, "text/pl ain", "a__X-Leak__1.txt", "application/octet-stream", "application/octet-stream"},
		{`form-data; name="files"; filename="C:\\Users\\x\\doc.txt"`, "; charset=x", "C__Users_x_doc.txt", "", "application/octet-stream"},
		{`form-data; name="files"; filename="q\"uote.txt"`, "a/b/c", "q_uote.txt", "application/octet-stream", "application/octet-stream"},
		{`form-data; name="files"; filename=".."`, "Image/PNG", "file", "Image/PNG", "Image/PNG"},
		{`form-data; name="files"; filename="ünï.txt"`, "text/plaïn", "_n_.txt", "application/octet-stream", "application/octet-stream"},
	} {
		f := w.mustUpload(ws, token, part{disposition: tc.disposition, mimeType: tc.mimeType, content: "x"})[0]
		if f.Name != tc.name || *f.MIMEType != tc.storedType {
			t.Errorf("%s: staged as %q %q, want %q %q", tc.disposition, f.Name, *f.MIMEType, tc.name, tc.storedType)
		}
		got := w.do("GET", f.path("content"), token, nil)
		wantDisposition := `attachment; filename="` + tc.name + `"; filename*=UTF-8''` + tc.name
		if got.status != 200 || got.header.Get("Content-Type") != tc.servedType || got.header.Get("Content-Disposition") != wantDisposition || got.header.Get("X-Leak") != "" {
			t.Errorf("%s: served with %v", tc.disposition, got.header)
		}
	}
}

func TestContentHeadersAreSafeForRowsOfOtherSoftware(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "x"})[0]
	w.exec(`UPDATE pending_uploads SET filename = $1, mimetype = $2`, "a\r\nX-Leak: 1\t\"q\\é.txt", "text/html\r\nX-Leak: 1")
	got := w.do("GET", f.path("content"), token, nil)
	want := `attachment; filename="aX-Leak: 1\"q\\é.txt"; filename*=UTF-8''a%0D%0AX-Leak%3A%201%09%22q%5C%C3%A9.txt`
	if got.status != http.StatusOK || got.header.Get("X-Leak") != "" || got.header.Get("Content-Disposition") != want {
		t.Errorf("disposition is\n%s, want\n%s", got.header.Get("Content-Disposition"), want)
	}
	if ct := got.header.Get("Content-Type"); ct != "application/octet-stream" {
		t.Errorf("Content-Type is %q", ct)
	}
	w.exec(`UPDATE pending_uploads SET mimetype = 'text/plain; charset=utf-8'`)
	if ct := w.do("GET", f.path("content"), token, nil).header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("a sound stored type is served as %q", ct)
	}
}

func TestUploadToARemovedWorkspaceIs404(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.exec(`UPDATE workspaces SET status = 'removed', removed_at = now() WHERE id = $1`, ws.String())
	body, contentType := multipartBody(t, part{name: "a", content: "x"})
	w.do("POST", uploadPath(ws), token, bytes.NewReader(body), "Content-Type", contentType).want(t, 401, "invalid workspace auth token")
	w.do("POST", uploadPath(ws), adminToken, bytes.NewReader(body), "Content-Type", contentType).want(t, 404, "workspace not found")
	w.wantNothingStaged()
}

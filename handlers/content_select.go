package handlers

import (
	"net/http"
	"strings"

	"github.com/molecule-ai/pendinguploads/storage"
)

// selection is what a request gets of content that is there and the caller's.
type selection struct {
	status int           // 200 and 206 send the span; 304, 412 and 416 send none of it
	span   storage.Range // resolved

	// completes says that who takes the span has the whole content, in this one piece
	// or as the rest of a transfer that goes on (bytes=N-). A look at the end, such as
	// bytes=-1, is no fetch.
	completes bool
}

// sends reports whether bytes of the content are wanted at all.
func (sel selection) sends(r *http.Request) bool {
	return r.Method != http.MethodHead && (sel.status == http.StatusOK || sel.status == http.StatusPartialContent)
}

// selectContent evaluates preconditions and range in the order of RFC 9110,
// 13.2.2. A request without any gets everything with 200: released pollers take
// each other status below 400 for a file (contract 2.6). If-Modified-Since and
// If-Unmodified-Since do not count, as content has no modification date.
func selectContent(r *http.Request, content storage.Content) selection {
	etag := entityTag(content)
	whole := selection{status: http.StatusOK, span: storage.Range{Length: content.Size}, completes: true}
	if match := strings.Join(r.Header.Values("If-Match"), ","); match != "" && !tagListed(match, etag, false) {
		return selection{status: http.StatusPreconditionFailed}
	}
	if tagListed(strings.Join(r.Header.Values("If-None-Match"), ","), etag, true) {
		return selection{status: http.StatusNotModified}
	}
	if r.Method != http.MethodGet || !ifRangeHolds(r.Header.Values("If-Range"), etag) {
		return whole
	}
	span, kind := parseRange(r.Header.Values("Range"), content.Size)
	switch kind {
	case rangeSatisfiable, rangeRest:
		return selection{http.StatusPartialContent, span, kind == rangeRest || span.Length == content.Size}
	case rangeUnsatisfiable:
		return selection{status: http.StatusRequestedRangeNotSatisfiable}
	}
	return whole
}

// entityTag is the strong tag of the content, empty where its digest is unknown.
func entityTag(content storage.Content) string {
	if content.SHA256.IsZero() {
		return ""
	}
	return `"` + content.SHA256.String() + `"`
}

// tagListed reports whether a list of entity tags names the content: by its tag,
// in the weak comparison also as W/"…", or as *, which stands for any content.
// What follows a malformed element does not count.
func tagListed(list, etag string, weak bool) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		rest, isWeak := strings.CutPrefix(list, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return false
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return false
		}
		tag := rest[:end+2]
		if tag == etag && (weak || !isWeak) {
			return true
		}
		list = rest[len(tag):]
	}
}

// ifRangeHolds reports whether a Range header counts: there is no If-Range, or it
// is the content's own strong tag. A date or a weak tag never is.
func ifRangeHolds(values []string, etag string) bool {
	switch len(values) {
	case 0:
		return true
	case 1:
		return etag != "" && strings.Trim(values[0], " \t") == etag
	}
	return false
}

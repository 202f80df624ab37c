package handlers_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/storage"
)

// signingKey is a key as configuration holds it.
func signingKey(c byte) string { return hex.EncodeToString([]byte(strings.Repeat(string(c), 32))) }

func signedWith(keys string) func(*handlers.Config) {
	return func(cfg *handlers.Config) { cfg.SigningKeys = keys }
}

func TestSignedURLIsServedLikeContent(t *testing.T) {
	t.Parallel()
	w := newServer(t, inRows(t))
	ws, token := w.workspace("poll")
	content := pattern(200 << 10)
	f := w.mustUpload(ws, token, part{name: "é.txt", mimeType: "text/plain", content: content})[0]
	u := w.contentURL(f, token)
	if !strings.HasPrefix(u.URL, w.url+"/signed-content/"+ws.String()+"/") {
		t.Fatalf("the URL is %s", u.URL)
	}
	for _, headers := range [][]string{
		nil, {"Range", "bytes=5-9"}, {"Range", "bytes=999999-"}, {"If-None-Match", etagOf(content)}, {"If-Match", `"x"`},
		{"Range", "bytes=5-9", "If-Range", `"x"`},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			want, got := w.do(method, f.path("content"), token, nil, headers...), w.open(method, u, headers...)
			want.header.Del("Date")
			got.header.Del("Date")
			if got.status != want.status || got.body != want.body || fmt.Sprint(got.header) != fmt.Sprint(want.header) {
				t.Errorf("%s with %v: %d %v, want %d %v", method, headers, got.status, got.header, want.status, want.header)
			}
		}
	}
	// The whole body and the whole body for another If-Range; ranges end before
	// the end.
	if n := w.deliveries()["signed"]; n != 2 {
		t.Errorf("%d signed deliveries counted, want 2", n)
	}
	if n := len(w.log.lines("fetched_at not stamped")); n != 0 || !w.fetched() {
		t.Errorf("%d stamps failed", n)
	}
	if got := w.do("POST", f.path("ack"), token, nil); got.status != http.StatusOK {
		t.Fatalf("ack: %d", got.status)
	}
	w.open("GET", u).want(t, 404, "pending upload not found, expired, or already acked")
}

func TestSignedURLCannotBeBent(t *testing.T) {
	t.Parallel()
	w := newServer(t, inRows(t))
	ws, token := w.workspace("poll")
	other, otherToken := w.workspace("poll")
	fs := w.mustUpload(ws, token, part{name: "a", content: "hello"}, part{name: "b", content: "other"})
	theirs := w.mustUpload(other, otherToken, part{name: "c", content: "theirs"})[0]
	u := w.contentURL(fs[0], token)
	ids := func(f staged) string { return strings.TrimPrefix(f.URI, "platform-pending:") }
	bend := func(change func(u *url.URL, q url.Values)) string {
		parsed := parseURL(t, u.URL)
		q := parsed.Query()
		change(parsed, q)
		parsed.RawQuery = q.Encode()
		return parsed.String()
	}
	const invalid = "invalid or missing signature of the URL"
	for name, bent := range map[string]string{
		"no signature":         bend(func(_ *url.URL, q url.Values) { q.Del("signature") }),
		"no end":               bend(func(_ *url.URL, q url.Values) { q.Del("expires") }),
		"no query":             bend(func(_ *url.URL, q url.Values) { clear(q) }),
		"an end that is later": bend(func(_ *url.URL, q url.Values) { q.Set("expires", q.Get("expires")+"0") }),
		"an end that is none":  bend(func(_ *url.URL, q url.Values) { q.Set("expires", "never") }),
		"an empty signature":   bend(func(_ *url.URL, q url.Values) { q.Set("signature", "") }),
		"half a signature":     bend(func(_ *url.URL, q url.Values) { q.Set("signature", q.Get("signature")[:20]) }),
		"another signature": bend(func(_ *url.URL, q url.Values) {
			s := []byte(q.Get("signature"))
			s[0] ^= 1
			q.Set("signature", string(s))
		}),
		"another file":          bend(func(u *url.URL, _ url.Values) { u.Path = "/signed-content/" + ids(fs[1]) }),
		"another's file":        bend(func(u *url.URL, _ url.Values) { u.Path = "/signed-content/" + ids(theirs) }),
		"another workspace":     bend(func(u *url.URL, _ url.Values) { u.Path = strings.Replace(u.Path, ws.String(), other.String(), 1) }),
		"their file under ours": bend(func(u *url.URL, _ url.Values) { u.Path = "/signed-content/" + ws.String() + ids(theirs)[36:] }),
	} {
		if got := w.open("GET", contentURL{URL: bent}); got.status != 403 || got.errorText(t) != invalid {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := w.open("GET", u, "Authorization", "Bearer garbage"); got.body != "hello" {
		t.Errorf("with a token that counts for nothing: %d %s", got.status, got.body)
	}
	f, err := storage.ParseFileID(ids(fs[0])[37:])
	if err != nil {
		t.Fatal(err)
	}
	for _, ago := range []time.Duration{0, time.Second, time.Hour} {
		w.do("GET", w.server.SignedRef(ws, f, time.Now().Add(-ago)), "", nil).want(t, 403, "the URL has expired")
	}
	w.open("POST", u).want(t, 405, "method not allowed")
}

// Keys change without a URL that stops working: the new one goes in front, and the
// old one goes when what it signed has ended.
func TestSigningKeysRotate(t *testing.T) {
	t.Parallel()
	old, both, fresh, strange := signingKey('a'), signingKey('b')+","+signingKey('a'), signingKey('b'), signingKey('c')
	w := newServer(t, inRows(t), signedWith(old))
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	replica := func(keys string) *world {
		second := *w
		cfg := handlers.Config{
			Storage: w.store, Workspaces: w.workspaces, Tokens: w.tokens, Activity: w.activity, RateLimit: -1, Logger: nil,
		}
		inRows := inRows(t)
		cfg.Uploads = w.uploads
		inRows(&cfg)
		cfg.SigningKeys = keys
		var err error
		if second.server, err = handlers.New(cfg); err != nil {
			t.Fatal(err)
		}
		second.serve()
		return &second
	}
	during, after, elsewhere, random := replica(both), replica(fresh), replica(strange), replica("")
	of := func(w, at *world) string {
		return strings.Replace(w.contentURL(f, token).URL, w.url, at.url, 1)
	}
	for name, tc := range map[string]struct {
		from, at *world
		want     int
	}{
		"before, at the same":            {w, w, 200},
		"before, at one that knows both": {w, during, 200},
		"during, at one that knows both": {during, during, 200},
		"during, at one of the new key":  {during, after, 200},
		"after, at one that knows both":  {after, during, 200},
		"before, at one of the new key":  {w, after, 403},
		"during, at one of the old key":  {during, w, 403},
		"before, at one of another key":  {w, elsewhere, 403},
		"a random key, at another":       {random, w, 403},
		"a random key, at the same":      {random, random, 200},
	} {
		if got := w.open("GET", contentURL{URL: of(tc.from, tc.at)}); got.status != tc.want {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, tc.want)
		}
	}
}

func TestNoTokenReachesTheObjectStore(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		host       string // of presigned URLs
		redirected bool
	}{
		"another host":                   {"", true},
		"the service's host, other port": {"127.0.0.1", false}, // net/http's client would send the token along
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var below setup
			rec := record(t, &below, tc.host)
			w := newServerWith(t, below, redirecting(true))
			follower := rec.follow(w)
			ws, token := w.workspace("poll")
			content := pattern(6 << 20)
			f := w.mustUpload(ws, token, part{name: "a.txt", mimeType: "text/plain", content: content})[0]
			for _, query := range []string{"", "?delivery=redirect", "?delivery=proxy"} {
				if got := follower.do("GET", f.path("content")+query, token, nil); got.status != 200 || got.body != content {
					t.Errorf("%q: %d, %d bytes", query, got.status, len(got.body))
				}
			}
			if got := follower.do("GET", f.path("content"), token, nil, "Range", "bytes=7-16"); got.status != 206 || got.body != content[7:17] {
				t.Errorf("a range: %d, %d bytes", got.status, len(got.body))
			}
			want := map[string]int{"proxy": 3}
			if tc.redirected {
				want = map[string]int{"proxy": 1, "redirect": 3}
			}
			if got := w.deliveries(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("delivered %v, want %v", got, want)
			}
			if n := rec.presigned(); n != want["redirect"] {
				t.Errorf("%d presigned requests, want %d", n, want["redirect"])
			}
			if n := len(w.log.lines("content is not redirected: the object store has the host name of the service or one below it, where clients would send their token")); (n == 1) == tc.redirected || n > 1 {
				t.Errorf("%d warnings that nobody is redirected", n)
			}
			if got := follower.open("GET", w.contentURL(f, token)); got.status != 200 || got.body != content {
				t.Errorf("by URL: %d, %d bytes", got.status, len(got.body))
			}
			rec.wantNoToken(t)
		})
	}
}

func TestPresignedURLOfOneFileGivesNoOther(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, aToken := w.workspace("poll")
	b, bToken := w.workspace("poll")
	ours := w.mustUpload(a, aToken, part{name: "a", content: "ours"}, part{name: "b", content: "ours too"})
	theirs := w.mustUpload(b, bToken, part{name: "a", content: "theirs"})[0]
	u := w.contentURL(ours[0], aToken)
	if got := w.open("GET", u); got.body != "ours" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	ids := func(f staged) string { return strings.TrimPrefix(f.URI, "platform-pending:") }
	for name, to := range map[string]staged{"another's": theirs, "another of ours": ours[1]} {
		bent := strings.Replace(u.URL, ids(ours[0]), ids(to), 1)
		if bent == u.URL {
			t.Fatalf("no key in %s", u.URL)
		}
		if got := w.open("GET", contentURL{URL: bent}); got.status != 403 || strings.Contains(got.body, "ours") || strings.Contains(got.body, "theirs") {
			t.Errorf("%s: %d %.200s", name, got.status, got.body)
		}
	}
	for _, change := range [][2]string{{"X-Amz-Expires=", "X-Amz-Expires=9"}, {"response-content-disposition=attachment", "response-content-disposition=inline"}, {"X-Amz-Signature=", "X-Amz-Signature=0"}} {
		bent := strings.Replace(u.URL, change[0], change[1], 1)
		if got := w.open("GET", contentURL{URL: bent}); bent == u.URL || got.status/100 != 4 {
			t.Errorf("%s: %d %.200s", change[1], got.status, got.body)
		}
	}
	for _, method := range []string{"PUT", "DELETE", "POST"} {
		if got := w.open(method, u); got.status/100 != 4 {
			t.Errorf("%s: %d", method, got.status)
		}
	}
	if got := w.do("GET", ours[0].path("content"), aToken, nil); got.body != "ours" {
		t.Errorf("after all that: %d %s", got.status, got.body)
	}
	// What a workspace may not read it gets no URL of.
	w.do("GET", ours[0].path("content")+"?delivery=url", bToken, nil).want(t, 401, "invalid workspace auth token")
	w.do("GET", strings.Replace(ours[0].path("content"), a.String(), b.String(), 1)+"?delivery=url", bToken, nil).want(t, 404, "pending upload not found")
}

// The log of a whole run at its most talkative holds nothing that lets its reader
// in: no token, no key and no URL that is signed, whoever signed it.
func TestLogHoldsNothingThatOpensADoor(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		var below setup
		rec := record(t, &below, "")
		var secrets []string
		objects := below.objects
		below.objects = func(cfg *s3blob.Config) {
			objects(cfg)
			keys, err := cfg.Credentials.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, keys.SecretAccessKey)
		}
		key := signingKey('k')
		w := newServerWith(t, below, placement(t), redirecting(true), signedWith(key))
		follower := rec.follow(w)
		ws, token := w.workspace("poll")
		other, otherToken := w.workspace("poll")
		secrets = append(secrets, token, otherToken, adminToken, key, strings.Repeat("k", 32), "X-Amz-", "AWS4-HMAC", "signature=", "Bearer")

		f := w.mustUpload(ws, token, part{name: "a.txt", content: "hello"}, part{name: "b", content: pattern(2 << 20)})[0]
		for _, query := range []string{"", "?delivery=url", "?delivery=redirect", "?delivery=proxy", "?delivery=" + key} {
			for _, method := range []string{"GET", "HEAD"} {
				follower.do(method, f.path("content")+query, token, nil)
				follower.do(method, f.path("content")+query, otherToken, nil)
				follower.do(method, strings.Replace(f.path("content"), ws.String(), other.String(), 1)+query, otherToken, nil)
			}
		}
		u := w.contentURL(f, token)
		secrets = append(secrets, parseURL(t, u.URL).Query().Get("signature"), parseURL(t, u.URL).Query().Get("X-Amz-Signature"))
		follower.open("GET", u)
		follower.open("GET", contentURL{URL: u.URL + "0"})
		follower.open("DELETE", u)
		w.corrupt(5)
		_, _ = follower.try("GET", f.path("content"), token, nil)
		follower.open("GET", u)
		w.do("POST", f.path("ack"), token, nil)
		follower.open("GET", u)
		follower.do("GET", f.path("content")+"?delivery=url", token, nil)
		w.pool.Close() // the noisiest end
		follower.do("GET", f.path("content")+"?delivery=url", token, nil)
		follower.open("GET", u)

		log := w.log.String()
		if !strings.Contains(log, `"msg":"request"`) {
			t.Fatal("nothing was logged")
		}
		for _, secret := range secrets {
			if secret == "" {
				continue
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, secret) {
					t.Errorf("%.12s… is in the log: %.300s", secret, line)
				}
			}
		}
	})
}

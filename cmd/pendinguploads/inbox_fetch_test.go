package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Files come from where the flag or its variable says.
func TestInboxFetchesFromTheServiceOrByURL(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	var mu sync.Mutex
	var asked []string
	env := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/content") {
			mu.Lock()
			asked = append(asked, r.URL.Query().Get("delivery"))
			mu.Unlock()
		}
		server.ServeHTTP(w, r)
	}))
	src, dir := t.TempDir(), filepath.Join(t.TempDir(), "inbox")
	folder := map[string]string{}
	for i, c := range []struct {
		args []string
		env  []string
		want string
	}{
		{nil, nil, "proxy"},
		{[]string{"--fetch=url"}, nil, "url"},
		{nil, []string{"PENDINGUPLOADS_FETCH=url"}, "url"},
		{[]string{"--fetch=proxy"}, []string{"PENDINGUPLOADS_FETCH=url"}, "proxy"},
	} {
		name := fmt.Sprintf("%d.txt", i)
		folder[name] = "content of " + name
		want0(t, env, "upload", file(t, src, name, folder[name]))
		mu.Lock()
		asked = nil
		mu.Unlock()
		want0(t, append(env, c.env...), append([]string{"inbox", "--once", "--dir", dir}, c.args...)...)
		if diff := cmp.Diff(folder, contents(t, dir)); diff != "" {
			t.Errorf("%v %v: the folder: %s", c.args, c.env, diff)
		}
		mu.Lock()
		if got := strings.Join(asked, " "); got != c.want {
			t.Errorf("%v %v: the service was asked for %q, want %q", c.args, c.env, got, c.want)
		}
		mu.Unlock()
	}
	fails(t, exitUsage, []string{"--fetch", "proxy", "url"}, env, "inbox", "--once", "--dir", src, "--fetch=mail")
	p.stop(t)
}

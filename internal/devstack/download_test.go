package devstack_test

import (
	"archive/zip"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// programs is an archive as the repository has it, of programs that only fail:
// bin/initdb, bin/postgres and bin/pg_ctl.
const programs = `
/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/AJVdADEaShsO1TDyWxuE7yh9tnRTrysNXAd5TfTf
WvjsHD+Q+/i3qr1iq3T1lTb/AYkh+h6x3ktDYYOkV+bIjVasBkI9lAZmjlteOKrY/o+NoIqwEDb2
OvGbRPoHxxmkdvHdI5GQ4eHYycclQUDHc01H+fajF+WNEDTQxx3rfz6APU2haOQZ44indoNf80L/
APvakzI1qSMAAAAAAMfi9WVrh36sAAGxAYBQAAA2pUauscRn+wIAAAAABFla`

func TestDownloadHappensOnce(t *testing.T) {
	t.Parallel()
	archive, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(programs, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	var downloads atomic.Int32
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		downloads.Add(1)
		jar := zip.NewWriter(w)
		file, err := jar.Create("postgres.txz")
		if err == nil {
			_, err = file.Write(archive)
		}
		if err := errors.Join(err, jar.Close()); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(repository.Close)
	stack, lines := newStack(t, map[string]string{"POSTGRES_BINARIES_URL": repository.URL}, stateDir(t))
	dir := filepath.Join(t.TempDir(), "postgres")
	for range 2 {
		bin, err := stack.Download(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(dir, "bin"); bin != want {
			t.Errorf("got %s, want %s", bin, want)
		}
	}
	if n := downloads.Load(); n != 1 {
		t.Errorf("downloaded %d times, want once", n)
	}
	if text := lines.text(); text != "PostgreSQL: downloading it from "+repository.URL+", once" {
		t.Errorf("got %q, want one line about the download", text)
	}
}

func TestSilentRepositoryIsGivenUpWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	stack, _ := newStack(t, map[string]string{"POSTGRES_BINARIES_URL": silent.URL}, stateDir(t))
	begin := time.Now()
	if _, err := stack.Download(t.Context(), filepath.Join(t.TempDir(), "postgres")); err == nil {
		t.Error("something was downloaded from a repository that never answers")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v, want at most 5s", took)
	}
}

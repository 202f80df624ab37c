package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	postgresBinariesURL = "https://repo1.maven.org/maven2"
	// downloadAnswer bounds the wait for the download's server, which
	// embedded-postgres itself does not bound.
	downloadAnswer = 4 * time.Second
)

// downloadedPostgres runs PostgreSQL from an archive that embedded-postgres
// downloads, once.
func (s *Stack) downloadedPostgres(ctx context.Context) (postgresServer, string, error) {
	cache, err := cacheDir()
	if err != nil {
		return postgresServer{}, "", err
	}
	bin, err := s.download(ctx, filepath.Join(cache, "postgres-"+string(embeddedpostgres.V17)))
	if err != nil {
		return postgresServer{}, "", err
	}
	return s.localPostgres(ctx, bin)
}

// download unpacks the programs below dir, unless they are there, and returns
// their folder.
func (s *Stack) download(ctx context.Context, dir string) (string, error) {
	unlock, err := lockPath(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	bin := filepath.Join(dir, "bin")
	if executable(filepath.Join(bin, "initdb")) && executable(filepath.Join(bin, "postgres")) {
		return bin, nil
	}
	repository := s.env("POSTGRES_BINARIES_URL", postgresBinariesURL)
	if err := answersHTTP(ctx, repository); err != nil {
		return "", fmt.Errorf("PostgreSQL cannot be downloaded: %w", err)
	}
	s.cfg.Log("PostgreSQL: downloading it from " + repository + ", once")
	scratch, err := os.MkdirTemp("", "pendinguploads-postgres-")
	if err != nil {
		return "", fmt.Errorf("download PostgreSQL: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	addr, err := freeAddr(ctx)
	if err != nil {
		return "", err
	}
	_, port := splitAddr(addr)
	embedded := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.V17).
		Port(uint32(port)). //nolint:gosec // a port
		BinaryRepositoryURL(repository).
		CachePath(scratch).
		RuntimePath(filepath.Join(scratch, "run")).
		DataPath(filepath.Join(scratch, "data")).
		BinariesPath(dir).
		Logger(io.Discard))
	// There is no call that only downloads. Start does that first; whether
	// the server then starts (it refuses root) does not matter.
	err = embedded.Start()
	if err == nil {
		err = embedded.Stop()
	}
	if !executable(filepath.Join(bin, "initdb")) {
		return "", fmt.Errorf("PostgreSQL cannot be downloaded from %s: %w", repository, errors.Join(err, os.RemoveAll(dir)))
	}
	return bin, nil
}

func answersHTTP(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, downloadAnswer)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

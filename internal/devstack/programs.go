package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// postgresPrograms is the folder that holds initdb and postgres: on PATH or
// where packages put them, the newest version first.
func postgresPrograms(path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		// A link on PATH leads to the folder that has both, and the
		// libraries beside them.
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err == nil && executable(filepath.Join(filepath.Dir(real), "postgres")) {
			return filepath.Dir(real), nil
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		for _, dir := range dirs {
			if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
				return dir, nil
			}
		}
	}
	return "", errors.New("initdb and postgres are neither on PATH nor in the usual places")
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// version is the first number in a text, 0 if there is none.
func version(text string) int {
	n, err := strconv.Atoi(regexp.MustCompile(`[0-9]+`).FindString(text))
	if err != nil {
		return 0
	}
	return n
}

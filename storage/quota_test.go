package storage_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

func TestQuotaTakesExactlyWhatItSays(t *testing.T) {
	t.Parallel()
	used := storage.Usage{Bytes: 60, Files: 3}
	for name, test := range map[string]struct {
		quota  storage.Quota
		adding storage.Usage
		over   bool
	}{
		"none":                 {storage.Quota{}, storage.Usage{Bytes: math.MaxInt64, Files: math.MaxInt64}, false},
		"bytes, exactly":       {storage.Quota{Bytes: 100}, storage.Usage{Bytes: 40, Files: 100}, false},
		"bytes, one more":      {storage.Quota{Bytes: 100}, storage.Usage{Bytes: 41, Files: 1}, true},
		"files, exactly":       {storage.Quota{Files: 5}, storage.Usage{Bytes: 1 << 40, Files: 2}, false},
		"files, one more":      {storage.Quota{Files: 5}, storage.Usage{Bytes: 1, Files: 3}, true},
		"both, bytes too many": {storage.Quota{Bytes: 100, Files: 5}, storage.Usage{Bytes: 41, Files: 1}, true},
		"both, files too many": {storage.Quota{Bytes: 100, Files: 5}, storage.Usage{Bytes: 1, Files: 3}, true},
		"lowered meanwhile":    {storage.Quota{Bytes: 10}, storage.Usage{Bytes: 1, Files: 1}, true},
		"no number is too big": {storage.Quota{Bytes: 100}, storage.Usage{Bytes: math.MaxInt64, Files: 1}, true},
	} {
		err := test.quota.Check(used, test.adding)
		if errors.Is(err, storage.ErrQuota) != test.over {
			t.Errorf("%s: %v", name, err)
		}
		var numbers *storage.QuotaError
		if test.over && (!errors.As(err, &numbers) || *numbers != storage.QuotaError{Used: used, Adding: test.adding, Max: test.quota}) {
			t.Errorf("%s: %+v", name, numbers)
		}
	}
	const want = "workspace quota exceeded: 60 bytes in 3 files wait, 41 bytes in 1 files more, limit 100 bytes, limit 5 files"
	if err := (storage.Quota{Bytes: 100, Files: 5}).Check(used, storage.Usage{Bytes: 41, Files: 1}); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestQuotaThatCannotBeMeantIsNamed(t *testing.T) {
	t.Parallel()
	limits := storage.Limits{MaxFileBytes: 1000, MaxRequestBytes: 2000}
	for quota, words := range map[storage.Quota][]string{
		{}:             nil,
		{Bytes: 1000}:  nil,
		{Files: 1}:     nil,
		{Bytes: 999}:   {"WORKSPACE_MAX_BYTES", "999", "MAX_FILE_BYTES (1000)"},
		{Bytes: -1}:    {"WORKSPACE_MAX_BYTES", "-1"},
		{Files: -1}:    {"WORKSPACE_MAX_FILES", "-1"},
		{1000, 100000}: nil,
	} {
		err := quota.Validate(limits)
		if (err == nil) != (words == nil) {
			t.Errorf("%+v: %v", quota, err)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%+v: %v does not say %s", quota, err, word)
			}
		}
	}
}

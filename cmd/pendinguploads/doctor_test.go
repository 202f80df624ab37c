package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// doctorEnv is a healthy world but for a lifecycle rule, which MinIO does not come
// with. Its root user cannot have direct uploads.
func doctorEnv(t *testing.T) []string {
	t.Helper()
	return append(s3Env(devstack.MinIO(t)), "DIRECT_TTL=0", "DATABASE_URL="+devstack.Database(t), "URL_SIGNING_KEYS="+strings.Repeat("5a", 32))
}

type doctorReport struct {
	Checks []struct{ Name, Status, Finding, Fix string }
}

// examined runs doctor --json and returns the names of each status.
func examined(t *testing.T, env []string, want int, args ...string) map[string][]string {
	t.Helper()
	stdout, stderr, code := result(t, env, append([]string{"doctor", "--json"}, args...)...)
	if code != want {
		t.Errorf("doctor %v: exit code %d, want %d:\n%s%s", args, code, want, stdout, stderr)
	}
	var report doctorReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("%v: %s", err, stdout)
	}
	names := map[string][]string{}
	for _, c := range report.Checks {
		names[c.Status] = append(names[c.Status], c.Name)
	}
	return names
}

func TestDoctorFixesWhatItWarnsOf(t *testing.T) {
	t.Parallel()
	env := doctorEnv(t)
	if names := examined(t, env, 0); !slices.Equal(names["warn"], []string{"lifecycle objects"}) || len(names["fail"])+len(names["skip"]) != 0 {
		t.Errorf("%v", names)
	}
	examined(t, env, 1, "--strict")

	stdout, stderr, code := result(t, env, "doctor", "--fix")
	if code != 2 || stdout != "" || !strings.Contains(stderr, "--yes") {
		t.Errorf("--fix without a terminal: exit code %d\n%s%s", code, stdout, stderr)
	}
	examined(t, env, 1, "--strict") // still

	stdout, stderr, code = result(t, env, "doctor", "--fix", "--yes", "--strict")
	if code != 0 || !strings.Contains(stderr, "to be set: lifecycle rule") || !strings.Contains(stdout, "ok    lifecycle objects: objects expire after 2 days") {
		t.Errorf("--fix --yes: exit code %d\n%s%s", code, stdout, stderr)
	}
	if names := examined(t, env, 0, "--strict"); len(names["warn"]) != 0 {
		t.Errorf("%v", names)
	}
}

func TestDoctorGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	env := append(doctorEnv(t), "DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x", "ORPHAN_GRACE=1m")
	if names := examined(t, env, 2); !slices.Equal(names["fail"], []string{"settings", "database"}) || !slices.Contains(names["ok"], "put") {
		t.Errorf("%v", names)
	}
	stdout, stderr, code := result(t, env, "doctor")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 2 || len(lines) != 35 || !strings.Contains(stderr, "2 failures") || strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("exit code %d, %d lines\n%s%s", code, len(lines), stdout, stderr)
	}
	for _, l := range lines {
		status, rest, _ := strings.Cut(l, "  ")
		if !slices.Contains([]string{"ok", "warn", "FAIL", "skip"}, status) || !strings.Contains(rest, ": ") {
			t.Errorf("not a result's line: %q", l)
		}
	}
}

func TestDoctorHelpSaysWhatItDoes(t *testing.T) {
	t.Parallel()
	out := strings.Join(strings.Fields(want0(t, nil, "doctor", "--help")), " ")
	for _, want := range []string{"--fix", "--strict", "--json", ".doctor/", "removed again", "Exit codes", "DATABASE_URL", "S3_BUCKET"} {
		if !strings.Contains(out, want) {
			t.Errorf("--help lacks %q", want)
		}
	}
}

// Doctor judges the settings of serve, so it has to be given all of them.
func TestDoctorTakesEverySettingOfServe(t *testing.T) {
	t.Parallel()
	variable := regexp.MustCompile(`\$[A-Z0-9_]+`)
	known := variable.FindAllString(want0(t, nil, "doctor", "--help"), -1)
	for _, name := range variable.FindAllString(want0(t, nil, "serve", "--help"), -1) {
		if name != "$MIGRATE" && !slices.Contains(known, name) {
			t.Errorf("doctor does not take %s", name)
		}
	}
}

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestCompletionScriptsKnowEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := want0(t, nil, "completion", shell)
		for _, word := range []string{
			"serve", "migrate", "up", "down", "status", "sweep", "workspace", "create", "list", "token", "delete", "healthcheck",
			"inbox", "upload", "activity", "completion", "version", "join-token-file", "idempotency-key", "follow", "longpoll",
		} {
			if !strings.Contains(script, word) {
				t.Errorf("%s: no %q", shell, word)
			}
		}
		// Each shell that is here reads its script.
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		if out, err := exec.CommandContext(t.Context(), path, "-n", file(t, t.TempDir(), "script", script)).CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v\n%s", shell, err, out)
		}
	}
}

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	script := file(t, t.TempDir(), "completion", want0(t, nil, "completion", "bash"))
	for typed, want := range map[string][]string{
		"u":                        {"upload"},
		"migrate ":                 {"down", "status", "up"},
		"upload --rec":             {"--recursive"},
		"activity --transport ":    {"auto", "longpoll", "poll"},
		"activity --transport = p": {"poll"},
		"completion ":              {"bash", "fish", "zsh"},
		"upload ":                  nil, // files
		"inbox --dir ":             nil,
		"inbox --dir upload --onc": {"--once"},
		"workspace create --mo":    {"--mode"},
	} {
		words := strings.Split("pendinguploads "+typed, " ")
		program := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pendinguploads; printf '%s\n' "${COMPREPLY[@]}"`
		out, err := exec.CommandContext(t.Context(), "bash", append([]string{"-c", program, "bash", script}, words...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", typed, err, out)
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q completes to %q, want %q", typed, got, want)
		}
	}
}

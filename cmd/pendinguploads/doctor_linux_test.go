package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

// TestDoctorAsksBeforeItSets answers on a terminal.
func TestDoctorAsksBeforeItSets(t *testing.T) {
	t.Parallel()
	env := doctorEnv(t)
	for _, c := range []struct {
		answer string
		set    bool
	}{{"\n", false}, {"n\n", false}, {"y\n", true}} {
		here, screen := terminal(t)
		cmd := command(t, env, "doctor", "--fix")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = screen.Close()
		shown := bufio.NewReader(here)
		question, err := shown.ReadString('?')
		if err != nil || !strings.Contains(question, "to be set: lifecycle rule") {
			t.Fatalf("%v:\n%s", err, question)
		}
		if _, err := io.WriteString(here, c.answer); err != nil {
			t.Fatal(err)
		}
		var rest strings.Builder
		_, _ = shown.WriteTo(&rest) // until nobody has the screen open
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s%s", err, question, rest.String())
		}
		if set := strings.Contains(rest.String(), "ok    lifecycle objects"); set != c.set || strings.Contains(rest.String(), "nothing was set") == c.set {
			t.Errorf("%q: set %t\n%s", c.answer, set, rest.String())
		}
	}
}

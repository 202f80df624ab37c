package linger_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/linger"
)

func TestContextEndsAWhileAfterItsParent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		out, done := linger.Context(parent, time.Second)
		defer done()
		<-time.After(time.Minute)
		if out.Err() != nil {
			t.Error("it ended before its parent")
		}
		end()
		ended := time.Now()
		<-out.Done()
		if after := time.Since(ended); after != time.Second {
			t.Errorf("it ended %v after its parent, want 1s", after)
		}
	})
}

// Nothing is left waiting once the work is done; synctest sees what is.
func TestContextThatIsDoneEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		out, done := linger.Context(parent, time.Hour)
		end()
		synctest.Wait()
		done()
		if out.Err() == nil {
			t.Error("it goes on")
		}
	})
}

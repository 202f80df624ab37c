package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

// kills is how often a process is killed.
const kills = 100

func TestInboxKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	db := openRows(t, stack.Database)
	c := server.Client(t, id, servertest.AdminToken)
	random, sent := newRandom(), newSums()
	folder := sent.watch(t, filepath.Join(t.TempDir(), "inbox"))
	laptop := &receiver{server: slow(t, server.URL), workspace: id, token: token, dir: folder.dir}

	halfway := 0 // kills that came in the middle of a file
	for n := range kills {
		files, moment := sent.some(random), time.Duration(random.IntN(350))*time.Millisecond
		d := laptop.start(t)
		var sending sync.WaitGroup
		sending.Go(func() { say(t, c, fmt.Sprint("message ", n), files) })
		d.killAfter(t, moment)
		sending.Wait()
		if folder.halfway(t) {
			halfway++
		}
	}
	if halfway == 0 {
		t.Error("no kill came in the middle of a file")
	}
	laptop.once(t)
	// Once all is done, another start finds nothing to do.
	done := laptop.handled(t)
	laptop.once(t)
	if diff := cmp.Diff(done, laptop.handled(t)); diff != "" {
		t.Errorf("messages that were done came again (-before +after):\n%s", diff)
	}

	there := folder.end(t)
	sent.missing(t, there, nil)
	db.ackedOnce(t, there)
	messages := db.messages(t, id)
	if len(messages) != kills {
		t.Errorf("the feed has %d messages, want %d", len(messages), kills)
	}
	again := handledAll(t, messages, done)
	if again > kills {
		t.Errorf("%d messages were handled again, after %d kills", again, kills)
	}
	t.Logf("%d kills of the inbox, %d in the middle of a file: %d files, %d messages, %d of them handled again", kills, halfway, len(there), len(messages), again)
}

// say uploads files and sends a message that cites them.
func say(t *testing.T, c *client.Client, text string, files []client.File) {
	staged, err := c.Upload(t.Context(), files, client.UploadOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	if err := c.Send(t.Context(), client.Message{Text: text, Files: staged}); err != nil {
		t.Error(err)
	}
}

func TestServerKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	db := openRows(t, stack.Database)
	random, sent := newRandom(), newSums()
	folder := sent.watch(t, filepath.Join(t.TempDir(), "inbox"))

	var mu sync.Mutex
	var handled []string
	// An upload whose answer the kill took away may have been staged or not.
	doubtful := map[string]bool{}
	box, err := inbox.New(inbox.Config{
		Client: server.Client(t, id, token), Dir: folder.dir, MinFree: -1, Heartbeat: time.Second,
		OnFile: func(f inbox.File) {
			if f.Err != nil {
				t.Errorf("%s was given up: %v", f.Name, f.Err)
			}
		},
		Handler: func(_ context.Context, m inbox.Message) error {
			mu.Lock()
			defer mu.Unlock()
			handled = append(handled, m.Activity.ID)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var ran error
	running.Go(func() { ran = box.Run(ctx) })
	defer running.Wait()
	defer stop()

	uploader := server.Client(t, id, servertest.AdminToken, func(c *client.Config) { c.Patience = -1 })
	sender := server.Client(t, id, servertest.AdminToken)
	var sending sync.WaitGroup
	for n := range kills {
		files := sent.some(random)
		uploaded := make(chan struct{})
		sending.Go(func() {
			staged, err := uploader.Upload(t.Context(), files, client.UploadOptions{})
			if err != nil {
				mu.Lock()
				for _, f := range files {
					doubtful[f.Name] = true
				}
				mu.Unlock()
			}
			close(uploaded)
			// The message is certain: it is sent until the service has it.
			if err := sender.Send(t.Context(), client.Message{Text: fmt.Sprint("message ", n), Files: staged}); err != nil {
				t.Error(err)
			}
		})
		pause(t.Context(), time.Duration(random.IntN(250))*time.Millisecond)
		server.Kill(t)
		<-uploaded
		server.Restart(t)
	}
	sending.Wait()
	until(t, "every file acknowledged, every message handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(handled) >= kills && db.unacked(t) == 0
	})
	stop()
	running.Wait()
	if ran != nil && !errors.Is(ran, context.Canceled) {
		t.Errorf("the inbox ended with %v", ran)
	}
	// Another start finds nothing to do.
	next := &receiver{server: server.URL, workspace: id, token: token, dir: folder.dir}
	next.once(t)

	there := folder.end(t)
	sent.missing(t, there, doubtful)
	db.ackedOnce(t, there)
	messages := db.messages(t, id)
	if len(messages) != kills {
		t.Errorf("the feed has %d messages, want %d", len(messages), kills)
	}
	if again := handledAll(t, messages, append(handled, next.handled(t)...)); again != 0 {
		t.Errorf("%d messages were handled again", again)
	}
	t.Logf("%d kills of the server: %d files arrived of %d, %d in doubt; %d messages", kills, len(there), sent.count(), len(doubtful), len(messages))
}

// Two receivers of one workspace share its files: what one acknowledges first is
// gone for the other, which goes on. Both get every message.
func TestTwoDrainsOfOneWorkspace(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	db := openRows(t, stack.Database)
	c := server.Client(t, id, servertest.AdminToken)
	random, sent := newRandom(), newSums()
	for n := range 20 {
		say(t, c, fmt.Sprint("message ", n), sent.some(random))
	}
	folders, receivers := twoReceivers(t, sent, func(dir string) *receiver {
		return &receiver{server: server.URL, workspace: id, token: token, dir: dir}
	})
	var running sync.WaitGroup
	for _, r := range receivers {
		running.Go(func() { r.once(t) })
	}
	running.Wait()
	there := endBoth(t, sent, folders, receivers)
	db.ackedOnce(t, there)
	for i, r := range receivers {
		if again := handledAll(t, db.messages(t, id), r.handled(t)); again != 0 {
			t.Errorf("inbox %d handled %d messages again", i, again)
		}
	}
}

// One of two daemons is killed and started again and again; the other one never
// notices.
func TestTwoDaemonsOfOneWorkspace(t *testing.T) {
	t.Parallel()
	const kills = 10
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	db := openRows(t, stack.Database)
	c := server.Client(t, id, servertest.AdminToken)
	random, sent := newRandom(), newSums()
	folders, receivers := twoReceivers(t, sent, func(dir string) *receiver {
		return &receiver{server: server.URL, workspace: id, token: token, dir: dir}
	})
	killed, steady := receivers[0], receivers[1]

	stays := steady.start(t)
	for n := range kills {
		d := killed.start(t)
		files, moment := sent.some(random), time.Duration(random.IntN(500))*time.Millisecond
		var sending sync.WaitGroup
		sending.Go(func() { say(t, c, fmt.Sprint("message ", n), files) })
		d.killAfter(t, moment)
		sending.Wait()
	}
	last := killed.start(t)
	for n := range kills {
		say(t, c, fmt.Sprint("message ", kills+n), sent.some(random))
	}
	messages := db.messages(t, id)
	until(t, "both inboxes have every message, and every file is acknowledged", func() bool {
		last.alive(t)
		stays.alive(t)
		return db.unacked(t) == 0 && covers(killed.handled(t), messages) && covers(steady.handled(t), messages)
	})
	last.stop(t)
	stays.stop(t)

	there := endBoth(t, sent, folders, receivers)
	db.ackedOnce(t, there)
	if len(messages) != 2*kills {
		t.Errorf("the feed has %d messages, want %d", len(messages), 2*kills)
	}
	if again := handledAll(t, messages, steady.handled(t)); again != 0 {
		t.Errorf("the inbox that ran all the time handled %d messages again", again)
	}
	again := handledAll(t, messages, killed.handled(t))
	if again > kills {
		t.Errorf("%d messages were handled again, after %d kills", again, kills)
	}
	t.Logf("%d kills of one of two inboxes: %d files, %d and %d of them in one folder and the other; %d messages each, %d of them handled again",
		kills, len(there), len(folders[0].seen), len(folders[1].seen), len(messages), again)
}

func covers(handled, messages []string) bool {
	return !slices.ContainsFunc(messages, func(id string) bool { return !slices.Contains(handled, id) })
}

func twoReceivers(t *testing.T, sent *sums, newReceiver func(dir string) *receiver) (folders [2]*watched, receivers [2]*receiver) {
	t.Helper()
	for i := range receivers {
		folders[i] = sent.watch(t, filepath.Join(t.TempDir(), "inbox"))
		receivers[i] = newReceiver(folders[i].dir)
	}
	return folders, receivers
}

// endBoth wants every file in a folder or in both, and none to be given up by one
// that the other does not have. It returns those that are there.
func endBoth(t *testing.T, sent *sums, folders [2]*watched, receivers [2]*receiver) map[string]bool {
	t.Helper()
	all, in := map[string]bool{}, [2]map[string]bool{}
	for i, f := range folders {
		in[i] = f.end(t)
		for name := range in[i] {
			all[name] = true
		}
	}
	sent.missing(t, all, nil)
	for i, r := range receivers {
		for lines := json.NewDecoder(&r.output); lines.More(); {
			var e struct{ Event, Name, Error string }
			if err := lines.Decode(&e); err != nil {
				t.Fatalf("output of inbox %d: %v", i, err)
			}
			if e.Error != "" && !in[1-i][e.Name] {
				t.Errorf("inbox %d gave %s up (%s), and the other does not have it", i, e.Name, e.Error)
			}
		}
	}
	return all
}

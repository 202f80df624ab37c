package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/profile"
)

type uploadCmd struct {
	connection `embed:""`

	Files          []string `arg:"" name:"file" help:"Files; folders with --recursive; - is standard input."`
	Recursive      bool     `short:"r" help:"Upload the files in folders and the folders below, hidden ones too. Links and what is no file are left out. Files arrive under their base names."`
	Message        string   `short:"m" help:"Chat message that cites the files, posted once all of them are there." placeholder:"TEXT"`
	Name           string   `help:"Name of standard input." default:"stdin" placeholder:"NAME"`
	Type           string   `help:"MIME type of all files. Default: by each one's extension, else by its first bytes." placeholder:"TYPE"`
	SkipRefused    bool     `help:"Leave out files that the service would refuse, and exit with 5."`
	IdempotencyKey string   `help:"Names this invocation, so that a service that knows such keys does it once however often it is repeated. Default: a fresh one." placeholder:"KEY"`
	Direct         bool     `help:"Send the bytes to the object store instead of through the service, where that is possible from here."`
	JSON           bool     `name:"json" help:"Print one JSON object instead of a URI a line."`
	Quiet          bool     `short:"q" help:"Print nothing but URIs and errors."`
}

// Help is what --help shows besides.
func (uploadCmd) Help() string {
	return `Limits of the service are read first: a file that is empty or too large is named before a byte is sent. More files
than one request takes go in several, each of them whole or not at all. A message is said by the token's owner: the
administrator's stands for a user; the workspace's own makes it the workspace's, which its inbox passes over.

Examples:

    pendinguploads upload report.pdf
    pendinguploads upload --workspace 6f1c… *.png --message "the screenshots"
    pendinguploads upload -r results/
    tar c src | pendinguploads upload - --name src.tar
    pendinguploads upload report.pdf --json | jq -r '.files[].uri'

Exit codes: 0 done, 1 failure (it says so where the files may have been staged all the same), 2 usage, 3 token not
accepted, 4 refused before sending (empty, too large), 5 partly done (some files, or all but the message), 75 service
unreachable or busy and nothing staged, or --idempotency-key given: again later may work.`
}

// uploaded is the result for --json.
type uploaded struct {
	Files     []uploadedFile `json:"files"`
	MessageID string         `json:"message_id,omitempty"` // of the message, if it was posted
	Error     string         `json:"error,omitempty"`
}

type uploadedFile struct {
	Path string `json:"path"` // as it was named or found
	wire.UploadedFile
}

func (c *uploadCmd) Run(ctx context.Context, con console) error {
	repeatable := c.IdempotencyKey != ""
	if !repeatable {
		c.IdempotencyKey = uuid.NewString()
	}
	cl, target, err := c.connectAsUser(con)
	if err != nil {
		return err
	}
	defer cl.Close()
	sources, err := c.sources(ctx, con)
	if err != nil {
		return remote(err)
	}
	defer closeAll(sources)
	limits, err := c.limits(ctx, con, cl, target)
	if err != nil {
		return remote(err)
	}
	sources, skipped, err := c.refused(con, sources, limits)
	if err != nil {
		return err
	}
	u := &upload{
		uploadCmd: c, client: cl, con: con, shown: isTerminal(con.err) && !c.Quiet, limits: limits, all: len(sources), repeatable: repeatable,
	}
	err = u.run(ctx, sources)
	if c.JSON {
		if err := u.printJSON(err); err != nil {
			return local(err)
		}
	}
	if err == nil && skipped > 0 {
		return &exitError{exitPartly, fmt.Errorf("%d of %d files left out", skipped, u.all+skipped)}
	}
	return err
}

// upload is one invocation under way.
type upload struct {
	*uploadCmd
	client *client.Client
	con    console
	shown  bool // bars
	limits wire.Limits
	all    int // files to upload
	result uploaded

	repeatable bool // the user can name the invocation again
}

// limits reads the service's limits; none of a service that has no such route,
// whatever stands in its place.
func (c *uploadCmd) limits(ctx context.Context, con console, cl *client.Client, t profile.Target) (wire.Limits, error) {
	hasty := c.connection
	hasty.Patience = -1
	once, err := hasty.client(con, t)
	if err != nil {
		return wire.Limits{}, err
	}
	defer once.Close()
	limits, err := once.Limits(ctx)
	var stranger *client.NotTheServiceError
	var answer *client.Error
	switch {
	case err == nil:
		return limits, nil
	case errors.As(err, &stranger), errors.As(err, &answer) && answer.Status == http.StatusNotFound:
		return wire.Limits{}, nil
	}
	return cl.Limits(ctx)
}

func (u *upload) run(ctx context.Context, sources []source) error {
	batches, err := batch(sources, u.limits)
	if err != nil {
		return remote(err)
	}
	p := newProgress(u.con.err, u.shown)
	lines := u.con.out
	if isTerminal(lines) && u.shown {
		lines = p // the same screen: lines must not run into the bar
	}
	bar := p.bar(title(sources), total(sources))
	defer bar.end()
	var before int64
	for i, b := range batches {
		files, err := u.stage(ctx, p, b, client.UploadOptions{
			IdempotencyKey: fmt.Sprintf("%s-%d", u.IdempotencyKey, i+1),
			Progress:       func(sent int64) { bar.set(before + sent) },
		})
		if err != nil {
			return u.partly(u.unstaged(err))
		}
		for j, f := range files {
			u.result.Files = append(u.result.Files, uploadedFile{b[j].path, f})
			before += f.Size
			if !u.Quiet {
				_, _ = fmt.Fprintf(p, "uploaded %s as %s, %s\n", printable(b[j].path), f.Name, size(f.Size))
			}
			if !u.JSON {
				if _, err := fmt.Fprintln(lines, f.URI); err != nil {
					return u.partly(local(err))
				}
			}
		}
	}
	bar.end()
	if u.Message == "" {
		return nil
	}
	return u.partly(u.send(ctx))
}

// unstaged gives a failed request its exit code: what may have been staged is not
// worth another attempt by itself, unless the attempts have a name in common.
func (u *upload) unstaged(err error) error {
	failed := remote(err)
	if exitCode(failed) != exitTemporary || client.Unprocessed(err) || u.repeatable && !u.Direct {
		return failed
	}
	advice := ""
	if !u.Direct { // which sends no key
		advice = "; where the service knows such keys, --idempotency-key " + u.IdempotencyKey + " makes that safe"
	}
	return local(fmt.Errorf("%w (the files may have been staged all the same: look with \"pendinguploads activity\" before they are sent again%s)", err, advice))
}

// send posts the message. Its id is the invocation's key, so repeating the
// invocation does not say it twice.
func (u *upload) send(ctx context.Context) error {
	m := client.Message{ID: u.IdempotencyKey, Text: u.Message}
	for _, f := range u.result.Files {
		m.Files = append(m.Files, f.UploadedFile)
	}
	if err := u.client.Send(ctx, m); err != nil {
		return remote(err)
	}
	u.result.MessageID = m.ID
	if !u.Quiet {
		_, _ = fmt.Fprintf(u.con.err, "sent message %s\n", m.ID)
	}
	if u.sentAsTheWorkspace(ctx, m.ID) {
		u.con.warn("warning: the token is the workspace's own, so the message counts as its own, which its inbox passes over: send messages with the administrator's token")
	}
	return nil
}

// recent is how far back the feed is looked through for a message just sent.
const recent = 20

// sentAsTheWorkspace looks the message up in the feed. Whose a token is shows
// nowhere else.
func (u *upload) sentAsTheWorkspace(ctx context.Context, id string) bool {
	quoted, err := json.Marshal(id)
	if err != nil {
		return false
	}
	rows, err := u.client.Activity(ctx, client.Query{Type: wire.TypeA2AReceive, Limit: recent})
	if err != nil {
		return false // it was sent all the same
	}
	for _, row := range rows {
		if bytes.Contains(row.RequestBody, append([]byte(`"messageId":`), quoted...)) {
			return deref(row.SourceID) == u.client.Workspace().String()
		}
	}
	return false
}

// partly says how much of it was done before err.
func (u *upload) partly(err error) error {
	done := len(u.result.Files)
	switch {
	case err == nil:
		return nil
	case done == 0:
		return err
	case done == u.all:
		return &exitError{exitPartly, fmt.Errorf("%d files uploaded, the message not sent: %w", done, err)}
	case u.Message != "":
		return &exitError{exitPartly, fmt.Errorf("%d of %d files uploaded, the message not sent: %w", done, u.all, err)}
	}
	return &exitError{exitPartly, fmt.Errorf("%d of %d files uploaded: %w", done, u.all, err)}
}

func (u *upload) printJSON(failed error) error {
	if u.result.Files == nil {
		u.result.Files = []uploadedFile{}
	}
	if failed != nil {
		u.result.Error = oneLine(failed)
	}
	e := json.NewEncoder(u.con.out)
	e.SetEscapeHTML(false)
	return e.Encode(u.result)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

type activityCmd struct {
	connection `embed:""`

	Follow    bool          `short:"f" help:"Go on with new entries as they come."`
	Last      int           `short:"n" default:"20" help:"How many of the newest entries to print, at most 500." placeholder:"N"`
	Since     time.Duration `help:"Only entries younger than this." placeholder:"DURATION"`
	Type      string        `help:"Only entries of this type, such as a2a_receive." placeholder:"TYPE"`
	PeerInfo  bool          `help:"With names of the senders, and attachments."`
	Transport string        `default:"auto" enum:"auto,longpoll,poll" help:"How to follow: auto (a stream, or what the service has instead), longpoll or poll."`
	JSON      bool          `name:"json" help:"Print each entry as the service has it, one JSON object a line."`
}

// Help is what --help shows besides.
func (activityCmd) Help() string {
	return `Examples:

    pendinguploads activity
    pendinguploads activity --follow
    pendinguploads activity --follow -n 0 --json | jq .summary
    pendinguploads activity --since 1h --type a2a_receive

Exit codes: 0 done, or stopped by a signal; 1 failure, 2 usage, 3 token not accepted, 75 service unreachable or busy.`
}

// maxLast is the most entries that one answer has.
const maxLast = 500

func (c *activityCmd) Run(ctx context.Context, con console) error {
	if c.Last < 0 || c.Last > maxLast {
		return usage(fmt.Errorf("-n is %d, want 0 to %d", c.Last, maxLast))
	}
	cl, err := c.connect(con)
	if err != nil {
		return err
	}
	defer cl.Close()
	cursor, err := c.last(ctx, cl, con)
	if err == nil && c.Follow {
		err = c.follow(ctx, cl, con, cursor)
	}
	if c.Follow && ctx.Err() != nil {
		return nil
	}
	return remote(err)
}

// last prints the newest entries and returns the id of the newest of all.
func (c *activityCmd) last(ctx context.Context, cl *client.Client, con console) (cursor string, err error) {
	rows, err := cl.Activity(ctx, client.Query{Type: c.Type, Since: c.Since, Limit: max(c.Last, 1), PeerInfo: c.PeerInfo})
	if err != nil || len(rows) == 0 {
		return "", err
	}
	cursor = rows[0].ID
	slices.Reverse(rows)
	if c.Last == 0 {
		rows = nil
	}
	for _, row := range rows {
		if err := c.print(con, row); err != nil {
			return "", local(err)
		}
	}
	return cursor, nil
}

func (c *activityCmd) follow(ctx context.Context, cl *client.Client, con console, cursor string) error {
	f := client.FollowConfig{
		Type: first(c.Type, "*"), After: cursor, Window: c.Since, PeerInfo: c.PeerInfo,
		Transport: transport(c.Transport),
		Trouble:   trouble(con),
		Reset:     func() { con.warn("the service no longer knows where we were, the feed begins again") },
	}
	for row, err := range cl.Follow(ctx, f) {
		if err != nil {
			return err
		}
		if err := c.print(con, row); err != nil {
			return local(err)
		}
	}
	return nil
}

func transport(name string) client.Transport {
	if name == "auto" {
		return client.TransportAuto
	}
	return client.Transport(name)
}

// trouble says once what is wrong, and once that it is over.
func trouble(con console) func(error) {
	said := ""
	return func(err error) {
		switch {
		case err == nil && said != "":
			con.warn("the service answers again")
			said = ""
		case err != nil && oneLine(err) != said:
			said = oneLine(err)
			con.warn("trying again: %s", said)
		}
	}
}

func (c *activityCmd) print(con console, row wire.Activity) error {
	if c.JSON {
		return printJSON(con, row)
	}
	_, err := fmt.Fprintln(con.out, activityLine(row))
	return err
}

// printJSON prints a value as one line.
func printJSON(con console, v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := con.out.Write(line.Bytes())
	return err
}

// activityLine is a row for people: time, what it is, who did it, what it says.
func activityLine(row wire.Activity) string {
	when := row.CreatedAt
	if t, err := time.Parse(time.RFC3339, when); err == nil {
		when = t.Local().Format("2006-01-02 15:04:05")
	}
	who := "-"
	switch {
	case row.PeerName != "":
		who = row.PeerName
	case row.SourceID != nil:
		who = *row.SourceID
	}
	parts := []string{when, first(deref(row.Method), row.ActivityType), who}
	var m wire.UploadManifest
	switch {
	case deref(row.Method) == wire.MethodChatUpload && json.Unmarshal(row.RequestBody, &m) == nil && m.URI != "":
		parts = append(parts, m.Name, size(m.Size), m.URI)
	default:
		parts = append(parts, shorten(first(said(row), deref(row.Summary)), 200))
	}
	if row.Status != "ok" && row.Status != "" {
		parts = append(parts, row.Status, deref(row.ErrorDetail))
	}
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}

// said is the text of a message, and the names of the files it cites.
func said(row wire.Activity) string {
	var request struct {
		Params struct {
			Message struct {
				Parts []struct {
					Text string         `json:"text"`
					File *wire.ChatFile `json:"file"`
				} `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	var response struct {
		Result string `json:"result"`
	}
	if err := json.Unmarshal(row.RequestBody, &request); err != nil {
		if err := json.Unmarshal(row.ResponseBody, &response); err != nil {
			return ""
		}
		return response.Result
	}
	var texts []string
	for _, p := range request.Params.Message.Parts {
		switch {
		case p.File != nil:
			texts = append(texts, "["+first(p.File.Name, p.File.URI)+"]")
		case p.Text != "":
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, " ")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/molecule-ai/pendinguploads/internal/server"
)

// upCmd serves until interrupted.
type upCmd struct {
	Data   string `help:"Folder for data that outlives the run. Unset: everything is thrown away at the end." placeholder:"DIR"`
	Listen string `default:"localhost:8080" env:"LISTEN_ADDR" help:"Address to serve on; another free port is taken when it is busy."`
}

// Run brings everything up, prints how to talk to it, and serves.
func (c *upCmd) Run(ctx context.Context, con console) (err error) {
	stack, err := startStack(ctx, con, c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop(context.WithoutCancel(ctx))) }()
	s3 := stack.S3()
	s3.Bucket = os.Getenv("S3_BUCKET")
	if s3.Bucket == "" {
		s3.Bucket = "pendinguploads"
	}
	cfg, err := configure(stack.PostgresURL(), s3)
	if err != nil {
		return err
	}
	if cfg.ListenAddr, err = freeOr(ctx, c.Listen); err != nil {
		return err
	}
	openUp(&cfg)
	service, err := serve(ctx, cfg, cfg.Logger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.stop()) }()
	canvas, token, err := register(ctx, service.base, cfg.AdminToken, "dev")
	if err != nil {
		return err
	}
	canvas.Close()
	con.say("%s", welcome(service.base, cfg.AdminToken, canvas.Workspace().String(), token))
	<-service.done
	return nil
}

// openUp eases what is strict by default: this instance serves a developer on
// the developer's own machine.
func openUp(cfg *server.Config) {
	if os.Getenv("REGISTRATION") == "" {
		cfg.Registration = "open"
	}
	if os.Getenv("WORKSPACE_NETWORKS") == "" {
		cfg.WorkspaceNetworks = "any"
	}
	if cfg.AdminToken == "" {
		cfg.AdminToken = rand.Text()
	}
}

// freeOr is addr if it can be listened on, else the same host with port 0.
func freeOr(ctx context.Context, addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("listen address %q: %w", addr, err)
	}
	var config net.ListenConfig
	if listener, err := config.Listen(ctx, "tcp", addr); err == nil {
		return addr, listener.Close()
	}
	return net.JoinHostPort(host, "0"), nil
}

// welcome is what a developer needs to talk to the service. Its commands work
// when pasted, in their order.
func welcome(base, adminToken, workspace, token string) string {
	replace := strings.NewReplacer("{base}", base, "{admin}", adminToken, "{workspace}", workspace, "{token}", token)
	return replace.Replace(`
service      {base}
admin token  {admin}
workspace    {workspace} (poll mode)
its token    {token}

# upload (keeps the file's id in FILE)
FILE=$(printf 'hello\n' | curl -sS -H 'Authorization: Bearer {token}' -F 'files=@-;filename=hello.txt;type=text/plain' {base}/workspaces/{workspace}/chat/uploads | tee /dev/stderr | sed 's|.*platform-pending:[^/]*/\([^"]*\)".*|\1|')
# feed
curl -sS -H 'Authorization: Bearer {token}' '{base}/workspaces/{workspace}/activity?type=a2a_receive&since_secs=600'
# fetch
curl -sS -H 'Authorization: Bearer {token}' {base}/workspaces/{workspace}/pending-uploads/$FILE/content
# ack
curl -sS -X POST -H 'Authorization: Bearer {token}' {base}/workspaces/{workspace}/pending-uploads/$FILE/ack

# files into a folder as they come: this in one terminal
env PENDINGUPLOADS_SERVER={base} PENDINGUPLOADS_WORKSPACE={workspace} PENDINGUPLOADS_TOKEN={token} go run ./cmd/pendinguploads inbox --dir inbox
# and this in another, as somebody else than the workspace
env PENDINGUPLOADS_SERVER={base} PENDINGUPLOADS_WORKSPACE={workspace} PENDINGUPLOADS_TOKEN={admin} go run ./cmd/pendinguploads upload README.md --message 'please look'

Interrupt (Ctrl-C) stops the service and the servers it started.`)
}

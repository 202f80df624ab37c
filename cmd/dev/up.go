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
	workspace, err := register(ctx, api{base: service.base, token: cfg.AdminToken}, "dev")
	if err != nil {
		return err
	}
	con.say("%s", welcome(service.base, cfg.AdminToken, workspace))
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
func welcome(base, adminToken string, workspace registration) string {
	replace := strings.NewReplacer("BASE", base, "ADMIN", adminToken, "WORKSPACE", workspace.id, "TOKEN", workspace.token)
	return replace.Replace(`
service      BASE
admin token  ADMIN
workspace    WORKSPACE (poll mode)
its token    TOKEN

# upload (keeps the file's id in FILE)
FILE=$(printf 'hello\n' | curl -sS -H 'Authorization: Bearer TOKEN' -F 'files=@-;filename=hello.txt;type=text/plain' BASE/workspaces/WORKSPACE/chat/uploads | tee /dev/stderr | sed 's|.*platform-pending:[^/]*/\([^"]*\)".*|\1|')
# feed
curl -sS -H 'Authorization: Bearer TOKEN' 'BASE/workspaces/WORKSPACE/activity?type=a2a_receive&since_secs=600'
# fetch
curl -sS -H 'Authorization: Bearer TOKEN' BASE/workspaces/WORKSPACE/pending-uploads/$FILE/content
# ack
curl -sS -X POST -H 'Authorization: Bearer TOKEN' BASE/workspaces/WORKSPACE/pending-uploads/$FILE/ack

Interrupt (Ctrl-C) stops the service and the servers it started.`)
}

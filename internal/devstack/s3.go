package devstack

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	defaultMinIOImage     = "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z"
	defaultVersityGWImage = "versity/versitygw:v1.8.0"
	defaultRegion         = "us-east-1"
)

// S3 is a running S3 server and, where Bucket is set, a bucket on it.
type S3 struct {
	Name         string // "minio" or "versitygw"
	Endpoint     string // URL
	Region       string
	AccessKey    string
	SecretKey    string
	SessionToken string // only where S3_ENDPOINT's credentials have one
	Bucket       string
	PathStyle    bool
	Domain       string // names BUCKET.Domain are the server's too; only of servers started here
}

// Client is an S3 client for the server, without retries, so that a test sees
// what happens.
func (s S3) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:     aws.String(s.Endpoint),
		Region:           s.Region,
		UsePathStyle:     s.PathStyle,
		Credentials:      credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, s.SessionToken),
		RetryMaxAttempts: 1,
	})
}

func (s S3) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := s.Client().ListBuckets(ctx, &s3.ListBucketsInput{})
	return err
}

// MinIO starts the main S3 server, if it was not started yet. Where S3_ENDPOINT
// names a server, it stands in for it.
func (s *Stack) MinIO(ctx context.Context) (S3, error) {
	return s.minio.get(func() (S3, error) {
		secret, err := s.secret("minio")
		if err != nil {
			return S3{}, err
		}
		server := s3Server{
			name: "minio", title: "MinIO", image: s.env("MINIO_IMAGE", defaultMinIOImage), module: "github.com/minio/minio",
			port: "9000/tcp", secret: secret, stop: syscall.SIGTERM,
			env: []string{
				"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secret,
				"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "MINIO_DOMAIN=" + domain,
			},
			folders: []string{"data"},
			args: func(addr string, folders []string) []string {
				return []string{"server", "--quiet", "--address", addr, folders[0]}
			},
		}
		ways := s.s3Ways(server)
		if endpoint := s.cfg.Getenv("S3_ENDPOINT"); endpoint != "" {
			ways = append([]way[S3]{{start: func(ctx context.Context) (S3, string, error) { return s.namedS3(ctx, endpoint) }}}, ways...)
		}
		return choose(ctx, s.cfg.Log, server.title, s.cfg.Getenv("DEVSTACK"), ways)
	})
}

// VersityGW starts the second S3 server, if it was not started yet.
func (s *Stack) VersityGW(ctx context.Context) (S3, error) {
	return s.versity.get(func() (S3, error) {
		secret, err := s.secret("versitygw")
		if err != nil {
			return S3{}, err
		}
		server := s3Server{
			name: "versitygw", title: "VersityGW", image: s.env("VERSITYGW_IMAGE", defaultVersityGWImage), module: "github.com/versity/versitygw",
			port: "7070/tcp", secret: secret, stop: syscall.SIGTERM,
			env: []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secret, "VGW_VIRTUAL_DOMAIN=" + domain},
			// The sidecar keeps metadata in files: not every file system
			// has extended attributes.
			folders: []string{"data", "metadata"},
			args: func(addr string, folders []string) []string {
				return []string{"--port", addr, "--quiet", "posix", "--sidecar", folders[1], folders[0]}
			},
		}
		return choose(ctx, s.cfg.Log, server.title, s.cfg.Getenv("DEVSTACK"), s.s3Ways(server))
	})
}

const (
	// accessKey is the root user's name on servers started here.
	accessKey = "devstack"

	// domain is theirs too. No DNS knows it (RFC 6761).
	domain = "s3.test"
)

// s3Server is an S3 server that can be started in a container or as a process.
type s3Server struct {
	name, title   string
	image, module string
	port          string
	secret        string
	stop          syscall.Signal
	env           []string
	folders       []string
	args          func(addr string, folders []string) []string
}

func (v s3Server) at(addr string) S3 {
	return S3{Name: v.name, Endpoint: "http://" + addr, Region: defaultRegion, AccessKey: accessKey, SecretKey: v.secret, PathStyle: true, Domain: domain}
}

func (s *Stack) s3Ways(server s3Server) []way[S3] {
	return []way[S3]{
		{kind: forceDocker, start: func(ctx context.Context) (S3, string, error) {
			return s.dockerS3(ctx, server)
		}},
		{kind: forceLocal, start: func(ctx context.Context) (S3, string, error) {
			program, err := lookPath(server.name, s.cfg.Getenv("PATH"))
			if err != nil {
				return S3{}, "", err
			}
			return s.localS3(ctx, server, program)
		}},
		{kind: forceLocal, start: func(ctx context.Context) (S3, string, error) {
			program, err := s.builtProgram(ctx, server.name, server.module)
			if err != nil {
				return S3{}, "", err
			}
			return s.localS3(ctx, server, program)
		}},
	}
}

// namedS3 is the server that S3_ENDPOINT names, with the SDK's credentials.
func (s *Stack) namedS3(ctx context.Context, endpoint string) (S3, string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return S3{}, "", fmt.Errorf("S3_ENDPOINT=%q is not a URL", endpoint)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return S3{}, "", fmt.Errorf("S3_ENDPOINT is set, but: %w", err)
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return S3{}, "", fmt.Errorf("S3_ENDPOINT is set, but there are no credentials: %w", err)
	}
	server := S3{
		Name: "minio", Endpoint: endpoint, Region: s.env("S3_REGION", cfg.Region),
		AccessKey: keys.AccessKeyID, SecretKey: keys.SecretAccessKey, SessionToken: keys.SessionToken,
		PathStyle: s.cfg.Getenv("S3_USE_PATH_STYLE") != "false",
	}
	if server.Region == "" {
		server.Region = defaultRegion
	}
	if err := server.answers(ctx); err != nil {
		return S3{}, "", fmt.Errorf("S3_ENDPOINT is set, but: %w", err)
	}
	return server, "the server at " + u.Host + ", because S3_ENDPOINT names it", nil
}

func (s *Stack) dockerS3(ctx context.Context, server s3Server) (S3, string, error) {
	env := map[string]string{}
	for _, pair := range server.env {
		key, value, _ := strings.Cut(pair, "=")
		env[key] = value
	}
	folders := map[string]string{}
	var paths []string
	for _, folder := range server.folders {
		folders["/"+folder] = s.volume(server.name + "-" + folder)
		paths = append(paths, "/"+folder)
	}
	port, _, _ := strings.Cut(server.port, "/")
	addr, err := s.runContainer(ctx, containerSpec{
		image: server.image, port: server.port, env: env, command: server.args(":"+port, paths),
		folders: folders, volumes: s.cfg.Data != "",
	}, func(ctx context.Context, addr string) error { return server.at(addr).answers(ctx) })
	if err != nil {
		return S3{}, "", err
	}
	return server.at(addr), fmt.Sprintf("container of %s at %s", server.image, addr), nil
}

func (s *Stack) localS3(ctx context.Context, server s3Server, program string) (S3, string, error) {
	owner, err := s.own(ctx)
	if err != nil {
		return S3{}, "", err
	}
	var folders []string
	for _, folder := range server.folders {
		dir, err := s.dataFor(owner, server.name+"-"+folder, nil)
		if err != nil {
			return S3{}, "", err
		}
		folders = append(folders, dir)
	}
	addr, err := s.runProcess(ctx, localServer{
		name: server.name, program: program, env: server.env, stop: server.stop,
		args:    func(addr string) []string { return server.args(addr, folders) },
		answers: func(ctx context.Context, addr string) error { return server.at(addr).answers(ctx) },
	})
	if err != nil {
		return S3{}, "", err
	}
	return server.at(addr), fmt.Sprintf("local process of %s at %s", program, addr), nil
}

// lookPath finds a program on the given PATH.
func lookPath(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if program := filepath.Join(dir, name); executable(program) {
			return program, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH", name)
}

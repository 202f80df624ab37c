package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

const (
	// idleStreamCount is how many streams are open, each of a workspace of its own.
	idleStreamCount = 10_000

	// idlePeriod is how long the idle service is watched: two heartbeats of each
	// stream.
	idlePeriod = 30 * time.Second

	// idleAddresses is how many loopback addresses the clients share, so that there
	// are ports enough for several runs.
	idleAddresses = 4
)

// BenchmarkIdleStreams reports what idle feed streams cost the service: resident
// memory a stream, on top of what the service held before, and the share of a
// core that it uses while nothing happens. Beside it stands what the kernel alone
// takes for as many signs of life, written in one go; over loopback, either
// contains the receiving end.
//
//	go test -run '^$' -bench IdleStreams -benchtime 1x ./test/bench
func BenchmarkIdleStreams(b *testing.B) {
	for _, notify := range []string{"on", "off"} {
		b.Run("notify="+notify, func(b *testing.B) {
			database := devstack.Database(b)
			s := start(b, "DATABASE_URL="+database, "FEED_NOTIFY="+notify)
			parties := makeParties(b, database, idleStreamCount)
			warm := s.openStreams(b, parties[:100])
			for i, fd := range warm {
				_ = unix.Close(fd)
				warm[i] = 0
			}
			before := s.status(b, "VmRSS")
			conns := s.openStreams(b, parties)
			opened := s.status(b, "VmRSS")
			cpu := s.cpu(b)
			idle := time.NewTimer(idlePeriod)
			<-idle.C
			b.ReportMetric((s.cpu(b)-cpu).Seconds()/idlePeriod.Seconds()*100, "%core")
			b.ReportMetric(bareHeartbeats(b, 2*idleStreamCount).Seconds()/idlePeriod.Seconds()*100, "bare-%core")
			b.ReportMetric(float64(opened-before)/idleStreamCount, "B/stream-opened")
			b.ReportMetric(float64(s.status(b, "VmRSS")-before)/idleStreamCount, "B/stream")
			b.ReportMetric(0, "ns/op") // the time is that of waiting
			s.checkStreams(b, parties, conns)
		})
	}
}

// party is a workspace with its token.
type party struct{ id, token string }

// bareHeartbeats writes n signs of life over loopback connections and returns the
// time of a core that it took.
func bareHeartbeats(b *testing.B, n int) time.Duration {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	addr := listener.Addr().(*net.TCPAddr).AddrPort()
	conns := make([]syscall.RawConn, 1000)
	for i := range conns {
		fd, err := dialRaw(addr, i)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		accepted, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = accepted.Close() }()
		if conns[i], err = accepted.(*net.TCPConn).SyscallConn(); err != nil {
			b.Fatal(err)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	for i := range n {
		if err := conns[i%len(conns)].Write(func(fd uintptr) bool {
			_, err = unix.Write(int(fd), []byte(": ping\n\n"))
			return true
		}); err != nil {
			b.Fatal(err)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return used() - before
}

// makeParties inserts n workspaces at once.
func makeParties(b *testing.B, database string, n int) []party {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), database)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
	parties, ids, tokens := make([]party, n), make([]string, n), make([]string, n)
	for i := range parties {
		ids[i], tokens[i] = uuid.NewString(), uuid.NewString()
		parties[i] = party{ids[i], tokens[i]}
	}
	if _, err := conn.Exec(b.Context(), `INSERT INTO workspaces (id, name, delivery_mode, status)
		SELECT id::uuid, id, 'poll', 'online' FROM unnest($1::text[]) id`, ids); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), `INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix)
		SELECT id::uuid, sha256(convert_to(token, 'UTF8')), left(token, 8) FROM unnest($1::text[], $2::text[]) t (id, token)`, ids, tokens); err != nil {
		b.Fatal(err)
	}
	// Feeds that have seen something, as they would have.
	if _, err := conn.Exec(b.Context(), `INSERT INTO activity_feeds (workspace_id, last_seq) SELECT id::uuid, 1 FROM unnest($1::text[]) id`, ids); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), `INSERT INTO activity_logs (workspace_id, seq, activity_type) SELECT id::uuid, 1, 'agent_log' FROM unnest($1::text[]) id`, ids); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), `ANALYZE`); err != nil {
		b.Fatal(err)
	}
	return parties
}

// openStreams opens a stream for each party, on a connection of its own, and
// returns once all have begun. Connections are bare descriptors, so that nothing
// on this side wakes up for what comes through them: over loopback, the kernel
// would charge that to the service.
func (s *service) openStreams(b *testing.B, parties []party) []int {
	b.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < uint64(len(parties))+500 {
		b.Fatalf("RLIMIT_NOFILE is %d at most, %v; want %d", limit.Max, err, len(parties)+500)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	conns := make([]int, len(parties))
	b.Cleanup(func() {
		for _, fd := range conns {
			if fd > 0 {
				_ = unix.Close(fd)
			}
		}
	})
	addr, err := netip.ParseAddrPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range concurrency {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(parties); i = int(next.Add(1)) - 1 {
				var err error
				if conns[i], err = openStream(addr, i, parties[i]); err != nil {
					b.Errorf("stream %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

// dialRaw connects from one of idleAddresses. Reads end after a while.
func dialRaw(addr netip.AddrPort, i int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		return fd, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i%idleAddresses)}}); err != nil {
		return fd, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
}

func openStream(addr netip.AddrPort, i int, p party) (fd int, err error) {
	if fd, err = dialRaw(addr, i); err != nil {
		return fd, err
	}
	if _, err := unix.Write(fd, fmt.Appendf(nil, "GET /workspaces/%s/activity/stream HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", p.id, addr, p.token)); err != nil {
		return fd, err
	}
	head, err := readUntil(fd, "retry: 2000\n\n")
	if err == nil && !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		err = fmt.Errorf("answer %q", head)
	}
	return fd, err
}

// readUntil reads until text has come.
func readUntil(fd int, text string) (string, error) {
	var got []byte
	for buf := make([]byte, 2048); !bytes.Contains(got, []byte(text)); {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) { // as reads with a timeout are not restarted
			continue
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			return "", fmt.Errorf("after %q: %w", got, err)
		}
		got = append(got, buf[:n]...)
	}
	return string(got), nil
}

// checkStreams fails unless every stream is alive: each has shown signs of life,
// and one that something comes for gets it.
func (s *service) checkStreams(b *testing.B, parties []party, conns []int) {
	b.Helper()
	for i, fd := range conns {
		if _, err := readUntil(fd, ": ping\n"); err != nil {
			b.Fatalf("stream %d: %v", i, err)
		}
	}
	last := parties[len(parties)-1]
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/workspaces/"+last.id+"/activity", strings.NewReader(`{"activity_type":"agent_log","summary":"hello"}`))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+last.token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	_ = response.Body.Close()
	if _, err := readUntil(conns[len(conns)-1], `"summary":"hello"`); err != nil {
		b.Fatalf("the last stream: %v", err)
	}
}

// status is a size in /proc/PID/status, in bytes.
func (s *service) status(b *testing.B, field string) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatalf("no %s in /proc/PID/status", field)
	return 0
}

// cpu is the time that the service has used, in user and kernel mode.
func (s *service) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

package handlers

import (
	"crypto/sha256"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxCallers bounds the memory of the rate limit: about 200 bytes each.
const maxCallers = 20_000

// limiter gives each caller a bucket of one minute's requests that refills
// evenly. Callers are bearers, else addresses.
type limiter struct {
	perMinute int

	mu      sync.Mutex
	buckets map[[sha256.Size]byte]*bucket
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

// newLimiter returns nil, which limits nothing, for a negative rate.
func newLimiter(perMinute int) *limiter {
	if perMinute < 0 {
		return nil
	}
	return &limiter{perMinute: perMinute, buckets: make(map[[sha256.Size]byte]*bucket)}
}

// take takes one request from the caller's bucket. It returns how many are
// left and, when there was none, how long until there is one.
func (l *limiter) take(key [sha256.Size]byte, now time.Time) (left int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		l.makeRoom(now)
		b = &bucket{Limiter: rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)}
		l.buckets[key] = b
	}
	b.used = now
	if b.AllowN(now, 1) {
		return int(b.TokensAt(now)), 0
	}
	missing := 1 - b.TokensAt(now)
	return 0, time.Duration(missing / float64(b.Limit()) * float64(time.Second))
}

// makeRoom drops callers when there are too many: first those whose bucket is
// full again, which forgets nothing, then any.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxCallers {
		return
	}
	for k, b := range l.buckets {
		if now.Sub(b.used) >= time.Minute {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < maxCallers {
			return
		}
		delete(l.buckets, k)
	}
}

// limitRate answers 429 where a caller asks too often.
func (s *Server) limitRate(next http.Handler) http.Handler {
	if s.limiter == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := "addr " + clientAddr(r)
		if token, ok := bearer(r); ok {
			key = "bearer " + token
		}
		left, wait := s.limiter.take(sha256.Sum256([]byte(key)), time.Now())
		h := w.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(s.limiter.perMinute))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(left))
		if wait > 0 {
			seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
			h.Set("X-RateLimit-Reset", seconds)
			h.Set("Retry-After", seconds)
			s.writeError(w, r, errRateLimited)
			return
		}
		next.ServeHTTP(w, r)
	})
}

package inbox

import (
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/storage"
)

// queue works on files, a few at a time, in the order they came; one that failed
// comes again after a pause.
type queue struct {
	limit int
	// work makes one attempt. again: it failed, and may be repeated after at least
	// the given time.
	work func(storage.FileID) (after time.Duration, again bool)
	tune tuning

	running sync.WaitGroup
	mu      sync.Mutex
	jobs    map[storage.FileID]*job // all that are not done
	ready   []*job
	active  int
	stopped bool
}

// job is a file to work on.
type job struct {
	id      storage.FileID
	number  int64         // of the row that announced it
	attempt chan struct{} // closed when the attempt has ended; nil while it waits for its time
	pause   *backoff.ExponentialBackOff
	timer   *time.Timer
}

func newQueue(limit int, tune tuning, work func(storage.FileID) (time.Duration, bool)) *queue {
	return &queue{limit: limit, work: work, tune: tune, jobs: map[storage.FileID]*job{}}
}

// add puts a file at the end, unless it is there already.
func (q *queue) add(id storage.FileID, number int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs[id] != nil || q.stopped {
		return
	}
	j := &job{id: id, number: number, pause: &backoff.ExponentialBackOff{
		InitialInterval: q.tune.firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: q.tune.longestPause,
	}}
	q.jobs[id] = j
	q.enqueue(j)
}

func (q *queue) enqueue(j *job) {
	if q.stopped || j.attempt != nil {
		return
	}
	j.attempt = make(chan struct{})
	q.ready = append(q.ready, j)
	q.start()
}

func (q *queue) start() {
	for q.active < q.limit && len(q.ready) > 0 && !q.stopped {
		j := q.ready[0]
		q.ready = q.ready[1:]
		q.active++
		q.running.Go(func() { q.run(j) })
	}
}

func (q *queue) run(j *job) {
	after, again := q.work(j.id)
	q.mu.Lock()
	defer q.mu.Unlock()
	close(j.attempt)
	j.attempt = nil
	q.active--
	switch {
	case !again:
		delete(q.jobs, j.id)
	case !q.stopped:
		j.timer = time.AfterFunc(max(j.pause.NextBackOff(), after), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.enqueue(j)
		})
	}
	q.start()
}

// wake ends all pauses: what made the jobs fail is over.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.attempt == nil && j.timer != nil && j.timer.Stop() {
			q.enqueue(j)
		}
	}
}

// attempts is the ends of the attempts that are under way or about to be, for
// files that were announced before the row of that number.
func (q *queue) attempts(before int64) map[storage.FileID]<-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := map[storage.FileID]<-chan struct{}{}
	for id, j := range q.jobs {
		if j.attempt != nil && j.number < before {
			all[id] = j.attempt
		}
	}
	return all
}

// left is how many files are not done.
func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// stop waits for what runs and begins nothing more.
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	for _, j := range q.jobs {
		if j.timer != nil {
			j.timer.Stop()
		}
	}
	q.mu.Unlock()
	q.running.Wait()
}

package sweeper

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of contract 9.1; all outcomes exist from the start.
type metrics struct {
	acked, expired, failed prometheus.Counter
	objects, unfinished    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (metrics, error) {
	swept := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "molecule_pending_uploads_swept_total",
		Help: "Rows of pending uploads removed, by outcome acked or expired; error counts failed sweeps.",
	}, []string{"outcome"})
	orphans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pendinguploads_orphans_removed_total",
		Help: "Leftovers of crashed or cancelled uploads removed from the object store, by kind object or unfinished_upload.",
	}, []string{"kind"})
	var err error
	if reg != nil {
		if swept, err = register(reg, swept); err == nil {
			orphans, err = register(reg, orphans)
		}
	}
	return metrics{
		acked: swept.WithLabelValues("acked"), expired: swept.WithLabelValues("expired"), failed: swept.WithLabelValues("error"),
		objects: orphans.WithLabelValues("object"), unfinished: orphans.WithLabelValues("unfinished_upload"),
	}, err
}

// register returns the counters that are registered: a sweeper that is started
// again, or beside another, goes on with theirs.
func register(reg prometheus.Registerer, c *prometheus.CounterVec) (*prometheus.CounterVec, error) {
	err := reg.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if existing, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
			return existing, nil
		}
	}
	return c, err
}

func (m metrics) count(r Result, err error) {
	m.acked.Add(float64(r.Acked))
	m.expired.Add(float64(r.Expired))
	m.objects.Add(float64(r.Orphans.Objects))
	m.unfinished.Add(float64(r.Orphans.Uploads))
	if err != nil {
		m.failed.Inc()
	}
}

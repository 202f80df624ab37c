package handlers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// feedMetrics are the series about those who wait for a feed.
type feedMetrics struct {
	streams prometheus.Gauge
	waits   prometheus.Gauge
	slow    prometheus.Counter
}

func newFeedMetrics(reg prometheus.Registerer, watch *metadata.FeedWatch) (*feedMetrics, error) {
	m := &feedMetrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pendinguploads_feed_streams_active",
			Help: "Feed streams open now.",
		}),
		waits: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pendinguploads_feed_waits_active",
			Help: "Feed requests that may wait, open now.",
		}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pendinguploads_feed_slow_consumers_total",
			Help: "Feed streams ended because the client did not take what was written.",
		}),
	}
	listening := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pendinguploads_feed_listening",
		Help: "1 while notifications of the database can arrive, 0 while feeds are polled alone.",
	}, func() float64 {
		if watch != nil && watch.Listening() {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.streams, m.waits, m.slow, listening} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

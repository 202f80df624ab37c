package handlers

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the series of contract 9.1 that HTTP feeds.
type metrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.CounterVec
	websockets prometheus.Gauge

	ackMismatches     prometheus.Counter
	contentMismatches prometheus.Counter
	quotaRefusals     prometheus.Counter
	deliveries        *prometheus.CounterVec

	text http.Handler
}

func newMetrics(reg *prometheus.Registry) (*metrics, error) {
	labels := []string{"method", "path", "status"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "molecule_http_requests_total",
			Help: "HTTP requests answered.",
		}, labels),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "molecule_http_request_duration_seconds_total",
			Help: "Sum of the time HTTP requests took.",
		}, labels),
		websockets: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "molecule_websocket_connections_active",
			Help: "WebSocket connections open now.",
		}),
		ackMismatches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pendinguploads_ack_mismatches_total",
			Help: "Acks refused because the workspace holds other content than was staged.",
		}),
		contentMismatches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pendinguploads_content_mismatches_total",
			Help: "Fetches cut off because the stored content is not what was staged.",
		}),
		quotaRefusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pendinguploads_quota_refusals_total",
			Help: "Uploads refused because their workspace has as much waiting as it may have.",
		}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pendinguploads_content_deliveries_total",
			Help: "Contents handed over: as a body, whole or its end (proxy; signed at a URL of the service), or as an address in a reply (url) or a redirect.",
		}, []string{"how"}),
		text: promhttp.HandlerFor(reg, promhttp.HandlerOpts{DisableCompression: true}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.websockets, m.ackMismatches, m.contentMismatches, m.quotaRefusals, m.deliveries} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	for _, how := range []delivery{byProxy, byURL, byRedirect, bySigned} {
		m.deliveries.WithLabelValues(string(how))
	}
	return m, nil
}

// observe counts one request. Status 0 is one whose connection was cut before
// anything was answered.
func (m *metrics) observe(method, path string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // clients can invent methods; series must stay few
	}
	values := []string{method, path, strconv.Itoa(status)}
	m.requests.WithLabelValues(values...).Inc()
	m.seconds.WithLabelValues(values...).Add(took.Seconds())
}

// metricsType is the exact type that scrapers and scripts expect.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// serveMetrics writes the text format whatever the scraper would negotiate.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) error {
	r = r.Clone(r.Context())
	r.Header.Del("Accept")
	s.metrics.text.ServeHTTP(&fixedType{ResponseWriter: w, contentType: metricsType}, r)
	return nil
}

// fixedType overrides the Content-Type of successful replies.
type fixedType struct {
	http.ResponseWriter
	contentType string
	wrote       bool
}

func (f *fixedType) WriteHeader(status int) {
	f.wrote = true
	if status == http.StatusOK {
		f.Header().Set("Content-Type", f.contentType)
	}
	f.ResponseWriter.WriteHeader(status)
}

func (f *fixedType) Write(p []byte) (int, error) {
	if !f.wrote {
		f.WriteHeader(http.StatusOK)
	}
	return f.ResponseWriter.Write(p)
}

func (f *fixedType) Unwrap() http.ResponseWriter { return f.ResponseWriter }

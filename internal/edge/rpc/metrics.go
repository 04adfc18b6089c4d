package rpc

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// clientVersionsMax bounds the client versions that are counted apart. Clients name their own version in a header,
// so without a bound they could make series without end; a cluster sees a handful.
const clientVersionsMax = 256

// metrics holds every counter of this edge, resolved once: counting a request looks up no label.
type metrics struct {
	started, handled, received, sent *prometheus.CounterVec
	duration                         *prometheus.HistogramVec // nil unless metrics are extensive
	sentBytes, receivedBytes         prometheus.Counter
	streamFailures, clientRequests   *prometheus.CounterVec
	watchSend, watchControl          prometheus.Histogram
	watchPerEvent                    prometheus.Histogram

	methods map[string]*method // by full name; fixed once the server is built
	unary   versionCounters
	stream  versionCounters
}

// method counts one RPC method.
type method struct {
	name                    string // "/service/method"
	started, received, sent prometheus.Counter
	handled                 [codes.Unauthenticated + 1]prometheus.Counter
	duration                prometheus.Observer
	wireError               func(error) error // what its handler's errors look like to a client
	rule                    rule              // who may call
	ruled                   bool              // there is a rule
}

// versionCounters counts requests of one kind by the version that clients say they are.
type versionCounters struct {
	kind string
	vec  *prometheus.CounterVec
	mu   sync.RWMutex
	by   map[string]prometheus.Counter // guarded by mu
}

func newMetrics(r prometheus.Registerer, extensive bool) *metrics {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	m := &metrics{
		started:        counters("grpc_server_started_total", "Total number of RPCs started on the server.", labels...),
		handled:        counters("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", append(labels, "grpc_code")...),
		received:       counters("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.", labels...),
		sent:           counters("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.", labels...),
		sentBytes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_network_client_grpc_sent_bytes_total", Help: "The total number of bytes sent to grpc clients."}),
		receivedBytes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_network_client_grpc_received_bytes_total", Help: "The total number of bytes received from grpc clients."}),
		streamFailures: counters("etcd_network_server_stream_failures_total", "The total number of stream failures from the local server.", "Type", "API"),
		clientRequests: counters("etcd_server_client_requests_total", "The total number of client requests per client version.", "type", "client_api_version"),
		watchSend:      sendHistogram("watch_stream_duration_seconds", "The duration in seconds of sending one watch response."),
		watchPerEvent:  sendHistogram("watch_stream_duration_per_event_seconds", "The duration in seconds of sending one watch response, per event."),
		watchControl:   sendHistogram("control_stream_duration_seconds", "The duration in seconds of sending one created or canceled response."),
		methods:        make(map[string]*method),
	}
	m.unary = versionCounters{kind: "unary", vec: m.clientRequests, by: make(map[string]prometheus.Counter)}
	m.stream = versionCounters{kind: "stream", vec: m.clientRequests, by: make(map[string]prometheus.Counter)}
	all := []prometheus.Collector{
		m.started, m.handled, m.received, m.sent, m.sentBytes, m.receivedBytes,
		m.streamFailures, m.clientRequests, m.watchSend, m.watchPerEvent, m.watchControl,
		// Progress is sent by the watch hub between responses: the series is there for dashboards that ask for it.
		sendHistogram("progress_duration_seconds", "The duration in seconds of asking for progress notifications."),
	}
	if extensive {
		m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "grpc_server_handling_seconds",
			Help:    "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
			Buckets: prometheus.DefBuckets,
		}, labels)
		all = append(all, m.duration)
	}
	if r != nil {
		r.MustRegister(all...)
	}
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// sendHistogram's buckets run from 1 ms to 8.192 s, doubling.
func sendHistogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "etcd_debugging_server_watch_send_loop_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	})
}

// add resolves the counters of one service, before the server serves.
func (m *metrics) add(d *grpc.ServiceDesc, wireError func(error) error) {
	for _, u := range d.Methods {
		m.method("unary", d.ServiceName, u.MethodName).wireError = wireError
	}
	for _, s := range d.Streams {
		kind := "bidi_stream"
		switch {
		case !s.ClientStreams:
			kind = "server_stream"
		case !s.ServerStreams:
			kind = "client_stream"
		}
		m.method(kind, d.ServiceName, s.StreamName).wireError = wireError
	}
}

func (m *metrics) method(kind, service, name string) *method {
	full := "/" + service + "/" + name
	x := &method{
		name:     full,
		started:  m.started.WithLabelValues(kind, service, name),
		received: m.received.WithLabelValues(kind, service, name),
		sent:     m.sent.WithLabelValues(kind, service, name),
	}
	for c := range x.handled {
		x.handled[c] = m.handled.WithLabelValues(kind, service, name, codes.Code(c).String())
	}
	if m.duration != nil {
		x.duration = m.duration.WithLabelValues(kind, service, name)
	}
	x.rule, x.ruled = ruleOf(full)
	m.methods[full] = x
	return x
}

// done counts a finished call.
func (x *method) done(err error, took time.Duration) {
	c := codeOf(err)
	if int(c) >= len(x.handled) {
		c = codes.Unknown
	}
	x.handled[c].Inc()
	if x.duration != nil {
		x.duration.Observe(took.Seconds())
	}
}

// codeOf is the code that grpc answers for err.
func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

func (c *versionCounters) inc(version string) {
	c.mu.RLock()
	n, ok := c.by[version]
	c.mu.RUnlock()
	if !ok {
		n = c.resolve(version)
	}
	n.Inc()
}

func (c *versionCounters) resolve(version string) prometheus.Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.by) >= clientVersionsMax {
		version = "other"
	}
	// The string may be a part of a buffer that is used again.
	version = strings.Clone(version)
	n := c.vec.WithLabelValues(c.kind, version)
	c.by[version] = n
	return n
}

// clientGone says whether a stream's error came from the client's going away, which is no failure of the server's.
func clientGone(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return true
	}
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded:
		return true
	case codes.Unavailable:
		// What a TLS connection and a reset stream say.
		return s.Message() == "client disconnected" ||
			strings.HasPrefix(s.Message(), "stream error: ") && strings.HasSuffix(s.Message(), "; CANCEL")
	}
	return false
}

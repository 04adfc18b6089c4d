package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/listen"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
)

// expiryWarning is how long before its end a certificate is warned of at the start.
const expiryWarning = 30 * 24 * time.Hour

// materials are what the client ports and the peer port, and calls to members, make their TLS of.
type materials struct {
	client *tlsconf.Material // nil where no client port takes TLS
	peer   *tlsconf.Material
}

// openMaterials reads the files of certificates, or makes those of --auto-tls, and tells what is used and what is ignored.
func openMaterials(cfg *config.Config, log *zap.Logger) (*materials, error) {
	s, l := &cfg.Security, cfg.Listen
	clients := slices.Concat(l.Client, l.ClientHTTP, l.Metrics)
	warnTLS(log, "client-url", "--client-cert-auth", s.Client, slices.Concat(l.Client, l.ClientHTTP))
	warnTLS(log, "peer-url", "--peer-client-cert-auth", s.Peer, l.Peer)
	m := &materials{}
	var err error
	if config.WithTLS(clients) {
		if m.client, err = openMaterial(cfg, s.Client, "client", clients, log); err != nil {
			return nil, err
		}
	}
	// Members that are called may take TLS where this one does not.
	m.peer, err = openMaterial(cfg, s.Peer, "peer", l.Peer, log)
	return m, err
}

func openMaterial(cfg *config.Config, t config.TLS, name string, urls types.URLs, log *zap.Logger) (*tlsconf.Material, error) {
	o := tlsconf.Options{
		CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCertFile: t.ClientCertFile, ClientKeyFile: t.ClientKeyFile, CAFile: t.CAFile,
		ClientCertAuth: t.CertAuth, CRLFile: t.CRLFile, AllowedCNs: t.AllowedCNs, AllowedHostnames: t.AllowedHostnames,
		Limits: cfg.Security.Limits, Logger: log,
	}
	switch {
	case t.Auto && t.CertFile != "":
		log.Warn("ignoring " + name + " auto TLS since certs given")
	case t.Auto && config.WithTLS(urls):
		var addresses []string
		for _, u := range urls {
			addresses = append(addresses, u.Host)
		}
		var made bool
		var err error
		dir := filepath.Join(cfg.Member.DataDir, "fixtures", name)
		if o.CertFile, o.KeyFile, made, err = tlsconf.SelfSign(dir, addresses, cfg.Security.SelfSignedYears, time.Now()); err != nil {
			return nil, err
		}
		if made {
			log.Warn("automatically generate certificates", zap.String("path", dir), zap.Uint("years", cfg.Security.SelfSignedYears))
		}
		o.SelfSigned = true
	}
	m, err := tlsconf.Open(o)
	if err != nil {
		return nil, fmt.Errorf("TLS of the %s URLs: %w", name, err)
	}
	for _, e := range m.Expiries() {
		if time.Until(e.NotAfter) < expiryWarning {
			log.Warn("a certificate ends soon or has ended", zap.String("file", e.File), zap.String("subject", e.Subject), zap.Time("not-after", e.NotAfter))
		}
	}
	if config.WithTLS(urls) {
		log.Info("starting with "+name+" TLS", zap.String("cert", o.CertFile), zap.String("key", o.KeyFile),
			zap.String("client-cert", o.ClientCertFile), zap.String("client-key", o.ClientKeyFile), zap.String("trusted-ca", o.CAFile),
			zap.Bool("client-cert-auth", o.ClientCertAuth), zap.String("crl-file", o.CRLFile), zap.Uint16s("cipher-suites", o.Limits.CipherSuites))
	}
	return m, nil
}

// warnTLS tells of settings that protect less than they seem to.
func warnTLS(log *zap.Logger, kind, asking string, t config.TLS, urls types.URLs) {
	for _, u := range urls {
		switch {
		case config.WithTLS(types.URLs{u}):
			continue
		case t.CertFile != "":
			log.Warn("scheme is http or unix while key and cert files are present; ignoring key and cert files", zap.String(kind, u.String()))
		}
		if t.CertAuth {
			log.Warn("scheme is http or unix while "+asking+" is enabled; ignoring client cert auth for this URL", zap.String(kind, u.String()))
		}
	}
	asks := t.CertAuth || t.CAFile != ""
	if config.WithTLS(urls) && !asks && (t.CRLFile != "" || len(t.AllowedCNs)+len(t.AllowedHostnames) > 0) {
		log.Warn("nobody who connects is asked for a certificate: allowed names and revocation lists do not count for them", zap.String("to-ask", asking))
	}
	if t.CertAuth && t.CAFile == "" {
		log.Warn("certificates are checked against the authorities of this system: every certificate that they issued is let in", zap.String("set-by", asking))
	}
}

// rejected logs the connections that do not get past their handshake, in etcd's words: once a minute each machine and reason.
func rejected(log *zap.Logger, endpoint string) func(listen.Refusal) {
	seldom := logging.NewSeldom(clock.System)
	return func(r listen.Refusal) {
		from := r.Remote.String()
		if host, _, err := net.SplitHostPort(from); err == nil {
			from = host
		}
		why := r.Err
		var op *net.OpError
		if errors.As(why, &op) {
			why = op.Err // it names ports, which are others each time
		}
		if !seldom.Due(from + " " + r.State.ServerName + " " + why.Error()) {
			return
		}
		fields := []zap.Field{zap.Stringer("remote-addr", r.Remote), zap.String("server-name", r.State.ServerName)}
		shown := r.State.PeerCertificates
		var unverified *tls.CertificateVerificationError
		if errors.As(r.Err, &unverified) {
			shown = unverified.UnverifiedCertificates
		}
		if len(shown) > 0 {
			fields = append(fields, zap.Stringers("ip-addresses", shown[0].IPAddresses), zap.Strings("dns-names", shown[0].DNSNames))
		}
		log.Warn("rejected connection on "+endpoint+" endpoint", append(fields, zap.Error(r.Err))...)
	}
}

// handshaken are the credentials of connections whose handshake is done before gRPC sees them. Some may be in plain text.
type handshaken struct {
	credentials.TransportCredentials
}

// securely adds the credentials where there is TLS.
func (m *materials) securely(options []grpc.ServerOption) []grpc.ServerOption {
	if m.client == nil {
		return options
	}
	return append(options, grpc.Creds(handshaken{insecure.NewCredentials()}))
}

func (h handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	state, ok := listen.State(c)
	if !ok {
		return h.TransportCredentials.ServerHandshake(c)
	}
	return c, credentials.TLSInfo{State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }

// expiries shows when the certificates in use end.
type expiries struct {
	*materials
	desc *prometheus.Desc
}

func newExpiries(m *materials) *expiries {
	return &expiries{m, prometheus.NewDesc("keelson_tls_certificate_expiry_timestamp_seconds",
		"When a certificate in use ends, or a revocation list should have a successor, as Unix time.", []string{"port", "use", "file", "subject", "serial"}, nil)}
}

func (e *expiries) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

func (e *expiries) Collect(ch chan<- prometheus.Metric) {
	for port, m := range map[string]*tlsconf.Material{"client": e.client, "peer": e.peer} {
		if m == nil {
			continue
		}
		for _, x := range m.Expiries() {
			ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(x.NotAfter.Unix()), port, x.Use, x.File, x.Subject, x.Serial)
		}
	}
}

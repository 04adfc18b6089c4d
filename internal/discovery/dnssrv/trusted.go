package dnssrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// shakeTime bounds one handshake.
const shakeTime = 5 * time.Second

// ErrNoTLS is returned for a target that was found below a service without TLS.
var ErrNoTLS = errors.New("it is an endpoint without TLS")

// Trusted gives those targets that show a certificate which c accepts, with c.ServerName in it, in their order. Where c names
// authorities, the target's own host will do: whoever forges DNS has no certificate of theirs, while for a host of his own
// anybody gets one from the system's. It fails where no target is trusted; the error says why for each.
func Trusted(ctx context.Context, targets []Target, c *tls.Config) ([]Target, error) {
	var (
		good []Target
		errs []error
	)
	for _, t := range targets {
		err := ErrNoTLS
		if t.TLS {
			err = prove(ctx, t, c)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is not trusted: %w", t.URL(), err))
			continue
		}
		good = append(good, t)
	}
	if len(good) == 0 {
		return nil, errors.Join(errs...)
	}
	return good, nil
}

func prove(ctx context.Context, t Target, c *tls.Config) error {
	err := shake(ctx, t, c)
	var wrongName x509.HostnameError
	if c.RootCAs == nil || !errors.As(err, &wrongName) {
		return err
	}
	c = c.Clone()
	c.ServerName = t.Host
	if shake(ctx, t, c) == nil {
		return nil
	}
	return err
}

func shake(ctx context.Context, t Target, c *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", t.Address())
	if err != nil {
		return err
	}
	return conn.Close()
}

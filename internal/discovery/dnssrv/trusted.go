package dnssrv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// shakeTime bounds one handshake.
const shakeTime = 5 * time.Second

// ErrNoTLS is returned for a target that was found below a service without TLS.
var ErrNoTLS = errors.New("it is an endpoint without TLS")

// Trusted gives those targets that show a certificate which c accepts, with c.ServerName in it, in their order. It fails where
// none does; the error says why for each.
func Trusted(ctx context.Context, targets []Target, c *tls.Config) ([]Target, error) {
	var (
		good []Target
		errs []error
	)
	for _, t := range targets {
		err := ErrNoTLS
		if t.TLS {
			err = shake(ctx, t, c)
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

func shake(ctx context.Context, t Target, c *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", t.Address())
	if err != nil {
		return err
	}
	return conn.Close()
}

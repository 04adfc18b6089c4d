package token

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// pollEvery is how soon a changed key file is seen. It is read whole: a time stamp tells nothing of a file that is
	// swapped through a symbolic link, as mounted secrets are.
	pollEvery = 5 * time.Second
	// retiredMax bounds the keys that a signature is compared with.
	retiredMax = 4
)

// Run reads the key files again and again until the context ends. Where they cannot be read or do not fit together, half
// changed for instance, the keys stay as they were, and the log says so once.
func (j *JWT) Run(ctx context.Context) {
	t := j.clock.NewTicker(pollEvery)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		changed, err := j.reload()
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			j.log.Warn("the JWT keys could not be read again; the ones before stay in use", zap.Error(err),
				zap.String("pub-key", j.public), zap.String("priv-key", j.private))
		}
		if changed {
			j.log.Info("the JWT keys changed; tokens under the ones before stay good for one ttl", zap.Duration("ttl", j.ttl),
				zap.String("pub-key", j.public), zap.String("priv-key", j.private))
		}
	}
}

// reload swaps the keys if the files changed. One goroutine calls it.
func (j *JWT) reload() (changed bool, err error) {
	k, err := j.load()
	if err != nil {
		return false, err
	}
	cur, now := j.keys.Load(), j.clock.Now()
	if k.content == cur.content {
		return false, nil
	}
	old := []retired{{cur.verify, now.Add(j.ttl)}}
	for _, r := range cur.retired {
		if now.Before(r.until) && len(old) < retiredMax {
			old = append(old, r)
		}
	}
	j.keys.Store(newKeySet(k, old...))
	return true, nil
}

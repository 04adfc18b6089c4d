//go:build !linux

package health

import "errors"

// fileDescriptors is not known elsewhere; the metrics stay 0, as etcd's do.
func fileDescriptors() (used, limit uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}

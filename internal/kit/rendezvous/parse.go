package rendezvous

import (
	"fmt"
	"strconv"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// parse reads a registration's text.
func parse(text string) (string, types.URLs, error) {
	m, err := types.NewURLsMap(text)
	if err != nil {
		return "", nil, fmt.Errorf("%w: a member registered as %q: %w", ErrInvalidURL, text, err)
	}
	if len(m) == 1 {
		for name, urls := range m {
			return name, urls, nil
		}
	}
	return "", nil, fmt.Errorf("%w: a member registered as %q, which is not one NAME=URL", ErrInvalidURL, text)
}

func parseSize(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || n > SizeMax {
		return 0, fmt.Errorf("%w: %.40q is no number of members from 1 to %d: make a new token", ErrBadSize, text, SizeMax)
	}
	return int(n), nil
}

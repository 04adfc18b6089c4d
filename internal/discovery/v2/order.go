package v2

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"keelson/internal/kit/rendezvous"
)

// registrations gives the founders below a token in the order of their creation. Names that begin with an underscore are the
// token's own.
func (a *answer) registrations() []rendezvous.Registration {
	nodes := slices.Clone(a.Node.Nodes)
	slices.SortStableFunc(nodes, func(x, y node) int { return cmp.Compare(x.Created, y.Created) })
	all := make([]rendezvous.Registration, 0, len(nodes))
	for _, n := range nodes {
		if id := path.Base(n.Key); !strings.HasPrefix(id, "_") {
			all = append(all, rendezvous.Registration{ID: id, Text: n.Value})
		}
	}
	return all
}

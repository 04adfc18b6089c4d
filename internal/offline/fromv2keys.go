package offline

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/state/v2store"
	"keelson/internal/state/v2tree"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// v2node is a file or directory of v2, of either kind of directory.
type v2node struct {
	v2store.Node
	// key is the v3 key that Keelson keeps it in, empty for a node of stock's tree; lease is what that is attached to.
	key   string
	lease int64
	// life is what ends first of what the node and those above it expire by, nil if none does.
	life *life
}

// life is an expiry, and its lease.
type life struct {
	at    time.Time
	lease int64
}

// conversion is what is to be written.
type conversion struct {
	nodes []v2node // files and directories, parents first
	kvs   []wire.KeyValue
	// lives are the expiries of the keys in kvs, by key, where the key is that of a file's path.
	lives map[string]*life
	// inner are Keelson's v2 keys, all of them, but for users and roles.
	inner []string
	// granted are the IDs of leases in the file.
	granted map[int64]bool
	moved   Moved
}

// plan collects the nodes and the keys that come of them.
func (d *v2dir) plan() (*conversion, error) {
	p := &conversion{lives: map[string]*life{}, granted: map[int64]bool{}}
	if err := d.stored(p); err != nil {
		return nil, err
	}
	err := d.tree.Walk(v2store.Keys, func(n v2store.Node) error {
		p.nodes = append(p.nodes, v2node{Node: n})
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.live()
	if err := d.refuse(p); err != nil {
		return nil, err
	}
	if d.NoTTL {
		p.nodes = slices.DeleteFunc(p.nodes, func(n v2node) bool { return !n.Dir && !n.Expires.IsZero() })
	}
	for _, n := range p.nodes {
		if !n.Dir && n.life != nil {
			p.lives[n.Path] = n.life
		}
	}
	if d.Transformer != "" {
		p.kvs, err = d.transform(p.nodes)
		return p, err
	}
	for _, n := range p.nodes {
		if !n.Dir {
			p.kvs = append(p.kvs, wire.KeyValue{
				Key: []byte(n.Path), Value: []byte(n.Value), Create: int64(n.Created), Mod: int64(n.Modified), Version: 1,
			})
		}
	}
	return p, nil
}

// refuse refuses what would be taken for a v2 key afterwards.
func (d *v2dir) refuse(p *conversion) error {
	for _, n := range p.nodes {
		if strings.HasPrefix(n.Path, string(d.Prefix)) {
			return fmt.Errorf("%w: %s: give Keelson another --v2-prefix than %s, here too", ErrInWay, n.Path, d.Prefix)
		}
	}
	return nil
}

// stored reads the nodes that Keelson keeps, and which leases there are.
func (d *v2dir) stored(p *conversion) error {
	f, err := store.OpenReadOnly(d.db, waitForSnapshot)
	if err != nil {
		return explainDir(d.DataDir, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	err = f.ForEach(schema.Lease, func(_, v []byte) error {
		id, _, _, err := schema.ParseLease(v)
		p.granted[id] = true
		return err
	})
	if err != nil {
		return err
	}
	all, auth := d.Prefix.All(), d.Prefix.AuthAll()
	live := map[string]wire.KeyValue{}
	err = f.LoadKeys(func(_ schema.Revision, tombstone bool, b []byte) error {
		kv, err := wire.ParseKeyValue(b)
		if err != nil || !bytes.HasPrefix(kv.Key, []byte(d.Prefix)) {
			return err
		}
		key := string(kv.Key)
		if tombstone {
			delete(live, key)
			return nil
		}
		kv.Key, kv.Value = nil, bytes.Clone(kv.Value)
		live[key] = kv
		return nil
	})
	if err != nil {
		return err
	}
	for key, kv := range live {
		if key < all.Key || key >= all.End || key >= auth.Key && key < auth.End {
			p.moved.Auth = p.moved.Auth || key >= auth.Key && key < auth.End
			continue
		}
		p.inner = append(p.inner, key)
		if at, ok := d.Prefix.Path(key); ok {
			p.nodes = append(p.nodes, nodeOf(at, key, kv))
		}
	}
	slices.Sort(p.inner)
	slices.SortFunc(p.nodes, func(a, b v2node) int { return cmp.Compare(a.Path, b.Path) })
	p.nodes = visible(p.nodes)
	return nil
}

func nodeOf(at, key string, kv wire.KeyValue) v2node {
	from := v2tree.Read(kv.Value, kv.Mod)
	n := v2node{key: key, lease: kv.Lease, Node: v2store.Node{
		Path: at, Dir: from.Dir, Value: from.Value, Created: from.Created, Modified: uint64(kv.Mod),
	}}
	if from.Expiry > 0 {
		n.Expires = time.Unix(0, from.Expiry)
	}
	return n
}

// visible leaves out what is below a directory that expired. nodes are by path, so that parents come first.
func visible(nodes []v2node) []v2node {
	dirs := map[string]bool{"/": true}
	return slices.DeleteFunc(nodes, func(n v2node) bool {
		if !dirs[path.Dir(n.Path)] {
			return true
		}
		if n.Dir {
			dirs[n.Path] = true
		}
		return false
	})
}

// live finds what ends each node. Leases that are to be made get their IDs here, the same on all members.
func (p *conversion) live() {
	above := map[string]*life{}
	for i := range p.nodes {
		n := &p.nodes[i]
		n.life = above[path.Dir(n.Path)]
		if !n.Expires.IsZero() && (n.life == nil || n.Expires.Before(n.life.at)) {
			n.life = &life{at: n.Expires, lease: n.lease}
			if n.lease == 0 {
				n.life.lease = p.leaseID(n.Modified)
			}
		}
		if n.Dir && n.life != nil {
			above[n.Path] = n.life
		}
	}
}

// leaseBase is where the IDs of made leases begin ("v2"), far from where etcd's clients and members draw theirs at random.
const leaseBase = 0x7632 << 48

// leaseID gives a free ID for the lease of the node that was modified at index.
func (p *conversion) leaseID(index uint64) int64 {
	id := int64(leaseBase | index&(1<<48-1))
	for p.granted[id] {
		id++
	}
	p.granted[id] = true
	return id
}

// leaseTTLMax is the longest TTL of a lease in seconds, etcd's.
const leaseTTLMax = 9_000_000_000

// ttl is the time until an expiry in seconds, at least one: what has expired meanwhile does so soon after a member started.
func ttl(at, now time.Time) int64 {
	return int64(min(max(math.Ceil(at.Sub(now).Seconds()), 1), leaseTTLMax))
}

// errRevision is returned where keys can't have the revisions that they come with.
var errRevision = errors.New("revisions as given are no history")

// asGiven checks that the keys can have the revisions that they come with: v2's index, as 3.4's migrate leaves it. That
// takes a store without any keys.
func asGiven(kvs []wire.KeyValue) error {
	last := int64(1)
	for _, kv := range kvs {
		if kv.Mod <= last || kv.Create < 1 || kv.Create > kv.Mod {
			return errRevision
		}
		last = kv.Mod
	}
	return nil
}

// inTurn gives the keys new revisions behind rev, one each.
func inTurn(kvs []wire.KeyValue, rev int64) {
	for i := range kvs {
		rev++
		kvs[i].Create, kvs[i].Mod, kvs[i].Version = rev, rev, 1
	}
}

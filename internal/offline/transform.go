package offline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"sync"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/state/v2store"
)

// A transformer reads nodes on its standard input and writes keys to its standard output, as 3.4's does:
//
//	in   each node as the JSON of the v2 API, one after another with nothing between them: the root first, directories
//	     before what is in them, without lists of it
//	out  for each key 8 bytes little-endian, the length, and an encoded mvccpb.KeyValue of so many bytes
//
// It may write as many keys as it likes, also none. What it says of revisions holds where the store has no keys yet. A key
// that it gives no lease has that of the file whose path is its name.

// recordBytesMax bounds a key from a transformer; etcd takes requests of 1.5 MiB unless it is told otherwise.
const recordBytesMax = 1 << 30

// nodeJSON is a node in the JSON of the v2 API.
type nodeJSON struct {
	Key           string     `json:"key,omitempty"`
	Value         *string    `json:"value,omitempty"`
	Dir           bool       `json:"dir,omitempty"`
	Expiration    *time.Time `json:"expiration,omitempty"`
	TTL           int64      `json:"ttl,omitempty"`
	ModifiedIndex uint64     `json:"modifiedIndex,omitempty"`
	CreatedIndex  uint64     `json:"createdIndex,omitempty"`
}

// transform gives the nodes to the user's program and reads the keys that it makes of them.
func (d *v2dir) transform(nodes []v2node) (_ []wire.KeyValue, err error) {
	cmd := exec.Command(d.Transformer)
	cmd.Stderr = d.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("--transformer: %w", err)
	}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		// A program that has made its keys need not have read everything: an error here is none.
		_ = errors.Join(writeNodes(in, d.root(), nodes, d.Clock.Now()), in.Close())
	})
	kvs, err := readKeys(out)
	if err != nil {
		_ = cmd.Process.Kill() // it may go on for ever otherwise
	}
	feeding.Wait()
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = werr
	}
	if err != nil {
		return nil, fmt.Errorf("--transformer %s: %w; nothing was written", d.Transformer, err)
	}
	return kvs, nil
}

// root is the node that comes first; Keelson's has no index.
func (d *v2dir) root() nodeJSON {
	n, _ := d.tree.Get(v2store.Keys)
	return nodeJSON{Key: "/", Dir: true, ModifiedIndex: n.Modified, CreatedIndex: n.Created}
}

// writeNodes feeds the root and the nodes.
func writeNodes(w io.Writer, root nodeJSON, nodes []v2node, now time.Time) error {
	var b bytes.Buffer
	put := func(n nodeJSON) error {
		one, err := json.Marshal(n)
		if err != nil {
			return err
		}
		b.Write(one)
		if b.Len() < pipeBytes {
			return nil
		}
		_, err = b.WriteTo(w)
		return err
	}
	if err := put(root); err != nil {
		return err
	}
	for i := range nodes {
		n := &nodes[i]
		j := nodeJSON{Key: n.Path, Dir: n.Dir, ModifiedIndex: n.Modified, CreatedIndex: n.Created}
		if !n.Dir {
			j.Value = &n.Value
		}
		if !n.Expires.IsZero() {
			at := n.Expires.UTC()
			j.Expiration, j.TTL = &at, int64(math.Ceil(at.Sub(now).Seconds())) // less than 1 where it has expired
		}
		if err := put(j); err != nil {
			return err
		}
	}
	_, err := b.WriteTo(w)
	return err
}

// pipeBytes is how much is written to a program at once: what a pipe holds.
const pipeBytes = 64 << 10

// readKeys reads keys until the end.
func readKeys(r io.Reader) ([]wire.KeyValue, error) {
	var kvs []wire.KeyValue
	for {
		var size [8]byte
		switch _, err := io.ReadFull(r, size[:]); {
		case errors.Is(err, io.EOF):
			return kvs, nil
		case err != nil:
			return nil, fmt.Errorf("read the length of key %d: %w", len(kvs)+1, err)
		}
		n := int64(binary.LittleEndian.Uint64(size[:]))
		if n < 0 || n > recordBytesMax {
			return nil, fmt.Errorf("key %d is said to be %d bytes long: each key is preceded by its length, 8 bytes little-endian", len(kvs)+1, n)
		}
		var b bytes.Buffer // grows as bytes come, not as the length says
		if _, err := io.CopyN(&b, r, n); err != nil {
			return nil, fmt.Errorf("read key %d of %d bytes: %w", len(kvs)+1, n, err)
		}
		kv, err := wire.ParseKeyValue(b.Bytes())
		if err != nil || len(kv.Key) == 0 {
			return nil, fmt.Errorf("key %d is no encoded mvccpb.KeyValue with a key", len(kvs)+1)
		}
		kv.Version = max(kv.Version, 1)
		kvs = append(kvs, kv)
	}
}

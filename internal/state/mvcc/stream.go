package mvcc

import (
	"context"
	"fmt"
	"math"
)

// Walk reads a range in pieces: f gets each piece's encoded KeyValues, its to keep, and may block; the writer does not
// wait for it. A piece ends with the row that makes it chunkKeys rows or chunkBytes bytes. The order is the keys';
// sort options and filters are left unread. The result has no rows of its own, and Count and More as Range answers
// them. An error of f ends the walk and is given back as it is.
func (v *View) Walk(ctx context.Context, o RangeOptions, chunkKeys, chunkBytes int, f func(kvs [][]byte) error) (RangeResult, error) {
	v.s.counts.Ranges.Add(1)
	o.Order, o.Target = SortNone, ByKey
	o.MinMod, o.MaxMod, o.MinCreate, o.MaxCreate = 0, 0, 0, 0
	if o.CountOnly || one(o.End) {
		res, err := v.read(ctx, o)
		if err == nil && len(res.KVs) > 0 {
			err = f(res.KVs)
		}
		res.KVs = nil
		return res, err
	}
	on, exact, err := v.at(o)
	if err != nil {
		return RangeResult{}, err
	}
	p := pieces{
		state: on, ctx: ctx, keysOnly: o.KeysOnly, left: o.Limit,
		keys: chunkKeys, bytes: chunkBytes, counted: exact, f: f,
	}
	if o.Limit <= 0 {
		p.left = math.MaxInt64
	}
	sp := spanOf(o.Key, o.End)
	if exact && !sp.empty() {
		p.count = on.count(sp)
	}
	if err := p.walk(sp); err != nil {
		return RangeResult{}, err
	}
	return RangeResult{Rev: v.rev, Count: p.count, More: o.Limit > 0 && p.count > o.Limit}, nil
}

// pieces is a walk under way: what of the limit is left, and the piece being filled.
type pieces struct {
	state
	ctx         context.Context
	keysOnly    bool
	keys, bytes int
	f           func([][]byte) error

	left, count int64
	counted     bool
	piece       rows
	size        int
}

func (p *pieces) walk(sp span) (err error) {
	w := walk{span: sp, skipDead: p.counted, f: func(items []item) bool {
		if err = p.ctx.Err(); err != nil {
			err = fmt.Errorf("mvcc: walk: %w", err)
			return false
		}
		for i := range items {
			v := items[i].e.at(p.rev)
			if v == nil {
				continue
			}
			if !p.counted {
				p.count++
			}
			if err = p.add(v); err != nil {
				return false
			}
		}
		return !p.counted || p.left > 0
	}}
	w.over(p.root)
	if err != nil {
		return err
	}
	if len(p.piece.kvs) > 0 {
		return p.flush()
	}
	return p.overtaken()
}

func (p *pieces) add(v *version) error {
	if p.left == 0 {
		return nil
	}
	p.left--
	p.piece.add(v)
	p.size += int(v.size)
	if len(p.piece.kvs) < p.keys && p.size < p.bytes {
		return nil
	}
	return p.flush()
}

// flush hands the piece over. A walk that was overtaken ends before it gives a row too many or too few.
func (p *pieces) flush() error {
	if err := p.fill(p.ctx, &p.piece); err != nil {
		return err
	}
	if err := p.overtaken(); err != nil {
		return err
	}
	if p.keysOnly {
		p.piece.strip(false)
	}
	kvs := p.piece.kvs
	p.piece, p.size = rows{}, 0
	return p.f(kvs)
}

package jsonapi

import "sync"

// pooledMax is the largest buffer that is kept: a huge answer's goes to the garbage collector.
const pooledMax = 64 << 10

// pool keeps the buffers of bodies and answers.
type pool struct{ free sync.Pool }

// get gives a buffer of n bytes; what is in it may be left from another request.
func (p *pool) get(n int) *[]byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		if cap(*b) >= n {
			*b = (*b)[:n]
			return b
		}
	}
	b := make([]byte, n, max(n, 4<<10))
	return &b
}

// put takes one back, or nil.
func (p *pool) put(b *[]byte) {
	if b != nil && cap(*b) <= pooledMax {
		p.free.Put(b)
	}
}

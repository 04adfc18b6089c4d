package rpc

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// Pooled buffers have 4 KiB, 16 KiB and so on up to 1 MiB: a buffer is less than four times as large as what it
// holds. A larger answer's goes to the garbage collector, so that one huge range does not stay in memory for good.
const (
	bufferBytesMin = 4 << 10
	bufferBytesMax = 1 << 20
	bufferClasses  = 5
)

// buffers pools what answers are encoded into. grpc's own pools clear a buffer before they give it out, which costs
// more than to fill it; here every byte that is given out is written before it is read.
type buffers struct{ classes [bufferClasses]sync.Pool }

var _ mem.BufferPool = (*buffers)(nil)

// classOf is the class of the smallest pooled buffer that holds n bytes.
func classOf(n int) int { return (bits.Len(uint(max(n-1, 0))>>12) + 1) / 2 }

// Get gives a buffer of n bytes; what is in it may be left from another answer.
func (p *buffers) Get(n int) *[]byte {
	if n > bufferBytesMax {
		b := make([]byte, n)
		return &b
	}
	c := classOf(n)
	if b, ok := p.classes[c].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, bufferBytesMin<<(2*c))
	return &b
}

// Put takes a buffer back that Get gave. Others are left to the garbage collector.
func (p *buffers) Put(b *[]byte) {
	c := classOf(cap(*b))
	if cap(*b) > bufferBytesMax || cap(*b) != bufferBytesMin<<(2*c) {
		return
	}
	p.classes[c].Put(b)
}

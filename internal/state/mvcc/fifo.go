package mvcc

// fifoChunk is how many elements a chunk of a fifo holds: 8 KiB of pointers, so that growing never copies what is
// queued and what was taken soon goes.
const fifoChunk = 1024

// fifo is a queue whose elements keep their number, counted from the first ever pushed.
type fifo[T any] struct {
	chunks     [][]T
	head, tail int
}

func (q *fifo[T]) push(v T) {
	if q.tail%fifoChunk == 0 {
		q.chunks = append(q.chunks, make([]T, 0, fifoChunk))
	}
	last := len(q.chunks) - 1
	q.chunks[last] = append(q.chunks[last], v)
	q.tail++
}

// at gives element number i, which is in [head, tail).
func (q *fifo[T]) at(i int) T {
	return q.chunks[i/fifoChunk-q.head/fifoChunk][i%fifoChunk]
}

// pop drops the first element.
func (q *fifo[T]) pop() {
	var zero T
	q.chunks[0][q.head%fifoChunk] = zero
	q.head++
	if q.head%fifoChunk == 0 {
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
	}
}

// Package mvcc is the key space: every key's versions in memory, newest first, under an ordered index that
// counts live keys. One goroutine writes (Begin, Publish, Compact, Prune, Evict: "the writer"); any number
// read through Views, without a lock.
//
// A View is a revision and the root of a copy-on-write B-tree. The tree maps a key to an entry, and an entry
// is the head of a chain of versions. The tree's nodes are never changed once they are published; entries are
// shared by all trees, and a reader at revision R passes over versions newer than R. So an overwrite touches
// no node, and what is not yet published is never seen.
//
// A version's value is the encoded mvccpb.KeyValue. A live key's newest value is always in memory; Evict takes
// superseded ones out, and they are read back from the History. Compaction cuts chains in place: a reader that
// stands on a revision older than the cut finds so at its end, and answers ErrCompacted rather than a wrong answer.
package mvcc

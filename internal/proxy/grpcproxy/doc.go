// Package grpcproxy stands between clients and the members of a cluster and speaks the v3 API on both sides, so that many
// clients cost the members little: watchers of one range become one watcher (watch.go, group.go), the keep-alives of all
// clients one stream (lease.go), and serializable ranges asked again and again one range (cache.go). Other calls of KV pass as
// the bytes they came in (forward.go), but where a namespace, leasing or an order of revisions lies between (kv.go).
//
// Nothing that one user may see reaches another: a call goes to the members with its caller's token, answers to calls that
// bear a token are never kept, and watchers share only with those of the same token, each after the members have said that
// it may watch. Whatever is held for a client is bounded, and a slow one holds up no other: what it can't take now is read
// again from the members when it can.
package grpcproxy

// Package sim runs whole clusters in one process, from a seed. A member is the value that cmd/etcd builds: server.New
// with another clock, disk, network and source of randomness, in a testing/synctest bubble whose time moves only when
// nobody can run.
package sim

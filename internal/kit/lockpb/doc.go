// Package lockpb holds the messages and the service v3lockpb.Lock. They are etcd's, and not part of its published
// API module. The server's edge serves them; etcdctl and other programs reach them by name.
package lockpb

//go:generate ../genproto.sh lock.proto

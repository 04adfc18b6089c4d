// Package leasepb holds the lease messages that members exchange with each other over HTTP. They are etcd's, and
// not part of its published API module.
package leasepb

//go:generate ../genproto.sh lease.proto

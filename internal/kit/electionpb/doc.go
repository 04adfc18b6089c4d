// Package electionpb holds the messages and the service v3electionpb.Election. They are etcd's, and not part of its
// published API module. The server's edge serves them.
package electionpb

//go:generate ../genproto.sh election.proto

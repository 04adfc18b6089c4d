#!/bin/sh
# Generates the Go code of one .proto file in the current directory: genproto.sh NAME.proto
# Needs protoc, protoc-gen-go and protoc-gen-go-grpc on the PATH.
# The imported messages of etcd's API are only named, never embedded, so stubs with the right names stand for them.
set -eu
stubs=$(mktemp -d)
trap 'rm -rf "$stubs"' EXIT
mkdir -p "$stubs/etcd/api/etcdserverpb" "$stubs/etcd/api/mvccpb"
cat >"$stubs/etcd/api/etcdserverpb/rpc.proto" <<'STUB'
syntax = "proto3";
package etcdserverpb;
option go_package = "go.etcd.io/etcd/api/v3/etcdserverpb";
message ResponseHeader {}
message LeaseTimeToLiveRequest {}
message LeaseTimeToLiveResponse {}
STUB
cat >"$stubs/etcd/api/mvccpb/kv.proto" <<'STUB'
syntax = "proto3";
package mvccpb;
option go_package = "go.etcd.io/etcd/api/v3/mvccpb";
message KeyValue {}
STUB
protoc -I . -I "$stubs" --go_out=paths=source_relative:. --go-grpc_out=paths=source_relative:. "$1"

#!/bin/sh
# Generates the Go code of one .proto file in the current directory: genproto.sh NAME.proto
# Needs protoc, protoc-gen-go and protoc-gen-go-grpc on the PATH; where there is a gateway.yaml, which gives methods their HTTP
# paths, protoc-gen-grpc-gateway too: its code is a package of its own, gw, so that the messages know nothing of HTTP.
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
test -e gateway.yaml || exit 0
mkdir -p gw
protoc -I . -I "$stubs" --grpc-gateway_out=paths=source_relative,standalone=true,grpc_api_configuration=gateway.yaml:gw "$1"
sed -i -e 's/^package .*/package gw/' -e 's/^Package [a-z]* is/Package gw is/' gw/*.pb.gw.go

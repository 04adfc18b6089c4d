package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/test/authority"
)

const (
	rootUser = "root"
	password = "a password of usual length"
	// tokenTime bounds one question for a token.
	tokenTime = 10 * time.Second
)

// secure makes a certificate for the server and gives the flags that use it.
func (p *process) secure() []string {
	ca := authority.New(fatal{}, "bench")
	pair := ca.Local(p.dir, "server")
	p.tls = authority.Client(nil, ca)
	return []string{"--cert-file=" + pair.CertFile, "--key-file=" + pair.KeyFile}
}

// fatal ends the program where no certificate can be made.
type fatal struct{}

func (fatal) Helper() {}

func (fatal) Fatal(why ...any) { log.Fatal(why...) }

// url names a path of the client port.
func (p *process) url(path string) string {
	if p.tls != nil {
		return "https://" + p.addr + path
	}
	return "http://" + p.addr + path
}

// http asks for what is not gRPC, on a connection of its own each time.
func (p *process) http() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: p.tls, DisableKeepAlives: true}}
}

// enableAuth makes root, once, and has the server ask for users from then on.
func (p *process) enableAuth(ctx context.Context) error {
	if p.auth {
		return nil
	}
	l, err := p.connect(1)
	if err != nil {
		return err
	}
	defer l.close()
	type step struct {
		method    string
		req, resp proto.Message
	}
	var steps []step
	if !p.rooted {
		steps = []step{
			{pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: rootUser, Password: password}, &pb.AuthUserAddResponse{}},
			{pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: rootUser}, &pb.AuthRoleAddResponse{}},
			{pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: rootUser, Role: rootUser}, &pb.AuthUserGrantRoleResponse{}},
		}
	}
	for _, x := range append(steps, step{pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}}) {
		if err := l.call(ctx, x.method, x.req, x.resp); err != nil {
			return fmt.Errorf("bench: %s: enable users: %w", p.name, err)
		}
	}
	p.rooted, p.auth = true, true
	return nil
}

// bearer puts a token into every call of a connection: the same map each time, which grpc only reads.
type bearer map[string]string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return b, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// takeTokens asks for tokens of root's until there are n. They are used again: a server that is busy with passwords would not
// give others in time.
func (p *process) takeTokens(n int) error {
	l, err := p.connect(1)
	if err != nil {
		return err
	}
	defer l.close()
	for len(p.tokens) < n {
		ctx, cancel := context.WithTimeout(context.Background(), tokenTime)
		var r pb.AuthenticateResponse
		err := l.call(ctx, pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: rootUser, Password: password}, &r)
		cancel()
		if err != nil {
			return fmt.Errorf("bench: %s: ask for a token: %w", p.name, err)
		}
		p.tokens = append(p.tokens, bearer{"token": r.Token})
	}
	return nil
}

package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (f *fake) Snapshot(_ *pb.SnapshotRequest, s grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	for _, b := range f.blobs {
		if err := s.Send(&pb.SnapshotResponse{Header: header(), Blob: b, Version: "3.7.0"}); err != nil {
			return err
		}
	}
	return f.ended
}

func TestSnapshotSave(t *testing.T) {
	f := startFake(t, false)
	db := bytes.Repeat([]byte("0123456789abcdef"), 512*100/16)
	sum := sha256.Sum256(db)
	whole := [][]byte{db[:40_000], db[40_000:], sum[:]}
	flipped := bytes.Clone(db)
	flipped[1000] ^= 1
	for name, c := range map[string]struct {
		blobs [][]byte
		ended error
		want  string // in the error; "": none
	}{
		"whole":            {whole, nil, ""},
		"checksum in two":  {[][]byte{db, sum[:7], sum[7:]}, nil, ""},
		"flipped":          {[][]byte{flipped, sum[:]}, nil, "expected sha256"},
		"without checksum": {whole[:2], nil, "sha256 checksum not found [bytes: 51200]"},
		"cut off":          {whole[:1], nil, "sha256 checksum not found"},
		"broken off":       {whole[:1], status.Error(codes.Internal, "disk on fire"), "disk on fire"},
		"nothing":          {nil, status.Error(codes.PermissionDenied, "not you"), "not you"},
	} {
		t.Run(name, func(t *testing.T) {
			f.blobs, f.ended = c.blobs, c.ended
			path := filepath.Join(t.TempDir(), "s.db")
			if err := os.WriteFile(path, []byte("an older snapshot"), 0o600); err != nil {
				t.Fatal(err)
			}
			exit, out, diag := runProgram([]string{"--endpoints=" + f.addr, "snapshot", "save", path}, "", nil)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if exit != 0 || diag != "" || out != "Snapshot saved at "+path+"\nServer version 3.7.0\n" {
					t.Errorf("exit %d, %q, %q", exit, out, diag)
				}
				if !bytes.Equal(got, append(bytes.Clone(db), sum[:]...)) {
					t.Error("the file is not what was sent")
				}
			} else if exit != statusInterrupted || out != "" || !strings.Contains(diag, c.want) || string(got) != "an older snapshot" {
				t.Errorf("exit %d, %q, %q; the file has %d bytes", exit, out, diag, len(got))
			}
			if _, err := os.Stat(path + partSuffix); !os.IsNotExist(err) {
				t.Errorf("the unfinished file is still there: %v", err)
			}
		})
	}
}

// Refusals that ask nobody. The texts are etcd's.
func TestSnapshotSaveRefused(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none", "s.db")
	for args, want := range map[string]struct {
		exit int
		diag string
	}{
		"snapshot save":     {128, "Error: snapshot save expects one argument <filename>\n"},
		"snapshot save a b": {128, "Error: snapshot save expects one argument <filename>\n"},
		"--endpoints=127.0.0.1:1,127.0.0.1:2 snapshot save x": {5, "Error: snapshot must be requested to one selected node, not multiple [127.0.0.1:1 127.0.0.1:2]\n"},
		"--endpoints=127.0.0.1:1 snapshot save " + missing:    {5, "Error: could not open " + missing + ".part (open " + missing + ".part: no such file or directory)\n"},
	} {
		if exit, out, diag := runProgram(strings.Fields(args), "", nil); exit != want.exit || out != "" || diag != want.diag {
			t.Errorf("%s: exit %d, %q, %q", args, exit, out, diag)
		}
	}
	path := filepath.Join(t.TempDir(), "s.db")
	exit, _, diag := runProgram([]string{"--endpoints=127.0.0.1:1", "--command-timeout=200ms", "snapshot", "save", path}, "", nil)
	if exit != 5 || !strings.Contains(diag, "127.0.0.1:1 cannot be reached") {
		t.Errorf("nobody there: exit %d, %q", exit, diag)
	}
	if exit, out, diag := runProgram([]string{"snapshot", "restore", "x"}, "", nil); exit != 0 || !strings.Contains(out, "etcdutl snapshot restore") || !strings.Contains(diag, "use etcdutl") {
		t.Errorf("snapshot restore: exit %d, %q, %q", exit, out, diag)
	}
}

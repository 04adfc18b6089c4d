package rpc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// elsewhere lists the sentinels that need no row, each with the reason.
func elsewhere() map[string]string {
	return map[string]string{
		"server.ErrTimeoutLeaderTransfer": "its text alone goes out, as etcd's does",
		"server.ErrUnknownMethod":         "its text alone goes out, as etcd's does",
		"mvcc.ErrMissing":                 "damage: its text alone goes out",
		"lease.ErrNotPrimary":             "the member asks the leader",
		"lease.ErrExpired":                "the member waits for the revocation",
		"watch.ErrDuplicateID":            "answered on the stream",
		"watch.ErrEmptyRange":             "answered on the stream",
		"watch.ErrNegativeStart":          "answered on the stream",
	}
}

// TestEverySentinelHasARow reads the packages that requests reach, so that a new sentinel is not forgotten.
func TestEverySentinelHasARow(t *testing.T) {
	src, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	for pkg, glob := range map[string]string{
		"server":  "../../server/errors.go",
		"mvcc":    "../../state/mvcc/*.go",
		"lease":   "../../state/lease/*.go",
		"watch":   "../../state/watch/*.go",
		"cluster": "../../state/cluster/*.go",
		"auth":    "../../state/auth/*.go",
	} {
		names := sentinels(t, glob)
		if len(names) == 0 {
			t.Errorf("%s has no sentinels: has it moved?", pkg)
		}
		for _, name := range names {
			full := pkg + "." + name
			if elsewhere()[full] == "" && !strings.Contains(string(src), "{"+full+", ") {
				t.Errorf("%s has no row in the table", full)
			}
		}
	}
}

func sentinels(t *testing.T, glob string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, id := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	return names
}

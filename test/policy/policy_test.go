// Package policy holds the rules that the code's shape must keep: which layer may import which, how large things may
// grow, and what has no place where. Every message says why.
package policy

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// file is one parsed Go file of the project.
type file struct {
	path string // from the root, with slashes
	fset *token.FileSet
	ast  *ast.File
	src  []byte
}

func (f file) test() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f file) generated() bool {
	return strings.HasSuffix(f.path, ".pb.go") || strings.HasSuffix(f.path, ".pb.gw.go")
}
func (f file) dir() string { return filepath.ToSlash(filepath.Dir(f.path)) }

func (f file) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

// load parses every Go file of the main module.
func load(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && p != root || d.Name() == ".git" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(rel), fset, tree, src})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found %d files: the walk is broken", len(files))
	}
	return files
}

// layers, top first: a package imports only layers below its own. siblings may import each other.
var layers = []struct {
	dir      string
	siblings bool
}{
	{"cmd", true},
	{"internal/edge", false},
	{"internal/proxy", false},
	{"internal/offline", true},
	{"internal/server", true},
	{"internal/discovery", false},
	{"internal/config", true},
	{"internal/replica", false},
	{"internal/apply", true},
	{"internal/state", true}, // watch reads mvcc's changes
	{"internal/storage", true},
	{"internal/kit", true},
}

func layerOf(dir string) int {
	for i, l := range layers {
		if dir == l.dir || strings.HasPrefix(dir, l.dir+"/") {
			return i
		}
	}
	return -1
}

func TestLayers(t *testing.T) {
	for _, f := range load(t) {
		from := layerOf(f.dir())
		if from < 0 || f.test() {
			continue
		}
		for _, imp := range f.imports() {
			dir, ours := strings.CutPrefix(imp, "keelson/")
			if !ours {
				continue
			}
			to := layerOf(dir)
			switch {
			case to < 0:
				t.Errorf("%s imports %s, which is in no layer: put it into a directory of ARCHITECTURE.md's list", f.path, imp)
			case to < from, to == from && dir != f.dir() && !layers[from].siblings:
				t.Errorf("%s imports %s: a package imports only layers below its own (%s is not below %s), or the layers mean nothing",
					f.path, imp, layers[to].dir, layers[from].dir)
			}
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	replaced := []string{"server", "etcdctl", "etcdutl", "pkg", "tests"}
	lower := []string{"internal/server", "internal/replica", "internal/apply", "internal/state", "internal/storage", "internal/kit"}
	for _, f := range load(t) {
		for _, imp := range f.imports() {
			for _, r := range replaced {
				if strings.HasPrefix(imp, "go.etcd.io/etcd/"+r+"/v3") || imp == "go.etcd.io/etcd/v3" {
					t.Errorf("%s imports %s: Keelson replaces it; compare with it through test/peers", f.path, imp)
				}
			}
			if f.test() || f.generated() {
				continue
			}
			client := strings.HasPrefix(imp, "go.etcd.io/etcd/client/v3") || imp == "google.golang.org/grpc"
			for _, l := range lower {
				if client && strings.HasPrefix(f.dir(), l) && !strings.HasSuffix(f.dir(), "/wire") {
					t.Errorf("%s imports %s: what is below the edges knows neither gRPC nor the client: a server never dials itself", f.path, imp)
				}
			}
		}
	}
}

// TestDeterminism keeps what a member decides apart from what it happens to see.
func TestDeterminism(t *testing.T) {
	banned := map[string]string{
		"math/rand": "randomness", "math/rand/v2": "randomness", "crypto/rand": "randomness", "os": "the disk", "net": "the network", "net/http": "the network",
	}
	for _, f := range load(t) {
		pure := strings.HasPrefix(f.dir(), "internal/state/") || f.dir() == "internal/apply"
		if !pure || f.test() {
			continue
		}
		for _, imp := range f.imports() {
			if what, ok := banned[imp]; ok {
				t.Errorf("%s imports %s: apply and state decide on replicated state alone; %s comes in at construction", f.path, imp, what)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && isPkg(s.X, "time") && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Sleep") {
				t.Errorf("%s calls time.%s: members that apply the same log must not see different times", f.fset.Position(n.Pos()), s.Sel.Name)
			}
			return true
		})
	}
}

func isPkg(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func TestNoSleepInTests(t *testing.T) {
	for _, f := range load(t) {
		if !f.test() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			// Inside a testing/synctest bubble a sleep costs nothing and waits for exactly what it says.
			if s, ok := n.(*ast.SelectorExpr); ok && isPkg(s.X, "time") && s.Sel.Name == "Sleep" && !importsAny(f, "testing/synctest") {
				t.Errorf("%s: a test that sleeps is slow or flaky, mostly both: wait for a condition, or use testing/synctest", f.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func importsAny(f file, path string) bool {
	for _, i := range f.imports() {
		if i == path {
			return true
		}
	}
	return false
}

// Sizes past which nobody reads a thing whole.
const (
	functionLinesMax = 70
	fileLinesMax     = 800
	structFieldsMax  = 15
	typeMethodsMax   = 25
)

func TestSizes(t *testing.T) {
	methods := map[string]int{}
	for _, f := range load(t) {
		if f.generated() {
			continue
		}
		if n := bytes.Count(f.src, []byte("\n")); n > fileLinesMax {
			t.Errorf("%s has %d lines, more than %d: split it by what it does", f.path, n, fileLinesMax)
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && !f.test() {
					methods[f.dir()+"."+receiver(d)]++
				}
				lines := f.fset.Position(d.End()).Line - f.fset.Position(d.Pos()).Line + 1
				if lines > functionLinesMax && !flat(d) {
					t.Errorf("%s: %s has %d lines, more than %d: let it decide and give the work to others", f.fset.Position(d.Pos()), d.Name.Name, lines, functionLinesMax)
				}
			case *ast.GenDecl:
				checkFields(t, f, d)
			}
		}
	}
	for name, n := range methods {
		if n > typeMethodsMax {
			t.Errorf("%s has %d methods, more than %d: a type that does everything is where etcd went wrong", name, n, typeMethodsMax)
		}
	}
}

func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	if x, ok := e.(*ast.IndexExpr); ok {
		e = x.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return "?"
}

// flat tells whether a function is one switch or table: long, but read a row at a time.
func flat(d *ast.FuncDecl) bool {
	if d.Body == nil || len(d.Body.List) > 3 {
		return false
	}
	for _, s := range d.Body.List {
		switch s := s.(type) {
		case *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
			return true
		case *ast.ReturnStmt:
			for _, r := range s.Results {
				if _, ok := r.(*ast.CompositeLit); ok {
					return true
				}
			}
		}
	}
	return false
}

func checkFields(t *testing.T, f file, d *ast.GenDecl) {
	if f.test() {
		return
	}
	for _, s := range d.Specs {
		ts, ok := s.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := ts.Type.(*ast.StructType)
		if !ok {
			continue
		}
		n := 0
		for _, fl := range st.Fields.List {
			n += max(1, len(fl.Names))
		}
		if n > structFieldsMax {
			t.Errorf("%s: %s has %d fields, more than %d: find the type that hides in it", f.fset.Position(ts.Pos()), ts.Name.Name, n, structFieldsMax)
		}
	}
}

func TestPackageDocs(t *testing.T) {
	docs := map[string]int{}
	for _, f := range load(t) {
		if f.test() && f.ast.Name.Name != "policy" {
			continue
		}
		key := f.dir() + " (" + f.ast.Name.Name + ")"
		docs[key] += 0
		if f.ast.Doc != nil {
			docs[key]++
		}
	}
	for dir, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments: exactly one says what the package is, who calls it and what it promises", dir, n)
		}
	}
}

func TestNames(t *testing.T) {
	vague := map[string]bool{"util": true, "utils": true, "common": true, "base": true, "types": true, "helper": true, "helpers": true, "manager": true, "misc": true}
	for _, f := range load(t) {
		if vague[f.ast.Name.Name] {
			t.Errorf("%s is in package %s: a name that says nothing collects everything", f.path, f.ast.Name.Name)
		}
		for _, c := range f.ast.Comments {
			for _, word := range []string{"TO" + "DO", "FIX" + "ME", "X" + "XX"} {
				if strings.Contains(c.Text(), word) {
					t.Errorf("%s: %s in a comment: do it, or file an issue", f.fset.Position(c.Pos()), word)
				}
			}
		}
		if strings.HasPrefix(f.dir(), "internal/") && !f.test() && !f.generated() {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init runs behind everybody's back: construct what is needed where it is needed", f.fset.Position(fn.Pos()))
				}
			}
		}
	}
}

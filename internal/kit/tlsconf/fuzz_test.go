package tlsconf

import (
	"os"
	"path/filepath"
	"testing"

	"keelson/test/authority"
)

// Whatever a file holds is taken as a whole or refused.
func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	ca := authority.New(f, "ca")
	p := ca.Local(dir, "p")
	authority.Bundle(f, filepath.Join(dir, "ca"), ca)
	ca.Revoke(filepath.Join(dir, "crl"), p)
	for _, path := range []string{p.CertFile, p.KeyFile, filepath.Join(dir, "ca"), filepath.Join(dir, "crl")} {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAuthorities([][]byte{b}); err == nil && (len(a.certs) == 0 || a.pool == nil) {
			t.Error("no authorities, and no error")
		}
		if r, err := parseRevocations([][]byte{b}); err == nil && len(r.lists) == 0 {
			t.Error("no list, and no error")
		}
		if pair, err := parsePair([][]byte{b, b}); err == nil && pair.Leaf == nil {
			t.Error("no certificate, and no error")
		}
	})
}

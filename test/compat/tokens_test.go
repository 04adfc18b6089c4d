package compat

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/kit/token"
)

// signers makes a key for each family of methods.
func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"RS256": r, "PS512": r, "ES384": e, "EdDSA": d, "HS512": nil}
}

// A token that stock etcd signed is good here, and one that was signed here is good there.
func TestTokens(t *testing.T) {
	t.Parallel()
	theirs := stock(t, "etcd37")
	for method, key := range signers(t) {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			secret := []byte("a secret\n")
			if key != nil {
				der, err := x509.MarshalPKCS8PrivateKey(key)
				if err != nil {
					t.Fatal(err)
				}
				secret = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			}
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, secret, 0o600); err != nil {
				t.Fatal(err)
			}
			options := "sign-method=" + method + ",ttl=10m,priv-key=" + file
			m := single(t, theirs, "--auth-token=jwt,"+options).Serve()
			j, err := token.ParseJWT(options, token.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"put", "a", "b"}, {"user", "add", "root:pw"}, {"auth", "enable"}} {
				m.Ctl(args...)
			}
			c := m.Client()
			their, err := c.Authenticate(t.Context(), "root", "pw")
			if err != nil {
				t.Fatal(err)
			}
			user, revision, err := j.Verify(their.Token)
			if err != nil || user != "root" || revision == 0 {
				t.Errorf("etcd's token gives %q, %d, %v", user, revision, err)
			}
			our, err := j.Sign("root", revision)
			if err != nil {
				t.Fatal(err)
			}
			if len(our) != len(their.Token) && method != "ES384" {
				t.Errorf("our token has %d bytes, etcd's %d", len(our), len(their.Token))
			}
			for what, text := range map[string]string{"ours": our, "etcd's": their.Token} {
				as, err := clientv3.New(clientv3.Config{Endpoints: []string{m.ClientAddr}, Token: text, Logger: zap.NewNop()})
				if err != nil {
					t.Fatal(err)
				}
				if r, err := as.Get(t.Context(), "a"); err != nil || len(r.Kvs) != 1 {
					t.Errorf("a get with a token of %s: %v, %v", what, r, err)
				}
				_ = as.Close()
			}
		})
	}
}

package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// files are the key files of a test: a name's prefix says what is in it.
type files map[string][]byte

func (f files) read(name string) ([]byte, error) {
	b, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return b, nil
}

// add puts a fresh pair into NAME.key and NAME.pub.
func (f files) add(name string, s crypto.Signer) error {
	private, err := x509.MarshalPKCS8PrivateKey(s)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		return err
	}
	f[name+".key"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	f[name+".pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return nil
}

// all makes two pairs of each kind once: RSA keys take their time.
var all = sync.OnceValues(func() (files, error) {
	f := files{"h.key": []byte("a secret\n"), "h2.key": []byte("another"), "empty": {}, "junk": []byte("junk")}
	add := func(name string, s crypto.Signer, err error) error {
		if err != nil {
			return err
		}
		return f.add(name, s)
	}
	for _, n := range []string{"", "2"} {
		r, err := rsa.GenerateKey(rand.Reader, 2048)
		errs := []error{add("r"+n, r, err)}
		for bits, curve := range map[string]elliptic.Curve{"256": elliptic.P256(), "384": elliptic.P384(), "512": elliptic.P521()} {
			e, err := ecdsa.GenerateKey(curve, rand.Reader)
			errs = append(errs, add("e"+bits+n, e, err))
		}
		_, d, err := ed25519.GenerateKey(rand.Reader)
		if err := errors.Join(append(errs, add("d"+n, d, err))...); err != nil {
			return nil, err
		}
	}
	return f, nil
})

func keys(t testing.TB) files {
	t.Helper()
	f, err := all()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// kindOf names the files that a method's keys are in.
func kindOf(method string) string {
	switch method[0] {
	case 'H':
		return "h"
	case 'E':
		if method == "EdDSA" {
			return "d"
		}
		return "e" + method[2:]
	}
	return "r"
}

func parse(t testing.TB, options string) *JWT {
	t.Helper()
	j, err := ParseJWT(options, Options{Read: keys(t).read})
	if err != nil {
		t.Fatalf("%s: %v", options, err)
	}
	return j
}

// TestMethods signs and verifies by each method: with both keys, one of them, and the other pair.
func TestMethods(t *testing.T) {
	for _, m := range methods() {
		k := kindOf(m)
		signer := parse(t, fmt.Sprintf("sign-method=%s,priv-key=%s.key", m, k))
		token, err := signer.Sign("ada", 7)
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		verifiers := []*JWT{signer}
		other := parse(t, fmt.Sprintf("sign-method=%s,priv-key=%s2.key", m, k))
		if k != "h" {
			only := parse(t, fmt.Sprintf("sign-method=%s,pub-key=%s.pub", m, k))
			if _, err := only.Sign("ada", 7); !errors.Is(err, ErrVerifyOnly) {
				t.Errorf("%s: sign with the public key: got %v, want %v", m, err, ErrVerifyOnly)
			}
			verifiers = append(verifiers, only, parse(t, fmt.Sprintf("pub-key=%s.pub,priv-key=%[1]s.key,sign-method=%[2]s", k, m)))
		}
		for i, v := range verifiers {
			for range 2 { // the second time from what is remembered
				if user, revision, err := v.Verify(token); err != nil || user != "ada" || revision != 7 {
					t.Errorf("%s: verifier %d gives %q, %d, %v", m, i, user, revision, err)
				}
			}
			if _, _, err := v.Verify(token[:len(token)-8] + "AAAAAAAA"); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: verifier %d, with another signature: got %v, want %v", m, i, err, ErrInvalid)
			}
		}
		if _, _, err := other.Verify(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: with another key: got %v, want %v", m, err, ErrInvalid)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, x := range []struct {
		options string
		want    error
		text    string // in the message, for the person who reads it
	}{
		{"", ErrOptions, "sign-method"},
		{"priv-key=r.key", ErrOptions, "sign-method"},
		{"sign-method=RS257,priv-key=r.key", ErrOptions, `"RS257"`},
		{"sign-method=none,priv-key=r.key", ErrOptions, `"none"`},
		{"sign-method=rs256,priv-key=r.key", ErrOptions, `"rs256"`},
		{"sign-method=RS256", ErrMissingKey, "priv-key"},
		{"sign-method=HS256,pub-key=r.pub", ErrMissingKey, "secret"},
		{"sign-method=HS256,priv-key=empty", ErrMissingKey, "priv-key: empty"},
		{"sign-method=RS256,priv-key=empty,pub-key=r.pub", ErrMissingKey, "priv-key: empty"},
		{"sign-method=RS256,priv-key=gone", ErrOptions, "priv-key: open gone"},
		{"sign-method=RS256,pub-key=gone", ErrOptions, "pub-key: open gone"},
		{"sign-method=RS256,priv-key=junk", ErrOptions, "priv-key"},
		{"sign-method=RS256,pub-key=junk", ErrOptions, "pub-key"},
		{"sign-method=RS256,priv-key=e256.key", ErrOptions, "priv-key"},
		{"sign-method=RS256,pub-key=e256.pub", ErrOptions, "pub-key"},
		{"sign-method=ES256,priv-key=r.key", ErrOptions, "priv-key"},
		{"sign-method=ES256,pub-key=d.pub", ErrOptions, "pub-key"},
		{"sign-method=EdDSA,priv-key=r.key", ErrOptions, "priv-key"},
		{"sign-method=EdDSA,pub-key=r.pub", ErrOptions, "pub-key"},
		{"sign-method=ES256,priv-key=e384.key", ErrOptions, "P-384"},
		{"sign-method=ES512,pub-key=e256.pub", ErrOptions, "P-256"},
		{"sign-method=RS256,priv-key=r.pub", ErrOptions, "priv-key"},
		{"sign-method=RS256,priv-key=r.key,pub-key=r2.pub", ErrKeyMismatch, ""},
		{"sign-method=ES256,priv-key=e256.key,pub-key=e2562.pub", ErrKeyMismatch, ""},
		{"sign-method=EdDSA,priv-key=d.key,pub-key=d2.pub", ErrKeyMismatch, ""},
		{"sign-method=HS256,priv-key=h.key,ttl=soon", ErrOptions, `"soon"`},
		{"sign-method=HS256,priv-key=h.key,ttl=-1s", ErrOptions, `"-1s"`},
		{"sign-method=HS256,priv-key=h.key,ttl=0s", ErrOptions, `"0s"`},
		{"sign-method=HS256,priv-key=h.key,sign-method=HS256", ErrOptions, "twice"},
		{"sign-method=HS256,priv-key=h.key,", ErrOptions, `""`},
		{"sign-method=HS256,priv-key=h.key,ttl", ErrOptions, `"ttl"`},
		{"sign-method=HS256,priv-key=a=b", ErrOptions, `"priv-key=a=b"`},
	} {
		_, err := ParseJWT(x.options, Options{Read: keys(t).read})
		if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.text) {
			t.Errorf("%q: got %v, want %v with %s", x.options, err, x.want, x.text)
		}
	}
}

func TestUnknownOptionsWarn(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	_, err := ParseJWT("sign-method=HS256,priv-key=h.key,colour=red", Options{Read: keys(t).read, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	if l := logs.All(); len(l) != 1 || fmt.Sprint(l[0].ContextMap()["keys"]) != "[colour]" {
		t.Errorf("logged %v, want one warning of colour", l)
	}
}

// TestExpiry: a token lives for its ttl, to the second, whether it was seen before or not.
func TestExpiry(t *testing.T) {
	for options, ttl := range map[string]time.Duration{"": 5 * time.Minute, ",ttl=": 5 * time.Minute, ",ttl=90s": 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			j := parse(t, "sign-method=HS256,priv-key=h.key"+options)
			token, err := j.Sign("ada", 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := j.Verify(token); err != nil {
				t.Errorf("ttl %v, fresh: %v", ttl, err)
			}
			time.Sleep(ttl - time.Nanosecond)
			for name, v := range map[string]*JWT{"seen": j, "not seen": parse(t, "sign-method=HS256,priv-key=h.key")} {
				if _, _, err := v.Verify(token); err != nil {
					t.Errorf("ttl %v, %s, before its end: %v", ttl, name, err)
				}
			}
			time.Sleep(time.Nanosecond)
			for name, v := range map[string]*JWT{"seen": j, "not seen": parse(t, "sign-method=HS256,priv-key=h.key")} {
				if _, _, err := v.Verify(token); !errors.Is(err, jwt.ErrTokenExpired) || !errors.Is(err, ErrInvalid) {
					t.Errorf("ttl %v, %s, at its end: got %v, want %v", ttl, name, err, jwt.ErrTokenExpired)
				}
			}
		})
	}
}

// forge makes a token of any shape.
func forge(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestForged: a token of another algorithm does not get in, whatever key it was made with.
func TestForged(t *testing.T) {
	f := keys(t)
	ada := jwt.MapClaims{"username": "root", "revision": 1}
	rsaKey, err := jwt.ParseRSAPrivateKeyFromPEM(f["r.key"])
	if err != nil {
		t.Fatal(err)
	}
	der, _ := pem.Decode(f["r.pub"])
	for name, token := range map[string]string{
		"none":                      forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ada),
		"HMAC under the public PEM": forge(t, jwt.SigningMethodHS256, f["r.pub"], ada),
		"HMAC under the public DER": forge(t, jwt.SigningMethodHS256, der.Bytes, ada),
		"the key's other padding":   forge(t, jwt.SigningMethodPS256, rsaKey, ada),
		"the key with another hash": forge(t, jwt.SigningMethodRS512, rsaKey, ada),
		"no signature":              strings.TrimRight(forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, ada), "."),
		"empty":                     "",
		"a simple token":            "aBcDeFgHiJkLmNoP.42",
		"many dots":                 strings.Repeat(".", 1<<20),
		"long":                      forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": strings.Repeat("a", 1<<15), "revision": 1}),
		"not yet":                   forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": 1, "nbf": time.Now().Unix() + 1000}),
		"expired":                   forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": 1, "exp": time.Now().Unix() - 1}),
		"no user":                   forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"revision": 1}),
		"an empty user":             forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "", "revision": 1}),
		"a user that is a number":   forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": 1, "revision": 1}),
		"no revision":               forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a"}),
		"a revision that is text":   forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": "1"}),
		"a negative revision":       forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": -1}),
		"a revision past any":       forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": 1e30}),
		"half a revision":           forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": 1.5}),
		"an expiry that is no time": forge(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"username": "a", "revision": 1, "exp": "soon"}),
	} {
		for _, options := range []string{"sign-method=RS256,pub-key=r.pub", "sign-method=RS256,priv-key=r.key"} {
			if user, _, err := parse(t, options).Verify(token); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, %s: got user %q, error %v", options, name, user, err)
			}
		}
	}
	// Somebody else's signer with the right key may leave the expiry out: etcd accepts that.
	if user, revision, err := parse(t, "sign-method=RS256,pub-key=r.pub").Verify(forge(t, jwt.SigningMethodRS256, rsaKey, ada)); err != nil || user != "root" || revision != 1 {
		t.Errorf("a token without an expiry: got %q, %d, %v", user, revision, err)
	}
}

// rotation is a JWT whose key files change while it runs.
type rotation struct {
	*JWT
	t *testing.T

	mu    sync.Mutex // guards files
	files files
}

func (r *rotation) read(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files.read(name)
}

// write puts what from holds into a file, and waits until that is seen.
func (r *rotation) write(name, from string) {
	r.mu.Lock()
	r.files[name] = bytes.Clone(keys(r.t)[from])
	r.mu.Unlock()
	time.Sleep(pollEvery + 1)
	synctest.Wait()
}

// signed gives a new token, which must be good for whoever has the public key.
func (r *rotation) signed(public string) string {
	r.t.Helper()
	token, err := r.Sign("ada", 1)
	if err == nil {
		_, _, err = parse(r.t, "sign-method=EdDSA,pub-key="+public).Verify(token)
	}
	if err != nil {
		r.t.Errorf("a token for %s: %v", public, err)
	}
	return token
}

func (r *rotation) accepts(what, token string, want bool) {
	r.t.Helper()
	if _, _, err := r.Verify(token); (err == nil) != want {
		r.t.Errorf("%s: got %v, want it accepted: %v", what, err, want)
	}
}

// TestRotation: new tokens are of the new key, old ones live out their ttl, and files that do not fit change nothing.
func TestRotation(t *testing.T) {
	keys(t)
	synctest.Test(t, func(t *testing.T) {
		r := &rotation{t: t, files: files{"key": keys(t)["d.key"], "pub": keys(t)["d.pub"]}}
		core, logs := observer.New(zap.InfoLevel)
		var err error
		if r.JWT, err = ParseJWT("sign-method=EdDSA,priv-key=key,pub-key=pub,ttl=1m", Options{Read: r.read, Log: zap.New(core)}); err != nil {
			t.Fatal(err)
		}
		go r.Run(t.Context())
		private, err := jwt.ParseEdPrivateKeyFromPEM(keys(t)["d.key"])
		if err != nil {
			t.Fatal(err)
		}
		eternal := forge(t, jwt.SigningMethodEdDSA, private, jwt.MapClaims{"username": "ada", "revision": 1})

		r.write("key", "empty")
		r.write("key", "junk")
		r.write("key", "d2.key") // the public file is still the old one's
		time.Sleep(10 * pollEvery)
		seen, unseen := r.signed("d.pub"), r.signed("d.pub")
		r.accepts("before the change", seen, true)
		r.write("pub", "d2.pub")
		last := r.signed("d2.pub")
		r.accepts("seen before the change", seen, true)
		r.accepts("signed before the change", unseen, true)
		r.accepts("of the old key, without an end", eternal, true)
		r.accepts("under the new key", last, true)
		r.write("key", "junk")
		r.accepts("under the new key, with junk in the file", last, true)
		time.Sleep(time.Minute)
		r.accepts("of the old key, without an end, a ttl after the change", eternal, false)
		r.accepts("under the old key, a ttl after the change", unseen, false)

		got := ""
		for _, l := range logs.All() {
			text, _, _ := strings.Cut(l.Message, ";")
			got += l.Level.String() + " " + text + "\n"
		}
		const warned = "warn the JWT keys could not be read again\n"
		if want := warned + warned + warned + "info the JWT keys changed\n" + warned; got != want {
			t.Errorf("logged\n%swant\n%s", got, want)
		}
	})
}

// FuzzVerify: no bytes but a token that was signed for ada name a user.
func FuzzVerify(f *testing.F) {
	var all []*JWT
	for _, m := range []string{"HS256", "RS256", "PS384", "ES512", "EdDSA"} {
		j := parse(f, fmt.Sprintf("sign-method=%s,priv-key=%s.key", m, kindOf(m)))
		all = append(all, j)
		token, err := j.Sign("ada", 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
		f.Add(strings.Replace(token, ".", "..", 1))
	}
	f.Add(forge(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"username": "root", "revision": 1}))
	f.Add(forge(f, jwt.SigningMethodHS256, keys(f)["r.pub"], jwt.MapClaims{"username": "root", "revision": 1}))
	f.Add(forge(f, jwt.SigningMethodHS256, []byte("x"), jwt.MapClaims{"exp": 1e300, "nbf": -1e300, "aud": []int{1}}))
	f.Fuzz(func(t *testing.T, token string) {
		for _, j := range all {
			user, _, err := j.Verify(token)
			if err == nil && user != "ada" || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: user %q, error %v", j.method.Alg(), user, err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, m := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		j := parse(b, fmt.Sprintf("sign-method=%s,priv-key=%s.key", m, kindOf(m)))
		token, err := j.Sign("ada", 1)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(m+"/seen", func(b *testing.B) {
			for b.Loop() {
				if _, _, err := j.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(m+"/new", func(b *testing.B) {
			for b.Loop() {
				if _, err := j.checkKey(j.keys.Load().verify, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

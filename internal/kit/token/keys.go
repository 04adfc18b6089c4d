package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"keelson/internal/kit/recent"
)

// key is what the files held at one time.
type key struct {
	sign    any // nil: this member only verifies
	verify  any
	content [sha256.Size]byte // of both files, to see a change
}

// retired is a key that new tokens are not signed with any more.
type retired struct {
	verify any
	until  time.Time
}

// keySet is the current key and the ones before it, never changed once it is in use. What is remembered of tokens goes with
// the set that vouched for them.
type keySet struct {
	key
	retired []retired // the newest first
	seen    *recent.Map[[sha256.Size]byte, good]
}

func newKeySet(k key, old ...retired) *keySet {
	return &keySet{key: k, retired: old, seen: recent.New[[sha256.Size]byte, good](seenMax)}
}

// load reads the files and makes sure that the key can do what the method asks of it.
func (j *JWT) load() (key, error) {
	private, err := j.file("priv-key", j.private)
	if err != nil {
		return key{}, err
	}
	public, err := j.file("pub-key", j.public)
	if err != nil {
		return key{}, err
	}
	k, err := j.parseKey(private, public)
	if err != nil {
		return key{}, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", len(private))
	h.Write(private)
	h.Write(public)
	h.Sum(k.content[:0])
	return k, nil
}

func (j *JWT) file(option, name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	b, err := j.read(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrOptions, option, err)
	}
	if len(b) == 0 { // perhaps about to be written; without it a member with a public key would cease to sign
		return nil, fmt.Errorf("%w: %s: %s is empty", ErrMissingKey, option, name)
	}
	return b, nil
}

func (j *JWT) parseKey(private, public []byte) (k key, err error) {
	switch m := j.method.(type) {
	case *jwt.SigningMethodHMAC:
		if len(private) > 0 { // a secret is all there is: the public file was read, and means nothing
			k.sign, k.verify = private, private
		}
	case *jwt.SigningMethodECDSA:
		k, err = pair(private, public, jwt.ParseECPrivateKeyFromPEM, jwt.ParseECPublicKeyFromPEM)
		if pub, ok := k.verify.(*ecdsa.PublicKey); ok && pub.Curve.Params().BitSize != m.CurveBits {
			return key{}, fmt.Errorf("%w: sign-method %s needs a key on P-%d, this one is on %s", ErrOptions, m.Name, m.CurveBits, pub.Curve.Params().Name)
		}
	case *jwt.SigningMethodEd25519:
		k, err = pair(private, public, jwt.ParseEdPrivateKeyFromPEM, jwt.ParseEdPublicKeyFromPEM)
	default: // RSA, with either padding
		k, err = pair(private, public, jwt.ParseRSAPrivateKeyFromPEM, jwt.ParseRSAPublicKeyFromPEM)
	}
	if err != nil {
		return key{}, err
	}
	if k.verify == nil {
		return key{}, fmt.Errorf("%w: sign-method %s needs %s", ErrMissingKey, j.method.Alg(), j.needed())
	}
	return k, j.try(k)
}

func (j *JWT) needed() string {
	if _, ok := j.method.(*jwt.SigningMethodHMAC); ok {
		return "a secret in priv-key"
	}
	return "priv-key, or pub-key on a member that is only to verify"
}

// pair reads what there is of a pair of keys.
func pair[Private, Public any](private, public []byte, readPrivate func([]byte) (Private, error), readPublic func([]byte) (Public, error)) (k key, err error) {
	if len(private) > 0 {
		p, err := readPrivate(private)
		if err != nil {
			return key{}, fmt.Errorf("%w: priv-key: %w", ErrOptions, err)
		}
		s, ok := any(p).(crypto.Signer)
		if !ok {
			return key{}, fmt.Errorf("%w: priv-key: a %T cannot sign", ErrOptions, p)
		}
		k.sign, k.verify = s, s.Public()
	}
	if len(public) > 0 {
		p, err := readPublic(public)
		if err != nil {
			return key{}, fmt.Errorf("%w: pub-key: %w", ErrOptions, err)
		}
		own, ok := k.verify.(interface{ Equal(crypto.PublicKey) bool })
		if ok && !own.Equal(p) {
			return key{}, ErrKeyMismatch
		}
		k.verify = p
	}
	return k, nil
}

// try signs and verifies once: a key that is too short for the method's hash is found at start, not at the first login.
func (j *JWT) try(k key) error {
	if k.sign == nil {
		return nil
	}
	const text = "trial"
	sig, err := j.method.Sign(text, k.sign)
	if err == nil {
		err = j.method.Verify(text, sig, k.verify)
	}
	if err != nil {
		return fmt.Errorf("%w: the key does not work with %s: %w", ErrOptions, j.method.Alg(), err)
	}
	return nil
}

package password

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // no cipher to choose for new data, but it is what bcrypt is made of
)

const (
	// A hash ends with 16 bytes of salt and 23 of the sum.
	saltLetters, sumLetters, sumBytes = 22, 31, 23
	// magic is what is enciphered, 64 times.
	magic, magicTimes = "OrpheanBeholderScryDoubt", 64
)

// letters is base64 in bcrypt's own order.
var letters = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// compare gives what bcrypt.CompareHashAndPassword gives, by the same cipher. It calls breathe after each round, some 60 µs
// of the work that the library does in one piece.
func compare(hash, password []byte, breathe func()) error {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	tail := hash[bytes.LastIndexByte(hash, '$')+1:]
	if len(tail) < saltLetters+sumLetters {
		return bcrypt.ErrHashTooShort
	}
	salt, err := letters.DecodeString(string(tail[:saltLetters]))
	if err != nil {
		return fmt.Errorf("password: the salt of a hash: %w", err)
	}
	key := append(slices.Clone(password), 0) // as C ends a text
	c, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		return fmt.Errorf("password: %w", err)
	}
	for range uint64(1) << cost {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(salt, c)
		breathe()
	}
	text := []byte(magic)
	for block := range slices.Chunk(text, blowfish.BlockSize) {
		for range magicTimes {
			c.Encrypt(block, block)
		}
	}
	if subtle.ConstantTimeCompare([]byte(letters.EncodeToString(text[:sumBytes])), tail[saltLetters:]) != 1 {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

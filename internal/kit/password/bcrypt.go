package password

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // no cipher to choose for new data, but it is what bcrypt is made of
)

const (
	// sliceRounds of bcrypt are done at once: half a millisecond. A check of some 70 ms in one piece keeps a core from everybody
	// else for as long, which on a machine of two cores is the longest time that a put takes.
	sliceRounds = 8
	// A hash ends with 16 bytes of salt and 23 of the sum.
	saltLetters, sumLetters, sumBytes = 22, 31, 23
	// magic is what is enciphered, 64 times.
	magic, magicTimes = "OrpheanBeholderScryDoubt", 64
)

// letters is base64 in bcrypt's own order.
var letters = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// compare gives what bcrypt.CompareHashAndPassword gives, by the same cipher. It calls pause after each slice of the work, which
// the library does in one piece.
func compare(hash, password []byte, pause func()) error {
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
	for round := range uint64(1) << cost {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(salt, c)
		runtime.Gosched() // whoever is ready goes first: a put passes many goroutines, and would wait for a slice at each
		if round%sliceRounds == sliceRounds-1 {
			pause()
		}
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

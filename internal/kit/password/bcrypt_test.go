package password

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The sliced comparison says what the library's says, and breathes.
func TestCompareAsTheLibrary(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, 7, 16, 55, 71, 72} {
		right := make([]byte, n)
		for i := range right {
			right[i] = byte(r.IntN(256))
		}
		hash, err := bcrypt.GenerateFromPassword(right, bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		wrong := append(bytes.Clone(right), 'x')
		for _, p := range [][]byte{right, wrong, nil, append(bytes.Clone(right), bytes.Repeat([]byte("y"), 80)...)} {
			pauses := 0
			got, want := compare(hash, p, func() { pauses++ }), bcrypt.CompareHashAndPassword(hash, p)
			if !errors.Is(got, want) || (got == nil) != (want == nil) {
				t.Errorf("seed %d, %d bytes against %d: %v, the library %v", seed, len(p), n, got, want)
			}
			if want := 1 << bcrypt.MinCost; pauses != want {
				t.Errorf("%d pauses, want %d", pauses, want)
			}
		}
	}
}

// FuzzCompare: whatever a file holds for a hash, nothing matches it that the library would not match, and it never panics.
func FuzzCompare(f *testing.F) {
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hash, []byte("p"))
	f.Add([]byte("$2a$04$"), []byte(""))
	f.Add([]byte("$2$04$......................................................"), []byte("p"))
	f.Fuzz(func(t *testing.T, hash, password []byte) {
		if cost, err := bcrypt.Cost(hash); err == nil && cost > bcrypt.MinCost {
			return // it takes long
		}
		if got, want := compare(hash, password, func() {}), bcrypt.CompareHashAndPassword(hash, password); got == nil && want != nil {
			t.Errorf("%q matches %q here, and not in the library: %v", password, hash, want)
		}
	})
}

// A check rests while it goes on, as long as it worked, and not only behind its end.
func TestRestsBetweenSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slice, slices = sliceTime / 4, 40
		busy := time.Duration(0)
		c := start(Options{Share: 0.5}, func(_, _ []byte, pause func()) error {
			for range slices {
				time.Sleep(slice) // stands for work
				busy += slice
				pause()
			}
			return nil
		})
		defer c.Close()
		began := time.Now()
		if err := c.Check(t.Context(), "u", nil, ""); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*busy || busy != slices*slice {
			t.Errorf("%v of work took %v", busy, took)
		}
	})
}

package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"keelson/internal/kit/vfs"
)

// TestConformance runs one body on every FS, so that what works on the disk in memory works on a real one.
func TestConformance(t *testing.T) {
	t.Run("os", func(t *testing.T) { conform(t, vfs.OS, t.TempDir()) })
	t.Run("mem", func(t *testing.T) { conform(t, vfs.NewMem(1), "/data") })
	t.Run("inject", func(t *testing.T) { conform(t, vfs.Inject(vfs.NewMem(1), nil, nil), "data") })
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func conform(t *testing.T, fsys vfs.FS, root string) {
	dir := filepath.Join(root, "a", "b")
	ok(t, fsys.MkdirAll(dir, 0o700))
	name, moved := filepath.Join(dir, "f"), filepath.Join(dir, "g")
	_, err := fsys.Open(name)
	is(t, err, fs.ErrNotExist)
	_, err = fsys.OpenWrite(name)
	is(t, err, fs.ErrNotExist)
	f, err := fsys.Create(name, 0o600)
	ok(t, err)
	conformBytes(t, f)
	conformHandles(t, fsys, f, name, moved)
	conformNames(t, fsys, root, moved)
}

// conformBytes leaves 5000 bytes in a new file.
func conformBytes(t *testing.T, f vfs.File) {
	ok(t, f.Preallocate(9000))
	_, err := f.WriteAt([]byte("hello"), 4094)
	ok(t, err)
	ok(t, f.Truncate(4097))
	ok(t, f.Truncate(5000))
	ok(t, f.Datasync())
	buf := make([]byte, 16)
	n, err := f.ReadAt(buf, 4090)
	ok(t, err)
	if want := "\x00\x00\x00\x00hel\x00\x00\x00\x00\x00\x00\x00\x00\x00"; string(buf[:n]) != want {
		t.Fatalf("read %q, want %q", buf[:n], want)
	}
	if n, err := f.ReadAt(buf, 4990); n != 10 || err == nil {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
	if size, err := f.Size(); size != 5000 || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
}

// conformHandles closes f, which is open at name, and renames the file under a second handle.
func conformHandles(t *testing.T, fsys vfs.FS, f vfs.File, name, moved string) {
	second, err := fsys.OpenWrite(name)
	ok(t, err)
	ok(t, f.TryLock())
	ok(t, f.TryLock())
	is(t, second.TryLock(), vfs.ErrLocked)
	ok(t, f.Close())
	ok(t, second.TryLock())
	ok(t, fsys.Rename(name, moved))
	ok(t, second.Sync())
	ok(t, second.Close())
	is(t, second.Sync(), fs.ErrClosed)

	read, err := fsys.Open(moved)
	ok(t, err)
	if _, err := read.WriteAt([]byte("no"), 0); err == nil {
		t.Fatal("a handle for reading wrote")
	}
	ok(t, read.Close())
}

// conformNames lists and removes; file, root/a/b/g, is the only one.
func conformNames(t *testing.T, fsys vfs.FS, root, file string) {
	dir := filepath.Dir(file)
	ok(t, fsys.SyncDir(dir))
	list, err := fsys.ReadDir(dir)
	ok(t, err)
	if len(list) != 1 || list[0].Name() != "g" {
		t.Fatalf("listing %v", list)
	}
	st, err := fsys.Stat(file)
	ok(t, err)
	if st.Size() != 5000 || st.IsDir() || st.Name() != "g" {
		t.Fatalf("stat %v", st)
	}
	if fsys.Remove(dir) == nil {
		t.Fatal("removed a directory that is not empty")
	}
	ok(t, fsys.Rename(filepath.Join(root, "a"), filepath.Join(root, "c")))
	ok(t, fsys.Remove(filepath.Join(root, "c", "b", "g")))
	is(t, fsys.Remove(file), fs.ErrNotExist)
	ok(t, fsys.RemoveAll(filepath.Join(root, "c")))
	_, err = fsys.Stat(filepath.Join(root, "c"))
	is(t, err, fs.ErrNotExist)
}

func put(t *testing.T, m vfs.FS, name, text string, sync bool) {
	t.Helper()
	f, err := m.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

func get(m vfs.FS, name string) string {
	f, err := m.Open(name)
	if err != nil {
		return "none"
	}
	defer f.Close()
	size, _ := f.Size()
	buf := make([]byte, size)
	f.ReadAt(buf, 0)
	return string(buf)
}

// TestCrashNames: a synced name stays, an unsynced change is there or not, and a rename is never half done.
func TestCrashNames(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seen := map[string]bool{}
	for range 200 {
		m := vfs.NewMem(1)
		m.MkdirAll("d", 0o700)
		m.SyncDir("/")
		put(t, m, "d/old", "old", true)
		m.SyncDir("d")
		put(t, m, "d/new", "new", true)
		m.Rename("d/new", "d/old")
		c := m.Crash(r)
		seen[get(c, "d/old")+","+get(c, "d/new")] = true
		if got := get(m, "d/old"); got != "new" {
			t.Fatalf("the disk before the crash changed: %q", got)
		}
		m.SyncDir("d")
		if got := get(m.Crash(r), "d/old"); got != "new" {
			t.Fatalf("synced rename gave %q", got)
		}
	}
	delete(seen, "old,none")
	delete(seen, "old,new")
	delete(seen, "new,none")
	if len(seen) != 0 {
		t.Fatalf("impossible states: %v", seen)
	}
}

// TestCrashSectors: synced bytes stay; each later sector holds one of its contents; all mixtures occur.
func TestCrashSectors(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	seen := map[string]bool{}
	for range 400 {
		m := vfs.NewMem(1)
		f, _ := m.Create("f", 0o600)
		m.SyncDir("/")
		f.WriteAt(bytes.Repeat([]byte("a"), 1024), 0)
		f.Sync()
		f.WriteAt(bytes.Repeat([]byte("b"), 1024), 0)
		f.WriteAt(bytes.Repeat([]byte("c"), 1024), 512)
		got := get(m.Crash(r), "f")
		if len(got) < 1024 {
			t.Fatalf("the file shrank to %d", len(got))
		}
		for s := 0; s+512 <= len(got); s += 512 {
			if got[s:s+512] != string(bytes.Repeat([]byte(got[s:s+1]), 512)) {
				t.Fatalf("sector %d is torn", s/512)
			}
		}
		seen[got[:1]+got[512:513]] = true
		if all := get(m.CrashProcess(), "f"); len(all) != 1536 || all[0] != 'b' || all[512] != 'c' {
			t.Fatal("a killed process lost a write")
		}
	}
	if len(seen) != 6 {
		t.Fatalf("saw %v, want a or b, then a, b or c", seen)
	}
}

// TestFailedSync: what a failed sync left behind reads well, is not on the disk whatever is synced later, and comes there
// once it is written again.
func TestFailedSync(t *testing.T) {
	m := vfs.NewMem(1)
	f, err := m.Create("f", 0o600)
	ok(t, err)
	ok(t, m.SyncDir("/"))
	ok(t, f.Preallocate(9000))
	ok(t, f.Sync())
	write := func(b byte, off int64) {
		_, err := f.WriteAt([]byte{b}, off)
		ok(t, err)
	}
	write('a', 0)
	write('b', 600)
	write('c', 5000)
	m.LoseWrites("f")
	write('d', 1) // the page of a and b
	ok(t, f.Sync())
	for want, disk := range map[string]*vfs.Mem{"adbc": m.CrashProcess(), "adb\x00": m.Crash(nil)} {
		g, err := disk.Open("f")
		ok(t, err)
		b := make([]byte, 5001)
		_, err = g.ReadAt(b, 0)
		ok(t, err)
		if got := string([]byte{b[0], b[1], b[600], b[5000]}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCrashFreesLocks(t *testing.T) {
	m := vfs.NewMem(1)
	put(t, m, "f", "x", true)
	m.SyncDir(".")
	f, _ := m.OpenWrite("f")
	if err := f.TryLock(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*vfs.Mem{m.Crash(nil), m.CrashProcess()} {
		g, err := c.OpenWrite("f")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.TryLock(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOSPath: a file moves out to the real directory for bolt and is still seen, renamed and removed here.
func TestOSPath(t *testing.T) {
	m, real := vfs.NewMem(1), t.TempDir()
	m.SetOSRoot(real)
	m.MkdirAll("/m/snap", 0o700)
	put(t, m, "/m/snap/x.snap.db", "bolt", true)
	if err := m.Rename("/m/snap/x.snap.db", "/m/snap/db"); err != nil {
		t.Fatal(err)
	}
	p := m.OSPath("/m/snap/db")
	if b, err := os.ReadFile(p); string(b) != "bolt" || err != nil {
		t.Fatalf("%s holds %q, %v", p, b, err)
	}
	if got := get(m, "/m/snap/db"); got != "bolt" {
		t.Fatalf("seen as %q", got)
	}
	put(t, m, "/m/snap/new", "two", true)
	m.OSPath("/m/snap/new")
	if err := m.Rename("/m/snap/new", "/m/snap/db"); err != nil {
		t.Fatal(err)
	}
	list, err := m.ReadDir("/m/snap")
	if err != nil || len(list) != 1 || list[0].Name() != "db" || get(m, "/m/snap/db") != "two" {
		t.Fatalf("after the rename: %v, %v", list, err)
	}
	if err := m.Remove("/m/snap/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("removed file: %v", err)
	}
}

func TestInject(t *testing.T) {
	full := errors.New("no space")
	var ops []string
	var fail vfs.Kind
	fsys := vfs.Inject(vfs.NewMem(1), func(op vfs.Op) error {
		if op.Kind == fail {
			return full
		}
		return nil
	}, func(op vfs.Op) { ops = append(ops, fmt.Sprintf("%s %s %d %d", op.Kind, op.Path, op.Off, op.Len)) })
	f, err := fsys.Create("a", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Preallocate(100)
	f.WriteAt([]byte("xy"), 7)
	f.Datasync()
	fail = vfs.KindWrite
	if _, err := f.WriteAt([]byte("z"), 9); !errors.Is(err, full) {
		t.Fatalf("write: %v", err)
	}
	fail = vfs.KindRename
	if err := fsys.Rename("a", "b"); !errors.Is(err, full) {
		t.Fatalf("rename: %v", err)
	}
	want := []string{"create a 0 0", "preallocate a 0 100", "write a 7 2", "datasync a 0 0"}
	if !slices.Equal(ops, want) {
		t.Fatalf("saw %q, want %q", ops, want)
	}
}

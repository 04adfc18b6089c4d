package tlsconf

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// part is what was made of some files that belong together, and what they looked like then. Without files it stays empty.
//
// A file counts as changed when it is another one, has another size or another time. It is looked at before it is read: what
// is written while it is read is seen as a change by the next look.
type part[T any] struct {
	paths  []string
	parse  func(contents [][]byte) (T, error)
	stamps []fs.FileInfo // nil where a file could not be looked at
	value  T
}

// newPart is empty where the first path is.
func newPart[T any](parse func([][]byte) (T, error), paths ...string) part[T] {
	p := part[T]{parse: parse}
	if paths[0] != "" {
		p.paths = paths
	}
	return p
}

// look reads the files again if they have changed since the last look, successful or not, and tells whether it took new ones.
func (p *part[T]) look() (read bool, err error) {
	stamps := make([]fs.FileInfo, len(p.paths))
	var missing error
	for i, path := range p.paths {
		info, err := os.Stat(path)
		if err != nil {
			missing = err
			continue
		}
		stamps[i] = info
	}
	if p.stamps != nil && sameStamps(stamps, p.stamps) || len(p.paths) == 0 {
		return false, nil
	}
	p.stamps = stamps
	if missing != nil {
		return false, missing
	}
	contents := make([][]byte, len(p.paths))
	for i, path := range p.paths {
		if contents[i], err = os.ReadFile(path); err != nil {
			return false, err
		}
	}
	v, err := p.parse(contents)
	if err != nil {
		return false, fmt.Errorf("%s: %w", strings.Join(p.paths, ", "), err)
	}
	p.value = v
	return true, nil
}

func sameStamps(a, b []fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil || b[i] == nil:
			if a[i] != b[i] {
				return false
			}
		case !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

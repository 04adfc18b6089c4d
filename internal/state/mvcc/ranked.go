package mvcc

import (
	"slices"
	"strings"
)

// ranked is an item with the head of its key behind a prefix that all keys share: heads decide nearly all comparisons,
// without a look at the keys.
type ranked struct {
	head uint64
	item
}

func (a *ranked) compare(b *ranked, prefix int) int {
	if a.head != b.head {
		if a.head < b.head {
			return -1
		}
		return 1
	}
	return strings.Compare(a.key[prefix:], b.key[prefix:])
}

func sortRanked(items []ranked, prefix int) {
	slices.SortFunc(items, func(a, b ranked) int { return a.compare(&b, prefix) })
}

// mergeRanked appends two sorted lists to a third.
func mergeRanked(to, a, b []ranked, prefix int) []ranked {
	for len(a) > 0 && len(b) > 0 {
		if a[0].compare(&b[0], prefix) < 0 {
			to, a = append(to, a[0]), a[1:]
		} else {
			to, b = append(to, b[0]), b[1:]
		}
	}
	return append(append(to, a...), b...)
}

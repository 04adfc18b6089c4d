package server

import (
	"errors"
	"slices"
	"testing"
)

func TestCheckPeerURLs(t *testing.T) {
	for _, bad := range [][]string{
		nil, {""}, {" "}, {"a"}, {"a:1"}, {"127.0.0.1:2380"}, {"http://"}, {"http://a"}, {"http://a:"}, {"http://:1"}, {"http://a:0"}, {"http://a:65536"},
		{"http://a:x"}, {"http://a:1/"}, {"http://a:1/x"}, {"http://a:1?x=y"}, {"http://a:1?"}, {"http://a:1#x"}, {"http://u@a:1"}, {"ftp://a:1"}, {"unix://"},
		{"http://a:1,http://b:1"}, {"http://a:1", ""}, {"http://a:1", "http://a:1"}, {"http://a:1", " http://a:1"}, {"%zz"}, {"http://[::1:1"},
	} {
		if got, err := checkPeerURLs(bad); !errors.Is(err, ErrBadPeerURLs) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	for _, good := range [][2][]string{
		{{"http://b:1", "https://a:2"}, {"http://b:1", "https://a:2"}},
		{{" http://[::1]:1 "}, {"http://[::1]:1"}},
		{{"HTTP://a:1"}, {"http://a:1"}},
		{{"unix:///tmp/x"}, {"unix:///tmp/x"}},
	} {
		if got, err := checkPeerURLs(good[0]); err != nil || !slices.Equal(got, good[1]) {
			t.Errorf("%q: %q, %v", good[0], got, err)
		}
	}
}

package main

import (
	"slices"
	"strings"
	"testing"
)

// The log shows the command line, and no password in it.
func TestShown(t *testing.T) {
	for line, want := range map[string]string{
		"etcd --name a --discovery-user=root:secret":               "etcd --name a --discovery-user=root:(not shown)",
		"etcd -discovery-user root --discovery-password secret -x": "etcd -discovery-user root --discovery-password (not shown) -x",
		"etcd --discovery-password=secret=x":                       "etcd --discovery-password=(not shown)",
		"etcd --discovery-password":                                "etcd --discovery-password",
	} {
		args := strings.Fields(line)
		before := slices.Clone(args)
		if got := strings.Join(shown(args), " "); got != want || !slices.Equal(args, before) {
			t.Errorf("%s: %s", line, got)
		}
	}
}

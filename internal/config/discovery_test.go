package config

import (
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// A discovery URL is the token of the cluster, letter by letter: identities are made of it on all members alike.
func TestDiscoveryURL(t *testing.T) {
	c, _, err := Parse([]string{"--discovery-proxy=127.0.0.1:3128"}, []string{"ETCD_DISCOVERY=https://user:secret@example.com:8087/v2/keys/x/"}, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Token != "https://user:secret@example.com:8087/v2/keys/x/" || c.Cluster.Discovery.URL.Path != "/v2/keys/x/" || c.Cluster.Discovery.Proxy.String() != "http://127.0.0.1:3128" || !c.Discovers() {
		t.Errorf("%+v, token %s", c.Cluster.Discovery, c.Cluster.Token)
	}
	if mustParse(t).Discovers() {
		t.Error("a member without a word of discovery discovers")
	}
}

// What was found must have this member where it says that it is.
func TestCheckFound(t *testing.T) {
	c := mustParse(t, "--name=a", "--discovery=http://x/y")
	for text, ok := range map[string]bool{
		"http://localhost:2380": true, "http://localhost:2381": false,
	} {
		urls, err := parseURLs(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckFound(map[string]types.URLs{"a": urls}); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := c.CheckFound(map[string]types.URLs{"a": c.Cluster.AdvertisePeer, "b": {{Scheme: "unixs", Path: "/x"}}}); err == nil {
		t.Error("a member at unixs:// is taken")
	}
}

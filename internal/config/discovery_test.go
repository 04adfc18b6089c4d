package config

import (
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// A discovery URL is the token of the cluster, letter by letter: identities are made of it on all members alike.
func TestDiscoveryURL(t *testing.T) {
	c, _, err := Parse([]string{"--discovery-proxy=127.0.0.1:3128"}, []string{"ETCD_DISCOVERY=https://user:secret@example.com:8087/v2/keys/x/"}, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Token != "https://user:secret@example.com:8087/v2/keys/x/" || c.Cluster.Discovery.URL.Path != "/v2/keys/x/" || c.Cluster.Discovery.Proxy.String() != "http://127.0.0.1:3128" || !c.Cluster.Discovery.Discovers() {
		t.Errorf("%+v, token %s", c.Cluster.Discovery, c.Cluster.Token)
	}
	if mustParse(t).Cluster.Discovery.Discovers() {
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

// Where a cluster keeps the token, that is this one's, and a user's password may come with the name.
func TestDiscoveryCluster(t *testing.T) {
	c := mustParse(t, "--discovery-token=tok", "--discovery-endpoints=https://b:2379,https://a:2379", "--discovery-user=root:a:b", "--discovery-cacert=/ca")
	d := c.Cluster.Discovery.Cluster
	if c.Cluster.Token != "tok" || len(d.Endpoints) != 2 || d.User != "root" || d.Password != "a:b" || d.DialTimeout != 2*time.Second ||
		d.RequestTimeout != 5*time.Second || !d.Plain || d.CAFile != "/ca" || !c.Cluster.Discovery.Discovers() {
		t.Errorf("%+v, token %s", d, c.Cluster.Token)
	}
	c, _, err := Parse([]string{"--discovery-token=t", "--discovery-endpoints=a:1", "--discovery-user=x:y"}, []string{"ETCD_DISCOVERY_PASSWORD=z"}, noFile)
	if err != nil || c.Cluster.Discovery.Cluster.User != "x:y" || c.Cluster.Discovery.Cluster.Password != "z" {
		t.Errorf("%+v, %v", c, err)
	}
}

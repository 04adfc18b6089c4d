package compat

import (
	"fmt"
	"testing"

	"keelson/test/process"
)

// Members of both kinds found each other by the same SRV records: they compute the same identities from them.
func TestDiscoverySRV(t *testing.T) {
	t.Parallel()
	hosts := process.Hosts(t, 4)
	zone := process.ServeDNS(t, hosts[3])
	zone.Resolve(hosts[:3]...)
	all := process.Strangers(t, named(t, []string{"keelson", "etcd37", "keelson"}), "--discovery-srv=example.com")
	for i, m := range all {
		host := fmt.Sprintf("infra%d.example.com", i)
		zone.Add(host+". A "+hosts[i].Addr, fmt.Sprintf("_etcd-server._tcp.example.com. SRV 0 0 2380 %s.", host))
		m.Name, m.Place = fmt.Sprint("infra", i), &hosts[i].Place
		m.ClientAddr, m.PeerAddr = hosts[i].Addr+":2379", hosts[i].Addr+":2380"
		m.Flags = append(m.Flags, "--initial-advertise-peer-urls=http://"+host+":2380", "--initial-cluster-token=etcd-cluster-1")
	}
	for _, m := range all {
		m.Start()
	}
	meet(t, all)
	list := all[1].Ctl("member", "list")
	if out := all[0].Ctl("member", "list"); out != list {
		t.Errorf("one member lists\n%sand the other\n%s", out, list)
	}
}

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

// join learns this member's ID, and the cluster's, from a running cluster to which it was added. All members are asked:
// one that lags may not have heard of the addition yet, and one alone may remember that this member has run before.
func join(cfg *config.Config, urls types.URLsMap, caller Caller, logger *zap.Logger) (*genesis, error) {
	var others [][]string
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		if name != cfg.Member.Name {
			others = append(others, urls[name].StringSlice())
		}
	}
	var found *genesis
	noAnswer, noMatch := errors.New("it names no other member"), error(nil)
	for _, a := range askAll(context.Background(), caller, others) {
		if a.err != nil || len(a.members) == 0 {
			noAnswer = cmp.Or(a.err, errors.New("the member has none to tell of"))
			logger.Warn("failed to get cluster information from a member", zap.Strings("peer-urls", a.urls), zap.Error(noAnswer))
			continue
		}
		g, err := joinAs(cfg.Member.Name, urls, a)
		switch {
		case errors.Is(err, ErrBootstrapped):
			return nil, err
		case err != nil:
			noMatch = err
		case found != nil && found.clusterID != g.clusterID:
			return nil, fmt.Errorf("cluster ID mismatch: the members that --initial-cluster names belong to the clusters %x and %x: name those of one cluster", found.clusterID, g.clusterID)
		case learners(a.members) > cfg.Cluster.MaxLearners:
			return nil, fmt.Errorf("%w: the cluster has %d and --max-learners is %d: set it as on the other members", cluster.ErrTooManyLearners, learners(a.members), cfg.Cluster.MaxLearners)
		default:
			found = cmp.Or(found, g)
		}
	}
	switch {
	case found != nil:
		return found, refuseIncompatible(caller, found.others, logger)
	case noMatch != nil:
		return nil, noMatch
	}
	return nil, fmt.Errorf("cannot fetch cluster info from peer urls: no member of --initial-cluster answers (last error: %w)", noAnswer)
}

// joinAs matches --initial-cluster with the members that the cluster has, by their peer URLs.
func joinAs(name string, urls types.URLsMap, a answer) (*genesis, error) {
	if len(a.members) != len(urls) {
		return nil, fmt.Errorf("error validating peerURLs: member count is unequal: --initial-cluster names %d members and the cluster has %d; "+
			"list exactly the cluster's members and this one, which must have been added with `etcdctl member add`", len(urls), len(a.members))
	}
	g := &genesis{clusterID: a.clusterID}
	for n, u := range urls {
		i := slices.IndexFunc(a.members, func(k PeerMember) bool { return sameURLs(k.PeerURLs, u.StringSlice()) })
		if i < 0 {
			return nil, fmt.Errorf("error validating peerURLs: no member of the cluster has the peer URLs %v that --initial-cluster gives %s; "+
				"make them equal to what `etcdctl member list` shows", u.StringSlice(), n)
		}
		known := a.members[i]
		if n == name {
			if started(known) {
				return nil, fmt.Errorf("member %x: %w", known.ID, ErrBootstrapped)
			}
			g.id = known.ID
			continue
		}
		g.others = append(g.others, schema.Member{ID: known.ID, PeerURLs: known.PeerURLs})
	}
	return g, nil
}

// acquaint gives whom to talk to for a member that joined and was stopped before its log named anybody: the members of its
// cluster, as those answer that --initial-cluster names. If it was removed meanwhile, only they can tell it.
func acquaint(cfg *config.Config, o *opened, caller Caller) (others []schema.Member) {
	urls, err := cfg.Founders()
	if err != nil {
		return nil
	}
	var ask [][]string
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		if name != cfg.Member.Name {
			ask = append(ask, urls[name].StringSlice())
		}
	}
	for _, a := range askAll(context.Background(), caller, ask) {
		if a.err != nil || a.clusterID != o.clusterID {
			continue
		}
		for _, m := range a.members {
			if m.ID != o.id && !slices.ContainsFunc(others, func(k schema.Member) bool { return k.ID == m.ID }) {
				others = append(others, schema.Member{ID: m.ID, PeerURLs: m.PeerURLs})
			}
		}
	}
	return others
}

func learners(all []PeerMember) int {
	n := 0
	for _, m := range all {
		if m.IsLearner {
			n++
		}
	}
	return n
}

// refuseForeign refuses a directory that a member of another cluster wrote: one that --initial-cluster names, and that the
// directory does not know, expects a member of its own at this one's address.
func refuseForeign(cfg *config.Config, o *opened, caller Caller) error {
	urls, _ := cfg.Founders() // none where a first start would be refused: this one goes by its directory
	var strangers [][]string
	for name, u := range urls {
		known := func(m schema.Member) bool { return sameURLs(m.PeerURLs, u.StringSlice()) }
		if name != cfg.Member.Name && !slices.ContainsFunc(o.state.Cluster.State().Members, known) {
			strangers = append(strangers, u.StringSlice())
		}
	}
	mine := cfg.Cluster.AdvertisePeer.StringSlice()
	for _, a := range askAll(context.Background(), caller, strangers) {
		if a.err == nil && a.clusterID != o.clusterID && slices.ContainsFunc(a.members, func(m PeerMember) bool { return sameURLs(m.PeerURLs, mine) }) {
			return fmt.Errorf("%w: %s holds member %x of cluster %x, and the member at %v is of cluster %x", ErrForeignDirectory, cfg.Member.DataDir, o.id, o.clusterID, a.urls, a.clusterID)
		}
	}
	return nil
}

# Everything that is built or checked, by name. `make check` is what CI runs first.
GO      ?= go
SIM     ?= 10m
BENCH   ?=

.PHONY: build test race lint vuln bench compat compat-v2 node e2e soak sim cluster check peers rootfs image

# Static binaries in bin/.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

# The container image as an OCI archive, without a container engine: bin/keelson-image.tar. The Dockerfile gives the same.
image: rootfs
	cd packaging/image && $(GO) run . -root $(CURDIR)/bin/rootfs -dockerfile $(CURDIR)/Dockerfile -out $(CURDIR)/bin/keelson-image.tar

# The image's files: the programs, and a shell from Debian's busybox-static.
rootfs: build
	packaging/rootfs bin bin/rootfs

test:
	$(GO) test ./...

# What several goroutines touch, under the race detector.
race:
	$(GO) test -race ./internal/replica/... ./internal/state/... ./internal/storage/... ./internal/server/... ./internal/edge/... ./internal/proxy/...

lint: bin/.tools/golangci-lint
	$(GO) vet ./...
	bin/.tools/golangci-lint run ./...

# The linter takes minutes to build: once for each version that tools/go.mod names.
bin/.tools/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Known weaknesses in what the programs are built from, and whether they reach them. It asks vuln.go.dev.
vuln: bin/.tools/govulncheck
	bin/.tools/govulncheck ./...

bin/.tools/govulncheck: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ golang.org/x/vuln/cmd/govulncheck

# Real etcd, each minor version built as a tool of its own module, to compare with. 3.4, the last one with the v2 API, is
# Debian's.
peers: bin/peers/etcd37/etcd bin/peers/etcd36/etcd bin/peers/etcd35/etcd bin/peers/etcd34/etcd

bin/peers/etcd34/etcd:
	@command -v apt-get >/dev/null && command -v dpkg >/dev/null || { \
		echo "etcd 3.4 comes from Debian's packages etcd-server and etcd-client: make peers on Debian 12, or put its etcd and etcdctl into $(@D)" >&2; exit 1; }
	mkdir -p $(@D)/deb
	cd $(@D)/deb && apt-get download etcd-server etcd-client || { \
		echo "no packages etcd-server and etcd-client: run apt-get update first, or put etcd 3.4 into $(@D)" >&2; exit 1; }
	cd $(@D)/deb && for package in *.deb; do dpkg -x $$package . || exit 1; done
	$(@D)/deb/usr/bin/etcd --version | grep -q 'etcd Version: 3\.4\.' || { \
		echo "Debian's etcd is not 3.4 here, which is the last one with the v2 API: put etcd 3.4 into $(@D)" >&2; exit 1; }
	cp $(@D)/deb/usr/bin/etcdctl $(@D)/deb/usr/bin/etcd $(@D)/
	rm -r $(@D)/deb

bin/peers/%/etcd: test/peers/%/go.mod
	mkdir -p $(@D)
	cd test/peers/$* && for tool in etcdctl etcdutl; do ! grep -q "go.etcd.io/etcd/$$tool/v3 v" go.mod || \
		$(GO) build -o $(CURDIR)/$(@D)/$$tool go.etcd.io/etcd/$$tool/v3 || exit 1; done
	cd test/peers/$* && $(GO) build -o $(CURDIR)/$(@D)/etcd go.etcd.io/etcd/server/v3

# Real processes for longer: a kill every second under 64 writers for a minute, each member of a cluster replaced under load,
# a leader off its network, noise on the ports, 2,000 watchers and leases through a proxy. Then all of test/e2e with mutual TLS and
# users, and what it has of keys, watches, leases, locks and elections with every client behind a gRPC proxy.
e2e: build
	KEELSON_BIN=$(CURDIR)/bin KEELSON_LONG=1 KEELSON_KILLS=60 $(GO) test -count=1 -timeout 10m \
		-run 'TestKillsUnderLoad|TestReplace|TestLeaderCutOff|TestNoise|TestGateway|TestProxyCrowd|TestProxyKeepsLeasesAlive' -v ./test/e2e
	KEELSON_BIN=$(CURDIR)/bin KEELSON_TLS=1 $(GO) test -count=1 -timeout 20m ./test/e2e
	KEELSON_BIN=$(CURDIR)/bin KEELSON_PROXY=1 $(GO) test -count=1 -timeout 5m \
		-run '^Test(Three|LeaderGoes|KillKeeps|KillsUnder|KillWhileCompacting|TwoOfFive|MajorityLost|NoSpace|SmallerQuota|AutoCompaction|Watch|Lock|Elect|Lease|Mirror$$)' ./test/e2e

# Ten minutes of watchers through a proxy.
soak: build
	KEELSON_BIN=$(CURDIR)/bin KEELSON_LONG=1 KEELSON_WATCHED=10m $(GO) test -count=1 -timeout 15m -run TestProxyCrowd -v ./test/e2e

# Directories, calls and clusters, with the real etcd beside it.
compat: build peers node
	KEELSON_BIN=$(CURDIR)/bin KEELSON_PEERS=$(CURDIR)/bin/peers $(GO) test -count=1 -timeout 20m -parallel 4 ./test/compat/...

# Node's clients of etcd, which test/compat runs: installed where npm and its registry are. Scripts of the packages do not run.
node:
	@if command -v npm >/dev/null; then $(MAKE) test/node/node_modules/.package-lock.json || echo "node: npm can't install the clients; their tests will be skipped"; \
		else echo "node: there is no npm; its clients' tests will be skipped"; fi
test/node/node_modules/.package-lock.json: test/node/package-lock.json
	cd test/node && npm ci --ignore-scripts --no-audit --no-fund

# 1,000 programs of the v2 API beside etcd 3.4: five minutes. A failing one says how to replay it.
compat-v2: build peers
	KEELSON_BIN=$(CURDIR)/bin KEELSON_PEERS=$(CURDIR)/bin/peers KEELSON_LONG=1 $(GO) test -count=1 -timeout 30m -run TestV2 -v ./test/compat

# Keelson and etcd in turn, on this machine: rates, latencies, CPU an operation, ratios.
bench: build peers
	$(GO) run ./test/bench -bin bin -peer bin/peers/etcd37 $(BENCH)

# Random schedules of crashes, partitions and lost writes, for as long as SIM says.
sim:
	$(GO) test -count=1 -timeout 0 ./test/sim -for $(SIM)

# Three members in this terminal, stopped by Ctrl-C.
cluster: build
	$(GO) run ./test/cluster -bin bin -dir cluster

check: lint test race

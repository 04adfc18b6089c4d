// Package compat compares Keelson with real etcd: data directories handed from one to the other, the same commands and
// calls against both, and clusters of both. It runs by `make compat`, which builds what it needs; without that it skips.
package compat

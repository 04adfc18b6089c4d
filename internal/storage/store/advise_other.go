//go:build !linux

package store

import bolt "go.etcd.io/bbolt"

func forget(*bolt.Tx)    {}
func readAhead(*bolt.Tx) {}

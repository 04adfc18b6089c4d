package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const checkDatascaleHelp = `Writes keys of 1 KiB each, value included (s 10,000 of them, m 100,000, l a million, xl three millions) and prints how much
the resident memory of the first endpoint grew, as its /metrics tell. The keys are deleted afterwards.`

type dataLoad struct{ keys, clients int }

// Of each pair of check datascale, in bytes: kvSize is what is told.
const (
	dataKeyBytes   = 512
	dataValueBytes = 512
	kvSize         = 1024
)

func checkDatascaleCommand(a *app) *cobra.Command {
	k := &check{app: a}
	cmd := &cobra.Command{
		Use:   "datascale [options]",
		Short: "Checks what memory a member takes to hold data",
		Long:  checkDatascaleHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			load, err := loadOf(k.load, dataLoad{10_000, 50}, dataLoad{100_000, 200}, dataLoad{1_000_000, 500}, dataLoad{3_000_000, 1000})
			if err != nil {
				return err
			}
			if err := k.open(cmd, load.clients, "%s"); err != nil {
				return err
			}
			defer k.close()
			return k.datascale(load)
		},
	}
	k.bind(cmd, "/etcdctl-check-datascale/")
	return cmd
}

func (k *check) datascale(load dataLoad) error {
	before, err := k.memory("before")
	if err != nil {
		return err
	}
	fmt.Fprintf(k.out, "Start data scale check for work load [%d key-value pairs, %d bytes per key-value, %d concurrent clients].\n", load.keys, kvSize, load.clients)
	ops, next := make(chan clientv3.Op, load.clients), k.putter(dataKeyBytes, dataValueBytes)
	go func() {
		defer close(ops)
		for range load.keys {
			ops <- next()
		}
	}()
	b := startBar(k.diag, int64(load.keys))
	r := k.writes(ops, func() { b.add(1) })
	b.end()
	after, err := k.memory("after")
	if err != nil {
		return err
	}
	rev, err := k.remove(context.Background())
	if err != nil {
		return k.explain(statusError, err)
	}
	if err := k.reclaim(rev); err != nil {
		return err
	}
	if k.failed(r) {
		return &exitError{status: statusError} // told above
	}
	fmt.Fprintf(k.out, "PASS: Approximate system memory used : %s MB.\n", strconv.FormatFloat((after-before)/(1<<20), 'f', 2, 64))
	return nil
}

// memory reads the resident memory of the first endpoint, in bytes.
func (k *check) memory(when string) (float64, error) {
	n, err := residentMemory(k.set.endpoints[0])
	if err == nil {
		return n, nil
	}
	fmt.Fprintf(k.out, "%v\nFAIL: Could not read process_resident_memory_bytes %s the put operations.\n", err, when)
	return 0, &exitError{status: statusError}
}

func residentMemory(endpoint string) (float64, error) {
	const name = "process_resident_memory_bytes"
	if !strings.HasPrefix(endpoint, "http://") {
		endpoint = "http://" + endpoint
	}
	r, err := http.Get(endpoint + "/metrics")
	if err != nil {
		return 0, fmt.Errorf("fetch error: %w", err)
	}
	defer closeQuietly(r.Body)
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, fmt.Errorf("fetch error: reading %s/metrics: %w", endpoint, err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, errors.New("could not find: " + name)
}

// Command cluster runs three members in one terminal, for trying things out: etcd0..2 on 12379/12380, 22379/22380 and
// 32379/32380, their data under one directory, their logs interleaved and each line named. Ctrl-C stops all three
// cleanly; a second one kills them.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const members = 3

func main() {
	bin := flag.String("bin", "bin", "where the etcd binary is")
	dir := flag.String("dir", "cluster", "where the members keep their data")
	flag.Parse()
	if err := run(*bin, *dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(bin, dir string, extra []string) error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	var out sync.Mutex // guards the terminal: lines are never mixed
	ended := make(chan error, members)
	cmds := make([]*exec.Cmd, members)
	for i := range cmds {
		cmd := exec.Command(filepath.Join(bin, "etcd"), append(args(i, dir), extra...)...)
		cmd.SysProcAttr = ownGroup() // Ctrl-C reaches this program alone, which passes it on
		r, w := io.Pipe()
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			kill(cmds)
			return fmt.Errorf("start %s: %w (run `make build` first)", name(i), err)
		}
		cmds[i] = cmd
		go relay(name(i), r, &out)
		go func() { ended <- describe(i, cmd.Wait()) }()
	}
	return wait(cmds, stop, ended)
}

// wait returns when all members have ended; the first signal stops them, the second kills them. A member that ends by
// itself leaves the others running.
func wait(cmds []*exec.Cmd, stop <-chan os.Signal, ended <-chan error) error {
	stopping := false
	var first error
	for left := len(cmds); left > 0; {
		select {
		case <-stop:
			if stopping {
				kill(cmds)
				continue
			}
			stopping = true
			for _, c := range cmds {
				_ = c.Process.Signal(syscall.SIGTERM) // gone already: fine
			}
		case err := <-ended:
			left--
			if err != nil {
				fmt.Fprintln(os.Stderr, "cluster:", err)
				if first == nil && !stopping {
					first = err
				}
			}
		}
	}
	return first
}

func kill(cmds []*exec.Cmd) {
	for _, c := range cmds {
		if c != nil {
			_ = c.Process.Kill()
		}
	}
}

func describe(i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s ended: %w", name(i), err)
}

func name(i int) string { return fmt.Sprintf("etcd%d", i) }

func args(i int, dir string) []string {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d2379", i+1), fmt.Sprintf("http://127.0.0.1:%d2380", i+1)
	var all []string
	for k := range members {
		all = append(all, fmt.Sprintf("%s=http://127.0.0.1:%d2380", name(k), k+1))
	}
	return []string{
		"--name", name(i), "--data-dir", filepath.Join(dir, name(i)),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--initial-cluster", strings.Join(all, ","), "--initial-cluster-token", "etcd-cluster", "--log-format", "console",
	}
}

// relay copies lines to the terminal, each with its member's name.
func relay(name string, r io.Reader, out *sync.Mutex) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			out.Lock()
			fmt.Printf("%s | %s\n", name, strings.TrimRight(line, "\n"))
			out.Unlock()
		}
		if err != nil {
			return
		}
	}
}

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"keelson/test/process"
)

// image is an OCI archive, as far as running it goes: its files, and what to run.
type image struct {
	layers [][]byte
	config struct {
		Cmd, Env, Entrypoint  []string
		WorkingDir            string
		StopSignal            string
		ExposedPorts, Volumes map[string]struct{}
		Labels                map[string]string
	}
}

// descriptor is how one file of an archive names another.
type descriptor struct{ MediaType, Digest string }

// openImage reads the archive that KEELSON_IMAGE names, and checks all its digests.
func openImage(t *testing.T) *image {
	t.Helper()
	file := os.Getenv("KEELSON_IMAGE")
	if file == "" {
		t.Skip("KEELSON_IMAGE is not set: make image builds the archive that it names")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(d descriptor) []byte {
		name, found := strings.CutPrefix(d.Digest, "sha256:")
		sum := sha256.Sum256(files["blobs/sha256/"+name])
		if !found || hex.EncodeToString(sum[:]) != name {
			t.Fatalf("%s: the archive holds something else of this name, or nothing", d.Digest)
		}
		return files["blobs/sha256/"+name]
	}
	var index struct{ Manifests []descriptor }
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 1 || !bytes.Contains(files["oci-layout"], []byte(`"1.0.0"`)) {
		t.Fatalf("no OCI layout with one image: %s %s", files["oci-layout"], files["index.json"])
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(t, blob(index.Manifests[0]), &manifest)
	i := &image{}
	var config struct{ Config any }
	config.Config = &i.config
	decode(t, blob(manifest.Config), &config)
	for _, l := range manifest.Layers {
		i.layers = append(i.layers, blob(l))
	}
	return i
}

func decode(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

// unpack lays the image's files out in a directory of their own.
func (i *image) unpack(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // another user than root enters it too
		t.Fatal(err)
	}
	for _, l := range i.layers {
		z, err := gzip.NewReader(bytes.NewReader(l))
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = place(filepath.Join(root, filepath.FromSlash(h.Name)), h, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func place(file string, h *tar.Header, content io.Reader) error {
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(file, 0o700); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, file)
	default:
		b, err := io.ReadAll(content)
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return os.Chmod(file, mode)
}

// enterRoot binds volumes, which come in pairs up to "--", and goes on with what follows: in a mount namespace of its own.
const enterRoot = `set -e; while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@"`

// docker does what `docker run` does with its arguments, on a host that has all ports to itself: the image's root directory,
// environment and working directory, the volumes, the user, and what to run. Nothing is started yet.
func (i *image) docker(t *testing.T, host *process.Host, args ...string) *process.Member {
	t.Helper()
	root, user, volumes := i.unpack(t), "0:0", []string{}
	for ; strings.HasPrefix(args[0], "-"); args = args[1:] {
		option, value, joined := strings.Cut(args[0], "=")
		if option != "-d" && !joined {
			value, args = args[1], args[1:]
		}
		switch option {
		case "-v", "--volume":
			from, to, _ := strings.Cut(value, ":")
			volumes = append(volumes, from, filepath.Join(root, to))
		case "--user":
			user = value
		case "-p", "--publish", "-d", "--name": // the host's ports are the container's, and it has one
		default:
			t.Fatalf("docker run %s", option)
		}
	}
	command := args[1:] // after the image's name
	if len(command) == 0 {
		command = i.config.Cmd
	}
	chroot, err := exec.LookPath("chroot")
	if err != nil {
		t.Skip(err)
	}
	enter := append(slices.Clone(host.Enter), "unshare", "--mount", "--", "/bin/sh", "-c", enterRoot, "sh")
	enter = append(append(enter, volumes...), "--", chroot, "--userspec="+user, root, "/bin/env", "-i")
	enter = append(append(enter, i.config.Env...), "/bin/sh", "-c", `cd "$0" && exec "$@"`, i.config.WorkingDir)
	m := process.Single(t, process.Program{Name: "keelson", Bin: filepath.Dir(command[0])}, root)
	m.Place, m.Bare, m.Flags = &process.Place{Enter: enter, Dial: host.Dial}, true, command[1:]
	m.ClientAddr = host.Addr + ":2379"
	return m
}

// run runs a command in the member's container, as `docker exec` does, and gives what it printed.
func run(t *testing.T, m *process.Member, args ...string) string {
	t.Helper()
	args = append(slices.Clone(m.Place.Enter), args...)
	return process.Done(t, fmt.Sprint(args), func() process.Outcome { return process.Tool(t, args[0], "", nil, args[1:]...) })
}

// The image says what etcd's users count on, and its programs run in it, as any user.
func TestImage(t *testing.T) {
	t.Parallel()
	i := openImage(t)
	if c := i.config; len(c.Entrypoint) > 0 || !slices.Equal(c.Cmd, []string{"/usr/local/bin/etcd"}) || c.WorkingDir != "/var/lib/etcd" || c.StopSignal != "SIGTERM" {
		t.Errorf("the image's configuration: %+v", c)
	}
	host := process.Hosts(t, 1)[0]
	m := i.docker(t, host, "-d", "keelson")
	m.ClientAddr = "127.0.0.1:2379"
	version := "Keelson " + i.config.Labels["org.opencontainers.image.version"] + "\n"
	if out := run(t, m, "etcd", "--version"); !strings.HasSuffix(out, version) {
		t.Errorf("etcd --version prints %q, the image's label says %q", out, version)
	}
	for tool, want := range map[string]string{"etcdctl": "3.7.3", "etcdutl": "3.7.3"} {
		if out := run(t, m, "/usr/local/bin/"+tool, "version"); !strings.Contains(out, want) {
			t.Errorf("%s version prints %q", tool, out)
		}
	}
	m.Serve() // nothing but the image's own command
	if out := run(t, m, "etcdctl", "put", "a", "b"); out != "OK\n" {
		t.Errorf("put: %q", out)
	}
	m.Stop()
	other := i.docker(t, host, "--user=65532:65532", "keelson", "/usr/local/bin/etcd", "--data-dir=/etcd-data")
	other.ClientAddr = "127.0.0.1:2379"
	if out := run(t, other.Serve(), "id", "-un"); out != "nonroot\n" {
		t.Errorf("who runs it: %q", out)
	}
	other.Stop()
}

// The tutorial's first command line for one container, and what it then runs inside.
func TestDockerOne(t *testing.T) {
	t.Parallel()
	i, host := openImage(t), process.Hosts(t, 1)[0]
	certs := t.TempDir()
	m := i.docker(t, host, strings.Fields(strings.ReplaceAll(
		"-d -v "+certs+":/etc/ssl/certs -p 4001:4001 -p 2380:2380 -p 2379:2379 --name etcd keelson /usr/local/bin/etcd -name etcd0"+
			" -advertise-client-urls http://HOST:2379,http://HOST:4001 -listen-client-urls http://0.0.0.0:2379,http://0.0.0.0:4001"+
			" -initial-advertise-peer-urls http://HOST:2380 -listen-peer-urls http://0.0.0.0:2380"+
			" -initial-cluster-token etcd-cluster-1 -initial-cluster etcd0=http://HOST:2380 -initial-cluster-state new", "HOST", host.Addr))...)
	m.Serve()
	if out := run(t, m, "/bin/sh", "-c", "export ETCDCTL_API=3 && /usr/local/bin/etcdctl put foo bar"); out != "OK\n" {
		t.Errorf("put: %q", out)
	}
	m.ClientAddr = host.Addr + ":4001"
	if r, err := m.Client().Get(t.Context(), "foo"); err != nil || r.Count != 1 || string(r.Kvs[0].Value) != "bar" {
		t.Errorf("get at the other port: %v %v", r, err)
	}
	if out := run(t, m, "etcdctl", "member", "list"); !strings.Contains(out, ", started, etcd0, http://"+host.Addr+":2380, http://"+host.Addr+":2379,http://"+host.Addr+":4001, false") {
		t.Errorf("member list: %s", out)
	}
	if out := run(t, m, "ls", "/var/lib/etcd"); out != "etcd0.etcd\n" {
		t.Errorf("the working directory holds %q", out)
	}
	m.Stop()
}

// The tutorial's later command line, for one container and for three: the data is in a volume and outlives the container.
func TestDockerVolumes(t *testing.T) {
	t.Parallel()
	i := openImage(t)
	for _, n := range []int{1, 3} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			hosts := process.Hosts(t, n)
			var initial, volumes []string
			for k, h := range hosts {
				initial = append(initial, "node"+strconv.Itoa(k+1)+"=http://"+h.Addr+":2380")
				volumes = append(volumes, t.TempDir())
			}
			start := func() []*process.Member {
				var all []*process.Member
				for k, h := range hosts {
					m := i.docker(t, h, strings.Fields(strings.ReplaceAll(
						"-p 2379:2379 -p 2380:2380 --volume="+volumes[k]+":/etcd-data --name etcd keelson /usr/local/bin/etcd --data-dir=/etcd-data"+
							" --name node"+strconv.Itoa(k+1)+" --initial-advertise-peer-urls http://NODE:2380 --listen-peer-urls http://0.0.0.0:2380"+
							" --advertise-client-urls http://NODE:2379 --listen-client-urls http://0.0.0.0:2379"+
							" --initial-cluster "+strings.Join(initial, ","), "NODE", h.Addr))...)
					m.Start()
					all = append(all, m)
				}
				for _, m := range all {
					m.WaitHealthy()
				}
				return all
			}
			all := start()
			if out := run(t, all[0], "/bin/sh", "-c", "export ETCDCTL_API=3 && /usr/local/bin/etcdctl put foo bar"); out != "OK\n" {
				t.Errorf("put: %q", out)
			}
			for _, m := range all {
				m.Stop()
			}
			for _, m := range start() {
				if out := run(t, m, "/usr/local/bin/etcdctl", "get", "foo"); out != "foo\nbar\n" {
					t.Errorf("%s has %q after all containers were made anew", m.Name, out)
				}
				defer m.Stop()
			}
		})
	}
}

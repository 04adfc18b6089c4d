package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The project's own Dockerfile says what users of etcd's image count on.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.Labels[labelVersion] == "" {
		t.Error("the image has no version")
	}
	c.Labels = nil
	want := v1.Config{
		Cmd: []string{"/usr/local/bin/etcd"}, Env: []string{"PATH=/usr/local/bin:/bin"}, WorkingDir: "/var/lib/etcd", StopSignal: "SIGTERM",
		Volumes: map[string]struct{}{"/etcd-data": {}}, ExposedPorts: map[string]struct{}{"2379/tcp": {}, "2380/tcp": {}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the Dockerfile says\n%+v, not\n%+v", c, want)
	}
}

func TestParse(t *testing.T) {
	const last = "FROM scratch\nCOPY --from=build /src/bin/rootfs /\n"
	c, err := parse("FROM a AS b\nENV X=1\nRUN x\n" + last + "# a comment\nLABEL a=1 \\\n  b=\"two words\"\nENV Z=1 A=2\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := (v1.Config{Labels: map[string]string{"a": "1", "b": "two words"}, Env: []string{"A=2", "Z=1"}}); !reflect.DeepEqual(c, want) {
		t.Errorf("read %+v", c)
	}
	for _, c := range []struct{ text, want string }{
		{last + "USER x", "USER"},
		{last + "RUN x", "RUN"},
		{last + "COPY a /b", "COPY"},
		{last + "CMD etcd", "CMD"},
		{last + "LABEL a", "NAME=VALUE"},
		{last + "LABEL a=\"b", "quotes"},
		{"FROM debian\nCOPY --from=build /src/bin/rootfs /", "nothing under it"},
		{last + "FROM scratch", "make rootfs"},
		{"", "make rootfs"},
	} {
		if _, err := parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, and not a word of %q", c.text, err, c.want)
		}
	}
}

// The same files give the same image, whenever and by whomever they were made; another byte gives another.
func TestReproducible(t *testing.T) {
	made := func(content string, modified time.Time) string {
		root := t.TempDir()
		for name, text := range map[string]string{"etc/passwd": content, "bin/sh": "shell", "z": ""} {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, modified, modified); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("sh", filepath.Join(root, "bin", "ls")); err != nil {
			t.Fatal(err)
		}
		image, err := build(root, v1.Config{Cmd: []string{"/bin/sh"}}, "amd64", time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "image.tar")
		if err := archive(out, image, "a:1", time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil || !bytes.Contains(b, []byte("oci-layout")) {
			t.Fatalf("the archive: %v", err)
		}
		return string(b)
	}
	first := made("root", time.Unix(1e9, 0))
	if made("root", time.Unix(1.1e9, 0)) != first {
		t.Error("the same files give another archive")
	}
	if made("toor", time.Unix(1e9, 0)) == first {
		t.Error("other files give the same archive")
	}
}

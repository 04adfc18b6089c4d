package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labelVersion is the label that gives the image its tag.
const labelVersion = "org.opencontainers.image.version"

// pack writes dir as a tar: in one order, all root's and of one time, so that equal files give equal bytes.
func pack(w io.Writer, dir string, at time.Time) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		return add(out, dir, file, at)
	})
	if err != nil {
		return fmt.Errorf("image: pack %s: %w", dir, err)
	}
	return out.Close()
}

func add(out *tar.Writer, dir, file string, at time.Time) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, file)
	if err != nil {
		return err
	}
	if h.Name = filepath.ToSlash(name); info.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime, h.Format = 0, 0, "", "", at, tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if err := out.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was read only
	_, err = io.Copy(out, f)
	return err
}

// build makes the image: one layer with the files of root, and what config says.
func build(root string, config v1.Config, architecture string, at time.Time) (v1.Image, error) {
	var files bytes.Buffer
	if err := pack(&files, root, at); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "COPY --from=build /src/bin/rootfs / # make image"},
	})
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture, file.Created = config, "linux", architecture, v1.Time{Time: at}
	return mutate.ConfigFile(image, file)
}

// archive writes an image as an OCI layout in one tar.
func archive(out string, image v1.Image, tag string, at time.Time) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is in the system's own place for such
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
	to, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = to.AppendImage(image, named)
	}
	if err != nil {
		return fmt.Errorf("image: lay out: %w", err)
	}
	// A name beside it and a rename: whoever looks finds a whole archive or none.
	f, err := os.Create(out + ".tmp")
	if err != nil {
		return err
	}
	if err := errors.Join(pack(f, dir, at), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}

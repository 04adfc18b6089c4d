// Command image builds the container image without a container engine: a root directory and the last stage of a Dockerfile
// become an OCI archive. Equal files give an equal image: all are root's, in one order and of one time.
//
//	go run . -root ../../bin/rootfs -dockerfile ../../Dockerfile -out ../../bin/keelson-image.tar
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

func main() {
	root := flag.String("root", "", "directory whose files are the image's")
	dockerfile := flag.String("dockerfile", "Dockerfile", "file whose last stage says the rest")
	out := flag.String("out", "", "archive to write")
	flag.Parse()
	if err := run(*root, *dockerfile, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root, dockerfile, out string) error {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	config, err := parse(string(text))
	if err != nil {
		return err
	}
	at, err := buildTime(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	image, err := build(root, config, runtime.GOARCH, at)
	if err != nil {
		return err
	}
	tag := "keelson:" + config.Labels[labelVersion]
	if err := archive(out, image, tag, at); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s %s in %s\n", tag, digest, out)
	return nil
}

// buildTime is the time of everything in the image: that of SOURCE_DATE_EPOCH, else the oldest there is.
func buildTime(epoch string) (time.Time, error) {
	if epoch == "" {
		epoch = "0"
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("image: SOURCE_DATE_EPOCH is no number of seconds: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

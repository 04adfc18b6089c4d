package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// parse reads the last stage of a Dockerfile: what an image says beside its files. The stage has nothing under it and copies
// one root directory; an instruction that this tool does not know is refused, so that both ways to build give the same image.
func parse(text string) (v1.Config, error) {
	var c v1.Config
	all := lines(text)
	for len(all) > 0 && slices.ContainsFunc(all[1:], isFrom) {
		all = all[1:]
	}
	if len(all) < 2 || all[0] != "FROM scratch" || all[1] != "COPY --from=build /src/bin/rootfs /" {
		return c, fmt.Errorf("image: the Dockerfile's last stage must copy what make rootfs makes, and have nothing under it")
	}
	for _, line := range all[2:] {
		word, rest, _ := strings.Cut(line, " ")
		if err := instruct(&c, word, strings.TrimSpace(rest)); err != nil {
			return c, fmt.Errorf("image: %s in the Dockerfile: %w", word, err)
		}
	}
	return c, nil
}

func isFrom(line string) bool { return strings.HasPrefix(line, "FROM ") }

// instruct does one instruction.
func instruct(c *v1.Config, word, rest string) error {
	var err error
	switch word {
	case "LABEL":
		c.Labels, err = pairs(rest)
	case "ENV":
		var all map[string]string
		all, err = pairs(rest)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			c.Env = append(c.Env, name+"="+all[name])
		}
	case "WORKDIR":
		c.WorkingDir = path.Clean(rest)
	case "VOLUME":
		c.Volumes = set(strings.Fields(rest), "")
	case "EXPOSE":
		c.ExposedPorts = set(strings.Fields(rest), "/tcp")
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "CMD":
		err = json.Unmarshal([]byte(rest), &c.Cmd)
	default:
		err = errors.New("this tool does not know the instruction")
	}
	return err
}

// lines gives the instructions, without comments, those that go on over several lines as one.
func lines(text string) []string {
	var all []string
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		part, more := strings.CutSuffix(line, `\`)
		if open {
			all[len(all)-1] += " " + strings.TrimSpace(part)
		} else {
			all = append(all, strings.TrimSpace(part))
		}
		open = more
	}
	return all
}

// pairs reads NAME=VALUE, with spaces only in values between double quotes.
func pairs(text string) (map[string]string, error) {
	all := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		if !ok || strings.ContainsAny(name, ` "`) {
			return nil, fmt.Errorf("%q is not NAME=VALUE", text)
		}
		end := " "
		if rest, ok = strings.CutPrefix(rest, `"`); ok {
			end = `"`
		}
		value, after, ended := strings.Cut(rest, end)
		if !ended && ok {
			return nil, fmt.Errorf("the quotes of %s do not end", name)
		}
		all[name], text = value, strings.TrimSpace(after)
	}
	return all, nil
}

func set(names []string, suffix string) map[string]struct{} {
	all := map[string]struct{}{}
	for _, n := range names {
		all[n+suffix] = struct{}{}
	}
	return all
}

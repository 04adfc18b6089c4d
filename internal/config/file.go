package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// file reads everything from one file, which is YAML, or lines of ETCD_NAME="value" as systemd's EnvironmentFile has them.
func (b *builder) file(path string, read func(string) ([]byte, error), flagsToo bool) error {
	data, err := read(path)
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	b.warnings = append(b.warnings, fmt.Sprintf("settings come from %s alone; flags and environment variables do not count", path))
	if flagsToo {
		b.warnings = append(b.warnings, "the flags beside --config-file are ignored")
	}
	entries, lines, err := b.cat.lines(data)
	if err == nil && !lines {
		entries, err = b.cat.yaml(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	b.cat.sortOlderFirst(entries)
	if err := b.settle(entries, lines); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// lines reads the file as lines; ok is false where no line is of that form, and the file must be YAML.
func (c *catalog) lines(data []byte) (entries []entry, ok bool, err error) {
	form := regexp.MustCompile(`^(?:export\s+)?(ETCD_[A-Za-z0-9_]+)=(.*)$`)
	flags := map[string]string{}
	for flag := range c.rows {
		flags[Env(flag)] = flag
	}
	for flag := range c.olders {
		flags[Env(flag)] = flag
	}
	stray := 0
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		m := form.FindStringSubmatch(line)
		if m == nil {
			if stray == 0 {
				stray = i + 1
			}
			continue
		}
		ok = true
		flag, known := flags[m[1]]
		if !known {
			name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(m[1], envPrefix), "_", "-"))
			return nil, true, fmt.Errorf("line %d: unknown setting %s%s", i+1, m[1], c.hint("", name))
		}
		text, err := unquote(m[2])
		if err != nil {
			return nil, true, fmt.Errorf("line %d: %s: %w", i+1, m[1], err)
		}
		if text != "" {
			entries = append(entries, entry{flag, text, m[1]})
		}
	}
	if ok && stray > 0 {
		return nil, true, fmt.Errorf(`line %d is neither ETCD_NAME="value" nor a comment: correct or remove it`, stray)
	}
	return entries, ok, nil
}

// unquote takes off one pair of quotes, and a comment behind the value.
func unquote(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || (s[0] != '"' && s[0] != '\'') {
		if at := strings.Index(s, " #"); at >= 0 {
			s = strings.TrimSpace(s[:at])
		}
		return s, nil
	}
	end := strings.IndexByte(s[1:], s[0])
	for s[0] == '"' && end > 0 && s[end] == '\\' {
		next := strings.IndexByte(s[end+2:], '"')
		if next < 0 {
			end = -1
			break
		}
		end += next + 1
	}
	if end < 0 {
		return "", fmt.Errorf("the quote %c is not closed", s[0])
	}
	value, rest := s[1:1+end], strings.TrimSpace(s[end+2:])
	if rest != "" && rest[0] != '#' {
		return "", fmt.Errorf("%q follows the closing quote", rest)
	}
	if s[0] == '"' {
		value = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`).Replace(value)
	}
	return value, nil
}

// yaml reads the file as one map of settings; a key without a value, or with an empty one, is left at its default.
func (c *catalog) yaml(data []byte) ([]entry, error) {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("it is neither YAML nor lines of ETCD_NAME=\"value\": %w", err)
	}
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil, nil
	}
	var top map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		return nil, fmt.Errorf(`it must be lines of "key: value" or of ETCD_NAME="value"; found %.40s`, text)
	}
	return c.yamlGroup(nil, c.yamlKeys(), "", top)
}

// yamlKeys leads from each key, with the groups that it is in before it, to the name that its setting has here.
func (c *catalog) yamlKeys() map[string]string {
	keys := map[string]string{}
	for _, r := range c.rows {
		keys[r.Flag] = r.Flag
		if r.Key != "" {
			keys[r.Key] = r.Flag
		}
	}
	for flag := range c.olders {
		keys[flag] = flag
	}
	for key := range c.files {
		keys[key] = key
	}
	return keys
}

func (c *catalog) yamlGroup(entries []entry, keys map[string]string, prefix string, group map[string]any) (_ []entry, err error) {
	for _, name := range sortedKeys(group) {
		key := prefix + name
		if inner, ok := group[name].(map[string]any); ok {
			entries, err = c.yamlGroup(entries, keys, key+".", inner)
		} else if group[name] != nil || !isGroup(key) {
			entries, err = c.yamlEntry(entries, keys, key, group[name])
		}
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

const discoveryGroup = "discovery-config"

// isGroup says that a key holds a map of its own.
func isGroup(key string) bool {
	switch key {
	case "client-transport-security", "peer-transport-security", "socket-options",
		discoveryGroup, discoveryGroup + ".client", discoveryGroup + ".client.secure", discoveryGroup + ".client.auth":
		return true
	}
	return false
}

func (c *catalog) yamlEntry(entries []entry, keys map[string]string, key string, value any) ([]entry, error) {
	flag, ok := keys[key]
	if !ok {
		if value == nil && isGroup(strings.Split(key, ".")[0]) {
			return entries, nil
		}
		return nil, fmt.Errorf("unknown key %q%s", key, c.keyHint(keys, key))
	}
	k, _ := c.kind(flag)
	text, err := scalar(k, value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if text == "" {
		return entries, nil
	}
	return append(entries, entry{flag, text, key}), nil
}

// keyHint looks for the same name elsewhere in an outer group, then for one that is nearly the same.
func (c *catalog) keyHint(keys map[string]string, key string) string {
	group, _, inside := strings.Cut(key, ".")
	name := key[strings.LastIndexByte(key, '.')+1:]
	for _, other := range sortedKeys(keys) {
		if inside && strings.HasPrefix(other, group+".") && strings.HasSuffix(other, "."+name) {
			return fmt.Sprintf("; did you mean %s?", other)
		}
	}
	return c.hint("", name)
}

// scalar writes a YAML value as the text that a flag would have.
func scalar(k kind, value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case json.Number:
		if k.number != nil {
			return k.number(v)
		}
		return v.String(), nil
	case []any:
		var parts []string
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return "", fmt.Errorf("%v in the list is no text: write it in quotes", item)
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("a map does not belong here")
}

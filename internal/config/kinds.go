package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// kind says how the text of a setting becomes a value, and where the value goes.
type kind struct {
	// set parses text and stores the value; it changes nothing when it answers an error.
	set func(c *Config, text string) error
	// equal says whether two texts mean the same value.
	equal func(a, b string) bool
	// number turns a bare number of a YAML file into text; nil takes it as it is written.
	number func(n json.Number) (string, error)
	// switchLike marks a boolean, whose flag needs no value.
	switchLike bool
}

// into makes a kind from a parser and the field that it fills.
func into[T any](parse func(string) (T, error), field func(*Config) *T) kind {
	k := checked(parse)
	k.set = func(c *Config, text string) error {
		v, err := parse(text)
		if err != nil {
			return err
		}
		*field(c) = v
		return nil
	}
	return k
}

// checked makes a kind whose value is looked at and goes nowhere: the setting has no effect here.
func checked[T any](parse func(string) (T, error)) kind {
	k := kind{
		set: func(_ *Config, text string) error { _, err := parse(text); return err },
		equal: func(a, b string) bool {
			x, errX := parse(a)
			y, errY := parse(b)
			return errX == nil && errY == nil && reflect.DeepEqual(x, y)
		},
	}
	switch any(*new(T)).(type) {
	case bool:
		k.switchLike = true
	case time.Duration:
		k.number = nanoseconds
	}
	return k
}

// milliseconds are what the interval of heartbeats and elections is counted in, also in a YAML file.
func milliseconds(field func(*Config) *time.Duration) kind {
	return counted(time.Millisecond, "ms", millisecondsMax, field)
}

// seconds are what a token's time is counted in, also in a YAML file.
func seconds(field func(*Config) *time.Duration) kind {
	return counted(time.Second, "s", secondsMax, field)
}

// counted is for a duration that is given as a whole number of units.
func counted(unit time.Duration, name string, most uint64, field func(*Config) *time.Duration) kind {
	k := into(func(s string) (time.Duration, error) {
		n, err := parseUint(s)
		if err == nil && n > most {
			return 0, fmt.Errorf("%d %s is more than %d %s", n, name, most, name)
		}
		return time.Duration(n) * unit, err
	}, field)
	k.number = nil
	return k
}

// millisecondsMax keeps the product with a million inside an int64; an hour is past every sane value.
const millisecondsMax = 3_600_000

// secondsMax is a hundred years, which as nanoseconds is inside an int64 too.
const secondsMax = 100 * 365 * 24 * 3600

func parseText(s string) (string, error) { return s, nil }

// parsePrefix takes a prefix that no user's own key is likely to have.
func parsePrefix(s string) (string, error) {
	if strings.Trim(s, "/") == "" {
		return "", errors.New("must have a name in it, such as /_v2/: all of the user's own keys would be below it")
	}
	return s, nil
}

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("must be true or false")
	}
	return v, nil
}

func parseUint(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 0, 64)
	return v, plainNumber(err)
}

func parseSize(s string) (uint, error) {
	v, err := strconv.ParseUint(s, 0, strconv.IntSize)
	return uint(v), plainNumber(err)
}

func parseUint32(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 0, 32)
	return uint32(v), plainNumber(err)
}

func parseInt(s string) (int, error) {
	v, err := strconv.ParseInt(s, 0, strconv.IntSize)
	return int(v), plainNumber(err)
}

func parseInt64(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 0, 64)
	return v, plainNumber(err)
}

// plainNumber drops the name of the function and the value, which the caller tells anyway.
func plainNumber(err error) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("the number is out of range")
	case err != nil:
		return errors.New("must be a whole number")
	}
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, errors.New(`must be a duration with its unit, such as "10m" or "500ms"`)
	case d < 0:
		return 0, errors.New("must not be negative")
	}
	return d, nil
}

// nanoseconds reads a bare number of a YAML file as etcd does; text with a unit is better and is taken too.
func nanoseconds(n json.Number) (string, error) {
	v, err := n.Int64()
	if err != nil {
		return "", errors.New(`must be a duration such as "10m", or whole nanoseconds`)
	}
	return time.Duration(v).String(), nil
}

// parseList splits at commas, sorts, and drops repeats.
func parseList(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// oneOf takes one of a few words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("must be one of %s", strings.Join(words, ", "))
	}
}

// either takes one of two words and answers whether it was the second.
func either(no, yes string) func(string) (bool, error) {
	return func(s string) (bool, error) {
		switch s {
		case no, yes:
			return s == yes, nil
		}
		return false, fmt.Errorf("must be %s or %s", no, yes)
	}
}

// textual clears switchLike: the setting is stored as a bool but written as a word.
func textual(k kind) kind {
	k.switchLike = false
	return k
}

// parseURLs reads URLs separated by commas, sorts them, and drops repeats. An empty text is no URL at all.
func parseURLs(s string) (types.URLs, error) {
	if s == "" {
		return nil, nil
	}
	var urls types.URLs
	for _, text := range strings.Split(s, ",") {
		u, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		urls = append(urls, *u)
	}
	urls.Sort()
	return slices.CompactFunc(urls, func(a, b url.URL) bool { return a.String() == b.String() }), nil
}

func parseURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("a URL in the list is empty: remove the extra comma")
	}
	u, err := url.Parse(text)
	if err != nil && !strings.Contains(text, "://") {
		return nil, fmt.Errorf("%q has no scheme: write http://%s", text, text)
	}
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https":
	case "unix", "unixs":
		if socketPath(u) == "" {
			return nil, fmt.Errorf("%q has no path: write %s:///path/to/socket", text, u.Scheme)
		}
		return u, nil
	default:
		return nil, fmt.Errorf("the scheme of %q is not one of http, https, unix, unixs: write http://HOST:PORT", text)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil || u.Port() == "" {
		return nil, fmt.Errorf("%q has no port: write %s://HOST:PORT", text, u.Scheme)
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil {
		return nil, fmt.Errorf("the port of %q is out of range: it must be at most 65535, not %d", text, port)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%q must be a scheme, a host and a port alone, with no path: write %s://%s", text, u.Scheme, u.Host)
	}
	return u, nil
}

// socketPath is the file that a unix:// or unixs:// URL names: with three slashes a whole path, with two one in the working
// directory.
func socketPath(u *url.URL) string { return u.Host + u.Path }

// parseOrigins is a list in which nothing and "*" both mean everybody.
func parseOrigins(s string) ([]string, error) {
	if s == "" {
		s = "*"
	}
	return parseList(s)
}

package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLinesAreThoseOfEtcd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, done, err := New(Options{Level: "warn", Outputs: []string{path, path}})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("too quiet")
	log.Warn("loud", zap.Duration("took", 1500*time.Millisecond))
	if err := done(); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	var line map[string]string
	if err := json.Unmarshal(data, &line); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	if line["level"] != "warn" || line["msg"] != "loud" || line["took"] != "1.5s" || !strings.HasPrefix(line["caller"], "logging/logging_test.go:") {
		t.Errorf("%v", line)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z0700", line["ts"]); err != nil {
		t.Error(err)
	}
}

func TestConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, done, err := New(Options{Format: "console", Outputs: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hello")
	done()
	if data, _ := os.ReadFile(path); !strings.Contains(string(data), "\tinfo\tlogging/") || strings.HasPrefix(string(data), "{") {
		t.Errorf("%q", data)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	log, done, err := New(Options{Outputs: []string{filepath.Join(dir, "log")}, Rotate: true, Rotation: `{"maxsize": 1, "maxbackups": 3}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b", "c"} {
		log.Info(text, zap.String("fill", strings.Repeat("x", 700<<10)))
	}
	done()
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files after three times two thirds of the size", len(files))
	}
}

func TestNothingIsLoggedBesideDevNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, _, err := New(Options{Outputs: []string{path, discard}})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("x")
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was made")
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]Options{
		"level":    {Level: "loud"},
		"format":   {Format: "xml"},
		"path":     {Outputs: []string{filepath.Join(dir, "no", "such")}},
		"rotation": {Outputs: []string{filepath.Join(dir, "x")}, Rotate: true, Rotation: "{"},
	} {
		if _, _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if !journal.Enabled() {
		if _, _, err := New(Options{Outputs: []string{Journal}}); !errors.Is(err, ErrNoJournal) {
			t.Errorf("%v", err)
		}
	}
}

// A logger that is to leave out more than it does already says nothing about it.
func TestAtLeast(t *testing.T) {
	for level, want := range map[string]string{"info": "w", "error": "", "fatal": ""} {
		path := filepath.Join(t.TempDir(), "log")
		log, done, err := New(Options{Level: level, Outputs: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		quiet := AtLeast(log, zap.WarnLevel)
		quiet.Info("i")
		quiet.Warn("w")
		if err := done(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if lines := strings.Count(string(text), "\n"); err != nil || lines != len(want) || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q, %v", level, text, err)
		}
	}
}

func TestJournal(t *testing.T) {
	var spare bytes.Buffer
	var got []journal.Priority
	var broken error
	w := &journalWriter{spare: &spare, send: func(_ string, p journal.Priority, vars map[string]string) error {
		got = append(got, p)
		return broken
	}}
	encoder, _ := newEncoder("json")
	log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), zapcore.DebugLevel), zap.AddCaller())
	log.Debug("d")
	log.Warn("w")
	broken = errors.New("gone")
	log.Error("e")
	if len(got) != 3 || got[0] != journal.PriDebug || got[1] != journal.PriWarning || got[2] != journal.PriErr {
		t.Errorf("%v", got)
	}
	if !strings.Contains(spare.String(), `"msg":"e"`) || strings.Contains(spare.String(), `"msg":"w"`) {
		t.Errorf("%q", spare.String())
	}
}

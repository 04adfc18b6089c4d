package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
)

// TestScript runs testdata/*: commands in, every answer of the streams out. Each command prints what came
// until nobody has anything left to do.
func TestScript(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{past: newPast(), rev: 1, streams: map[string]*Stream{}}
			s.h = New(Options{RingRevs: 1, ProgressInterval: time.Minute, FragmentBytes: 400, Prev: s.past.prevAt}, s.past)
			datadriven.RunTest(t, path, s.run)
			s.h.Close()
		})
	})
}

type script struct {
	h       *Hub
	past    *past
	rev     int64
	streams map[string]*Stream

	mu  sync.Mutex
	out strings.Builder
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	arg := func(key, fallback string) string {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &fallback)
		}
		return fallback
	}
	number := func(key string) (n int64) {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &n)
		}
		return n
	}
	stream := s.stream(arg("stream", "1"))
	switch d.Cmd {
	case "stream": // opens it
	case "watch":
		id, err := stream.Watch(WatchRequest{
			ID: number("id"), Key: []byte(arg("key", "")), End: []byte(strings.ReplaceAll(arg("end", ""), "0", "\x00")),
			StartRev: number("rev"), PrevKV: d.HasArg("prev"), NoPut: d.HasArg("noput"), NoDelete: d.HasArg("nodelete"),
			Progress: d.HasArg("notify"), Fragment: d.HasArg("fragment"),
		})
		s.printf("%d %v\n", id, err)
	case "cancel":
		stream.Cancel(number("id"))
	case "refuse":
		stream.Refuse("no")
	case "progress":
		stream.RequestProgress()
	case "close":
		stream.Close()
	case "put": // key=(a,b) in one revision, repeated times, filled to size bytes
		for range max(1, number("times")) {
			s.rev++
			s.h.Append(s.put(d, int(number("size"))))
		}
		s.h.Publish(s.rev)
	case "durable":
		s.h.SetDurable(s.rev)
	case "compact":
		s.h.Compacted(number("rev"))
		s.past.compacted = number("rev")
	case "reset":
		s.h.Suspend()
		s.past.compacted = number("compacted")
		s.h.Reset(s.rev, s.past.compacted)
	case "wait":
		pause, err := time.ParseDuration(arg("for", ""))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(pause)
	case "stats":
		streams, watchers, slow, pending := s.h.Stats()
		s.printf("streams=%d watchers=%d slow=%d pending=%d ring=%d\n", streams, watchers, slow, pending, s.h.RingStart())
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.SplitAfter(s.out.String(), "\n")
	s.out.Reset()
	// Streams have no order among them.
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(tag(a), tag(b)) })
	return strings.Join(lines, "")
}

func tag(line string) string {
	if name, _, ok := strings.Cut(line, "]"); ok && name[0] == '[' {
		return name
	}
	return ""
}

func (s *script) put(d *datadriven.TestData, size int) []mvcc.Change {
	var changes []mvcc.Change
	for _, arg := range d.CmdArgs {
		if arg.Key != "key" && arg.Key != "delete" {
			continue
		}
		for _, key := range arg.Vals {
			prev := s.past.live[key]
			r := record{rev: schema.Revision{Main: s.rev, Sub: int64(len(changes))}, key: key, gone: arg.Key == "delete", prev: prev}
			if r.gone {
				r.kv = wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(key), Mod: s.rev})
				delete(s.past.live, key)
			} else {
				r.kv = s.past.value(key, prev, s.rev, make([]byte, size))
				s.past.live[key] = r.kv
			}
			s.past.records = append(s.past.records, r)
			changes = append(changes, mvcc.Change{Rev: r.rev, Delete: r.gone, Key: []byte(key), KV: r.kv, Prev: prev})
		}
	}
	return changes
}

// stream gives the stream of that name, with somebody who reads it.
func (s *script) stream(name string) *Stream {
	if st := s.streams[name]; st != nil {
		return st
	}
	st := s.h.NewStream(func() wire.Header { return wire.Header{} })
	s.streams[name] = st
	go func() {
		for {
			r, err := st.Next(context.Background())
			if err != nil {
				s.printf("[%s] %v\n", name, err)
				return
			}
			s.print(name, r)
		}
	}()
	return st
}

func (s *script) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.out, format, args...)
}

func (s *script) print(name string, r *wire.WatchResponse) {
	line := fmt.Sprintf("[%s] id=%d rev=%d", name, r.WatchID, r.Header.Revision)
	for _, part := range []struct {
		on   bool
		text string
	}{
		{r.Created, " created"},
		{r.Canceled, " canceled"},
		{r.CompactRevision != 0, fmt.Sprintf(" compacted=%d", r.CompactRevision)},
		{r.CancelReason != "", fmt.Sprintf(" reason=%q", r.CancelReason)},
		{r.Fragment, " fragment"},
	} {
		if part.on {
			line += part.text
		}
	}
	if len(r.Events) > 10 {
		s.printf("%s %d events\n", line, len(r.Events))
		return
	}
	for _, e := range r.Events {
		kv, _ := wire.ParseKeyValue(e.KV)
		word := "put"
		if e.Delete {
			word = "delete"
		}
		line += fmt.Sprintf(" %s(%s@%d", word, kv.Key, kv.Mod)
		if e.PrevKV != nil {
			prev, _ := wire.ParseKeyValue(e.PrevKV)
			line += fmt.Sprintf(" after %d", prev.Mod)
		}
		line += ")"
	}
	s.printf("%s\n", line)
}

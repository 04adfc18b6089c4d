package logging

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A panic of a handler is told with its stack, by either protocol; what a stranger does wrong is not, unless somebody debugs.
func TestHTTPErrors(t *testing.T) {
	for _, level := range []string{"debug", "error"} {
		at, err := zap.ParseAtomicLevel(level)
		if err != nil {
			t.Fatal(err)
		}
		for _, two := range []bool{false, true} {
			core, logs := observer.New(at)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				w.WriteHeader(http.StatusOK) // superfluous, as net/http says of HTTP/1.1
				panic("a bug")
			}))
			panicked := make(chan struct{}, 1)
			s.Config.ErrorLog = HTTPErrors(zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
				if e.Level == zap.ErrorLevel {
					panicked <- struct{}{}
				}
				return nil
			})))
			s.EnableHTTP2 = two
			s.StartTLS()
			if resp, err := s.Client().Get(s.URL); err == nil {
				resp.Body.Close()
			}
			select {
			case <-panicked: // HTTP/2 answers before it tells
			case <-time.After(20 * time.Second):
			}
			s.Close()
			panics := logs.FilterLevelExact(zap.ErrorLevel).All()
			if len(panics) != 1 || !strings.Contains(panics[0].Message, "a bug") || !strings.Contains(panics[0].Message, "http_test.go") {
				t.Errorf("%s, HTTP/2 %v: %v", level, two, panics)
			}
			if told := logs.FilterMessageSnippet("superfluous").Len(); (told == 1) != (level == "debug" && !two) {
				t.Errorf("%s, HTTP/2 %v: told %d times of a superfluous call", level, two, told)
			}
		}
	}
}

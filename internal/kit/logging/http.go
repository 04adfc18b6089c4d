package logging

import (
	"bytes"
	"log"

	"go.uber.org/zap"
)

// HTTPErrors gives what an http.Server may have as its ErrorLog: a handler that panicked is an error of ours and told as one; all
// else, which strangers cause at will, is for who debugs.
func HTTPErrors(to *zap.Logger) *log.Logger {
	return log.New(httpErrors{to.WithOptions(zap.WithCaller(false))}, "", 0)
}

type httpErrors struct{ to *zap.Logger }

// Write takes one line, or a panic with its stack.
func (e httpErrors) Write(line []byte) (int, error) {
	tell, text := e.to.Debug, string(bytes.TrimSpace(line))
	if bytes.Contains(line, []byte("panic serving")) { // net/http's words, for HTTP/1.1 and HTTP/2
		tell = e.to.Error
	}
	tell(text)
	return len(line), nil
}

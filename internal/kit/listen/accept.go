package listen

import (
	"errors"
	"net"
	"time"

	"go.uber.org/zap"
)

// acceptPauseMax is the longest rest after an accept that failed for want of file descriptors.
const acceptPauseMax = time.Second

// acceptAll hands on the connections of a listener until it is closed. An error that may pass is waited out. It answers nil
// once closed is closed, else why accepting is over, and closes what belongs to the listener.
func acceptAll(l net.Listener, closed <-chan struct{}, log *zap.Logger, end func() error, take func(net.Conn)) error {
	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			take(c)
			continue
		}
		if pause = rest(err, pause, closed, log); pause > 0 {
			continue
		}
		select {
		case <-closed:
			return nil
		default:
			_ = end() // the socket is gone either way
			return err
		}
	}
}

// rest waits out an error that may pass, such as too many open files. It answers the pause, or 0 where accepting is over.
func rest(err error, last time.Duration, closed <-chan struct{}, log *zap.Logger) time.Duration {
	var passing interface{ Temporary() bool }
	if !errors.As(err, &passing) || !passing.Temporary() {
		return 0
	}
	pause := min(max(2*last, 5*time.Millisecond), acceptPauseMax)
	log.Warn("failed to accept a connection; trying again", zap.Error(err), zap.Duration("pause", pause))
	select {
	case <-time.After(pause):
		return pause
	case <-closed:
		return 0
	}
}

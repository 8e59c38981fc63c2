package audit

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
)

// file counts the bytes that are read of an export, to tell how far that is.
type file struct {
	open func() (io.ReadCloser, error)
	size atomic.Int64
	read atomic.Int64
}

// Open begins a reading anew.
func (f *file) Open() (io.ReadCloser, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	f.read.Store(0)
	if s, ok := r.(io.Seeker); ok {
		if end, err := s.Seek(0, io.SeekEnd); err == nil {
			f.size.Store(end)
			if _, err = s.Seek(0, io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
	return &counted{r, f}, nil
}

// estimate is the number of events in the file if they go on as large as they
// were.
func (f *file) estimate(events int64) int64 {
	size, read := f.size.Load(), f.read.Load()
	if size == 0 || read == 0 {
		return 0
	}
	return int64(float64(events) * float64(size) / float64(read))
}

type counted struct {
	io.ReadCloser
	of *file
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.of.read.Add(int64(n))
	return n, err
}

// logEvery is the time between two lines of a log, drawEvery that between two
// states of a terminal's bar.
const (
	logEvery  = 5 * time.Second
	drawEvery = 100 * time.Millisecond
)

// Progress makes a callback that tells how far a verification is: every few
// seconds in a log, as a bar on a terminal.
func Progress(r *gha.Run) func(events, of int64) {
	start := r.Now()
	last := start
	return func(events, of int64) {
		now := r.Now()
		every := logEvery
		if r.Terminal() {
			every = drawEvery
		}
		if now.Sub(last) < every {
			return
		}
		last = now
		done := "" // in words
		if of > events {
			done = fmt.Sprintf(" (%d%%)", 100*events/of)
		}
		rate := float64(events) / now.Sub(start).Seconds()
		text := fmt.Sprintf("%d events checked%s, %.0f a second", events, done, rate)
		if done != "" {
			left := time.Duration(float64(of-events) / rate * float64(time.Second))
			text += fmt.Sprintf(", about %s left", left.Round(time.Second))
		}
		if r.Terminal() {
			r.Status(bar(events, of) + text)
		} else {
			r.Logf("%s", text)
		}
	}
}

// bar is 20 cells wide, nothing where the end is not known.
func bar(events, of int64) string {
	if of <= events {
		return ""
	}
	full := int(20 * events / of)
	return "[" + strings.Repeat("█", full) + strings.Repeat("░", 20-full) + "] "
}

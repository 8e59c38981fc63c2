package kmstest

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Fault is what goes wrong with one call. The zero value does nothing.
type Fault struct {
	// Applied carries the call out first and spoils only its answer, as when
	// a connection breaks after the service did its work.
	Applied bool
	// Delay waits before anything else, for as long as the client stays.
	Delay time.Duration
	// Drop resets the connection instead of answering.
	Drop bool
	// Truncate announces the whole answer, sends half of it, and hangs up.
	Truncate bool
	// Stale answers a read as a replica does that has not heard of the last
	// changes: keys and aliases of the last minute are not there. KMS is
	// eventually consistent (AWS KMS Developer Guide).
	Stale bool
	// Code, Message and Status make the answer this AWS error. Status
	// defaults to 400. A Status without Code is an answer with that status
	// and an HTML body, as a proxy sends it.
	Code    string
	Message string
	Status  int
}

// Step is one entry of a script: the nth call (counted from 1) of an operation
// meets the fault; n = 0 means every call.
type Step struct {
	Operation string
	Nth       int
	Fault     Fault
}

// Script returns a fault hook that plays the steps.
func Script(steps ...Step) func(string, *http.Request) *Fault {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(operation string, _ *http.Request) *Fault {
		mu.Lock()
		defer mu.Unlock()
		seen[operation]++
		for _, s := range steps {
			if s.Operation == operation && (s.Nth == 0 || s.Nth == seen[operation]) {
				return &s.Fault
			}
		}
		return nil
	}
}

// strikesBefore plays the fault before the call is carried out and reports
// whether that was the end of it.
func (f *Fault) strikesBefore(w http.ResponseWriter, r *http.Request) bool {
	if f == nil || f.Applied {
		return false
	}
	return f.strike(w, r)
}

// strike waits, resets or sends the fault's own answer, and reports whether
// it ended the call.
func (f *Fault) strike(w http.ResponseWriter, r *http.Request) bool {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return true
		}
	}
	switch {
	case f.Drop:
		reset(w)
	case f.Code != "":
		writeError(w, &awsError{max(f.Status, http.StatusBadRequest), f.Code, f.Message})
	case f.Status != 0:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Status)
		w.Write([]byte("<html><body>" + http.StatusText(f.Status) + "</body></html>"))
	default:
		return false
	}
	return true
}

// answer sends the result of a call that was carried out, spoilt by the fault
// if there is one.
func (f *Fault) answer(s *Server, w http.ResponseWriter, r *http.Request, answer any, err error) {
	w.Header().Set("Date", s.options.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("x-amzn-RequestId", uuid())
	if f != nil && f.Applied && f.strike(w, r) {
		return
	}
	if err != nil {
		writeError(w, err)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // a handler returned something that is no JSON: a bug here
	}
	if f != nil && f.Truncate {
		truncate(w, body)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Write(body)
}

func writeError(w http.ResponseWriter, err error) {
	e := asAWS(err)
	body, _ := json.Marshal(map[string]string{"__type": e.code, "message": e.message})
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(e.status)
	w.Write(body)
}

// reset closes the connection in such a way that the client sees a reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// truncate promises the whole answer, sends half and hangs up.
func truncate(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body[:len(body)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

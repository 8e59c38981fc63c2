package pullrequest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// An address where nobody listens is given up after half a minute, and whoever
// waits is told why.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var told []string
	var waited time.Duration
	r, err := Open(Options{
		APIURL: "http://" + address, Repository: "acme/kernel",
		Tell:  func(what string) { told = append(told, what) },
		Sleep: func(_ context.Context, d time.Duration) error { waited += d; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Head(t.Context(), "main")
	if coded, ok := err.(interface{ ExitCode() int }); !ok || coded.ExitCode() != 3 || !strings.Contains(err.Error(), "could not be reached") {
		t.Errorf("got %v, want exit code 3 and a sentence", err)
	}
	if len(told) != refusedTries-1 || waited > time.Minute || !strings.Contains(told[0], "trying again in 1s") {
		t.Errorf("waited %s, told %q", waited, told)
	}
}

package actions_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// verifier puts a verifier's address into a variable, or changes what the one
// that is there serves.
//
//	main     the registry on the default branch, byte for byte
//	told     JSON with the digests of registry and archive there
//	frozen   what main holds now, from now on: a stale cache
//	after N  what main holds now, N times, and then what it holds
//	old-archive  the digest of the registry on main, and of another archive
//	STATUS   that status
//	down     nobody listens
func verifier(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2 && len(args) != 3, "verifier VARIABLE main|told|frozen|after N|old-archive|STATUS|down")
	s := stageOf(ts)
	var answer http.HandlerFunc
	g := s.github
	file := func(name string) string {
		text, _ := g.File("main", "kernel/tools/"+name)
		return text
	}
	now := file("signers.json")
	switch args[1] {
	case "main":
		answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, file("signers.json")) }
	case "told":
		answer = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"registrySha256": %q, "archiveSha256": %q}`, digestOf(file("signers.json")), digestOf(file("signers.archive.json")))
		}
	case "old-archive":
		answer = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"registrySha256": %q, "archiveSha256": %q}`, digestOf(file("signers.json")), digestOf("another"))
		}
	case "frozen":
		answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, now) }
	case "after":
		var left atomic.Int64
		left.Store(int64(number(ts, args[2])))
		answer = func(w http.ResponseWriter, _ *http.Request) {
			if left.Add(-1) >= 0 {
				fmt.Fprint(w, now)
				return
			}
			fmt.Fprint(w, file("signers.json"))
		}
	case "down":
		s.verifiers[args[0]].Close()
		return
	default:
		status := number(ts, args[1])
		answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	v, there := s.verifiers[args[0]]
	if !there {
		v = &fakeVerifier{}
		v.Server = httptest.NewServer(v)
		s.verifiers[args[0]] = v
	}
	v.answer.Store(&answer)
	ts.Setenv(args[0], v.URL)
}

// fakeVerifier answers as it was told last.
type fakeVerifier struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func (v *fakeVerifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.asked.Add(1)
	(*v.answer.Load())(w, r)
}

func digestOf(text string) string {
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// asked wants that a verifier was asked so often, in all.
func asked(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "asked VARIABLE N")
	if n := stageOf(ts).verifiers[args[0]].asked.Load(); fmt.Sprint(n) != strings.TrimSpace(args[1]) {
		ts.Fatalf("verifier %s was asked %d times, want %s", args[0], n, args[1])
	}
}

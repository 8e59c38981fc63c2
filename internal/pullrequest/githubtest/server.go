// Package githubtest is a GitHub for tests and for the drill: the part of the
// REST API that this project uses, spoken over HTTP on loopback, with its state
// in memory and its commits in a real bare git repository (git 2.28 or newer;
// 2.38 to merge branches that have diverged).
//
// Each request and each answer is checked against GitHub's own OpenAPI
// description. A request that the description does not allow is answered with
// status 500 and kept in Violations, and so is an answer of this server that
// the description does not allow: a test that ends with no violations has
// spoken GitHub's language. Nothing leaves the machine.
package githubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options describe the repository that the server starts with.
type Options struct {
	Owner, Name string            // "acme", "kernel" when empty
	Dir         string            // where the bare repository is made; a temporary directory, removed by Close, when empty
	Files       map[string]string // path → content of the first commit on main
	Token       string            // what the Authorization header must carry
	Login       string            // who the token is; "audit-signer[bot]" when empty
	Now         func() time.Time  // the server's clock; time.Now when nil

	// Permissions of the token, such as contents: write, pull_requests: read.
	// nil grants everything.
	Permissions map[string]string

	// Environments are the deployment environments that there are; nil has
	// every one that is asked for.
	Environments []string

	// Protected names branches that only a pull request may change.
	Protected []string

	// PerHour is the token's rate limit; 5000 when 0. Every answer says what
	// is left of it, and at nothing left the answer is GitHub's refusal.
	PerHour int

	// WritesPerMinute is the secondary limit on requests that create content;
	// none when 0. GitHub documents 80 a minute, and keeps others to itself.
	WritesPerMinute int

	// Fault, when set, is asked before each request, which is the n-th one
	// (from 1); what it returns happens instead of or after the real answer.
	Fault func(r *http.Request, n int) *Fault
}

// Fault is something that goes wrong with one request.
type Fault struct {
	Apply    bool        // carry the request out first, then fail: the answer is lost
	Close    bool        // cut the connection instead of answering
	Truncate bool        // answer, but cut the body in half; implies Apply
	Hang     bool        // say nothing until the client has given up
	Stale    bool        // answer as before the last change: what this very request was answered the last time, else that there is nothing
	Status   int         // otherwise answer this
	Header   http.Header // with this, such as Retry-After
	Body     string      // and this
}

// Request is one entry of the log.
type Request struct {
	Method, Path, Query string
	Operation           string // GitHub's operation id, such as "git/create-ref"; "" when there is none
	Body                string
	Status              int // 0 when the connection was cut
}

// Server is the fake. Its methods may be called from several goroutines.
type Server struct {
	opts     Options
	contract *contract
	http     *httptest.Server
	fault    func(r *http.Request, n int) *Fault
	tempDir  string

	mu         sync.Mutex
	git        *gitRepo
	verified   map[string]bool // commits that GitHub signed
	pulls      []*pull
	comments   int64 // the last comment's id
	variables  map[string]map[string]string
	statuses   []Status
	requests   []Request
	violations []string
	answered   map[string]answer // to reads, by method and address
	old        map[string]bool   // refs that no read comes too late for
	oldPulls   int               // and pull requests up to this number
	counted    []time.Time       // requests of the last hour, by the server's clock
	created    []time.Time       // writes of the last minute
}

// New makes the repository and starts to listen on loopback.
func New(o Options) (*Server, error) {
	for field, fallback := range map[*string]string{&o.Owner: "acme", &o.Name: "kernel", &o.Login: "audit-signer[bot]"} {
		if *field == "" {
			*field = fallback
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{opts: o, fault: o.Fault, verified: map[string]bool{}, variables: map[string]map[string]string{}, answered: map[string]answer{}}
	var err error
	if s.contract, err = loadContract(); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if s.tempDir, err = os.MkdirTemp("", "githubtest-"); err != nil {
			return nil, fmt.Errorf("githubtest: no temporary directory: %w", err)
		}
		s.opts.Dir = s.tempDir
	}
	if err := s.plant(); err != nil {
		os.RemoveAll(s.tempDir)
		return nil, err
	}
	s.http = httptest.NewUnstartedServer(s) // answers name its address
	s.http.Start()
	return s, nil
}

// plant makes the bare repository and the first commit on main.
func (s *Server) plant() error {
	git, err := newGitRepo(s.opts.Dir)
	if err != nil {
		return err
	}
	s.git = git
	var changes strings.Builder
	for path, content := range s.opts.Files {
		changes.WriteString(inline("100644", path, content))
	}
	_, err = git.commitOnto("main", s.person("octocat"), "first commit", changes.String())
	s.settled()
	return err
}

// URL is the API's root, without a final slash.
func (s *Server) URL() string { return s.http.URL }

// RepoDir is the bare repository, for git's own commands.
func (s *Server) RepoDir() string { return s.opts.Dir }

// Close stops the server.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
	s.git.close()
	if s.tempDir != "" {
		os.RemoveAll(s.tempDir)
	}
}

// SetFault replaces Options.Fault; nil ends all faults.
func (s *Server) SetFault(f func(r *http.Request, n int) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Requests returns the log, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Writes counts the requests so far that were not a GET.
func (s *Server) Writes() int {
	n := 0
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet {
			n++
		}
	}
	return n
}

// Violations returns what broke GitHub's description, in requests and in
// answers. A test that ends with an empty one has passed the contract.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Body: string(body)})
	n, ask := len(s.requests), s.fault
	s.mu.Unlock()
	var fault *Fault
	if ask != nil {
		fault = ask(r, n)
	}

	var a answer
	switch {
	case fault != nil && fault.Stale:
		a = s.stale(r, body, n)
		fault = nil
	case fault == nil || fault.Apply || fault.Truncate:
		a = s.answer(r, body, n)
	}
	if fault != nil && fault.Hang {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if fault != nil && !fault.Truncate {
		a = answer{status: fault.Status, header: fault.Header, text: []byte(fault.Body)}
	}
	s.mu.Lock()
	if fault == nil || !fault.Close {
		s.requests[n-1].Status = a.status
	}
	s.mu.Unlock()
	if fault != nil && fault.Close {
		panic(http.ErrAbortHandler) // net/http's way to cut the connection
	}
	s.send(w, a, fault != nil && fault.Truncate)
}

func (s *Server) send(w http.ResponseWriter, a answer, truncate bool) {
	h := w.Header()
	for name, values := range s.rate() {
		h[name] = values
	}
	for name, values := range a.header {
		h[name] = values
	}
	h.Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(a.text)))
	w.WriteHeader(a.status)
	if truncate {
		w.Write(a.text[:len(a.text)/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(a.text)
}

// answer is what goes back: value becomes text once it is completed.
type answer struct {
	status int
	header http.Header
	value  any
	text   []byte
}

// call is one request, matched to its operation.
type call struct {
	*http.Request
	params map[string]string
	body   []byte
}

// decode reads the JSON body, which has passed the contract by then.
func (c *call) decode(into any) {
	if len(c.body) > 0 {
		json.Unmarshal(c.body, into)
	}
}

// answer matches, checks, authorises and carries out one request.
func (s *Server) answer(r *http.Request, body []byte, n int) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.contract.match(r, body)
	if err != nil {
		return s.violation(fmt.Sprintf("%s %s: no such operation in the description: %v", r.Method, r.URL.Path, err))
	}
	operation := in.Route.Operation.OperationID
	s.requests[n-1].Operation = operation
	if err := s.contract.checkRequest(in, body); err != nil {
		return s.violation(fmt.Sprintf("request %s %s: %v", operation, r.URL.Path, err))
	}
	act, found := operations[operation]
	if !found {
		return s.violation(fmt.Sprintf("%s %s: githubtest does not play %s", r.Method, r.URL.Path, operation))
	}
	a, refused := s.authorise(r, operation)
	if !refused {
		a, refused = s.limit(r)
	}
	if !refused {
		a = act(s, &call{Request: r, params: in.PathParams, body: body})
	}
	if a.value != nil {
		if a.text, err = json.Marshal(fill(responseSchema(in.Route.Operation, a.status), a.value)); err != nil {
			return s.violation(fmt.Sprintf("answer of %s: %v", operation, err))
		}
	}
	if err := s.contract.checkResponse(in, a.status, a.text); err != nil {
		return s.violation(fmt.Sprintf("answer %d of %s: %v", a.status, operation, err))
	}
	if r.Method == http.MethodGet {
		s.answered[r.URL.RequestURI()] = a
	}
	return a
}

func (s *Server) violation(what string) answer {
	s.violations = append(s.violations, what)
	text, _ := json.Marshal(object{"message": "contract violation: " + what})
	return answer{status: http.StatusInternalServerError, text: text}
}

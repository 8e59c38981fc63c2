// Package kmstest is a strict, stateful AWS KMS, CloudTrail and STS on
// loopback, for tests and the rehearsal: it speaks the services' own wire
// protocols (JSON 1.1 and, for STS, the query protocol), so that the real
// clients of the AWS SDK talk to it, and it computes real signatures.
//
// It refuses what AWS documents as refused: wrong key states, usages, message
// types and lengths, algorithms that do not fit the key, unknown or missing
// members, unsigned requests. Where it does not know what AWS would do it
// refuses too, so that code which passes here asks nothing doubtful of AWS.
// Every call that reaches a key is recorded and can be looked up in its
// CloudTrail. Faults are injected by script; see [Fault].
//
// It checks that a request is signed and for which service and Region, not the
// signature itself, and it keeps everything in memory. It has no operation that
// deletes a key. Its error names and limits follow the AWS KMS and AWS
// CloudTrail API References.
package kmstest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Options says which account and Region the server plays, and how it behaves.
// The zero value is useful.
type Options struct {
	// Account is the twelve-digit account number; 111122223333 if empty.
	Account string
	// Region is the only Region served; eu-west-1 if empty.
	Region string
	// Now is the server's clock, which it also sends in the Date header;
	// time.Now if nil.
	Now func() time.Time
	// Material supplies the key material for CreateKey instead of a freshly
	// generated key, in the types that [Key] lists. Tests use it to share
	// slow RSA keys.
	Material func(spec string) (any, error)
	// Fault is asked before each call, with the operation's name, whether it
	// is to fail; nil, or a nil answer, means no.
	Fault func(operation string, r *http.Request) *Fault
	// TrailDelay is how long an event takes to appear in CloudTrail.
	TrailDelay time.Duration
	// TrailPerSecond throttles LookupEvents to so many calls in any second
	// of the machine's clock; 0 never throttles. AWS allows 2.
	TrailPerSecond int
	// WebIdentityTokens are the only tokens that STS exchanges for
	// credentials.
	WebIdentityTokens []string
}

// Call is one request that has reached the server.
type Call struct {
	// Operation is the API's name of it, such as Sign or LookupEvents.
	Operation string
	// KeyID is the key as the request named it, empty where there is none.
	KeyID string
	// Code is the error's name, empty for a success. A call that a fault
	// kept from being carried out has the code "Fault".
	Code string
}

// Server is the fake. Its methods may be called while it serves.
type Server struct {
	options  Options
	listener net.Listener
	http     *http.Server

	mu      sync.Mutex
	keys    map[string]*storedKey // by key id
	aliases map[string]alias      // by name
	events  []event               // oldest first
	lookups []time.Time           // LookupEvents calls of the last second
	calls   []Call
	denied  map[string][]string // operation to key ARNs, none for every key
	roles   map[string]string   // access key id to principal ARN
}

// New starts a server on loopback. Close stops it.
func New(o Options) *Server {
	if o.Account == "" {
		o.Account = "111122223333"
	}
	if o.Region == "" {
		o.Region = "eu-west-1"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Material == nil {
		o.Material = Generate
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("kmstest: cannot listen on loopback: %v", err))
	}
	s := &Server{
		options:  o,
		listener: l,
		keys:     map[string]*storedKey{},
		aliases:  map[string]alias{},
		denied:   map[string][]string{},
		roles:    map[string]string{},
	}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // injected faults are no news
	}
	go s.http.Serve(l)
	return s
}

// URL is the server's address, for AWS_ENDPOINT_URL_KMS and its twins.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close stops the server and cuts its connections.
func (s *Server) Close() { s.http.Close() }

// Env returns the environment variables that point the AWS SDKs and command
// line at this server, with made-up credentials.
func (s *Server) Env() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_KMS":        s.URL(),
		"AWS_ENDPOINT_URL_CLOUDTRAIL": s.URL(),
		"AWS_ENDPOINT_URL_STS":        s.URL(),
		"AWS_REGION":                  s.options.Region,
		"AWS_ACCESS_KEY_ID":           "AKIAKMSTEST",
		"AWS_SECRET_ACCESS_KEY":       "not-a-secret",
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             "/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	}
}

// Calls returns the calls so far, in order.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count says how often an operation was called so far, with whatever result.
func (s *Server) Count(operation string) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Operation == operation {
			n++
		}
	}
	return n
}

// Deny makes every later call of the operation fail with
// AccessDeniedException, or, where key ARNs are given, those on these keys.
func (s *Server) Deny(operation string, keyARNs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[operation] = keyARNs
}

// Allow takes a Deny back.
func (s *Server) Allow(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.denied, operation)
}

// SetFault replaces Options.Fault.
func (s *Server) SetFault(hook func(operation string, r *http.Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Fault = hook
}

// fault asks the hook what is to go wrong with a call.
func (s *Server) fault(operation string, r *http.Request) *Fault {
	s.mu.Lock()
	hook := s.options.Fault
	s.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(operation, r)
}

// ServeHTTP answers one request of any of the three services.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if r.Header.Get("X-Amz-Target") == "" {
		s.serveSTS(w, r, body)
		return
	}
	service, operation, err := target(r)
	c := &call{server: s, service: service, operation: operation, body: body}
	var fault *Fault
	if err == nil {
		fault = s.fault(operation, r)
	}
	done := s.log(c)
	if fault.strikesBefore(w, r) {
		return
	}
	var answer any
	if err == nil {
		answer, err = s.perform(c, r, fault != nil && fault.Stale)
	}
	done(err)
	fault.answer(s, w, r, answer, err)
}

// perform authenticates and carries out one call and records it in the trail.
func (s *Server) perform(c *call, r *http.Request, stale bool) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stale {
		defer s.forget()()
	}
	if err := c.authenticate(r); err != nil {
		return nil, err
	}
	do, ok := operations[c.operation]
	if !ok {
		return nil, fail("UnknownOperationException", "kmstest has no operation %s", c.operation)
	}
	var answer any
	var err error
	if keys, denied := s.denied[c.operation]; denied && len(keys) == 0 {
		err = c.deny("*")
	} else {
		answer, err = do(c)
	}
	if c.service == "kms" {
		s.record(c, err)
	}
	return answer, err
}

// log adds a call to the list before anything can go wrong with it, and returns
// what sets its code once it has been carried out.
func (s *Server) log(c *call) (done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.calls)
	s.calls = append(s.calls, Call{c.operation, c.keyID(), "Fault"})
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls[i].Code = code(err)
	}
}

// forget takes the keys and aliases of the last minute out of sight, of reads
// only; what it returns brings them back.
func (s *Server) forget() (remember func()) {
	keys, aliases, young := maps.Clone(s.keys), maps.Clone(s.aliases), s.options.Now().Add(-time.Minute)
	maps.DeleteFunc(s.keys, func(_ string, k *storedKey) bool { return k.Created.After(young) })
	maps.DeleteFunc(s.aliases, func(_ string, a alias) bool { return a.created.After(young) || s.keys[a.target] == nil })
	return func() {
		maps.Copy(s.keys, keys) // and keep what this call has made
		maps.Copy(s.aliases, aliases)
	}
}

// Snapshot remembers keys, aliases and trail; what it returns puts them back.
func (s *Server) Snapshot() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, aliases, events := cloneKeys(s.keys), maps.Clone(s.aliases), slices.Clone(s.events)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.keys, s.aliases, s.events, s.lookups = cloneKeys(keys), maps.Clone(aliases), slices.Clone(events), nil
	}
}

func cloneKeys(keys map[string]*storedKey) map[string]*storedKey {
	all := map[string]*storedKey{}
	for id, k := range keys {
		c := *k
		c.Tags = maps.Clone(k.Tags)
		all[id] = &c
	}
	return all
}

// arn names a resource of this account and Region.
func (s *Server) arn(resource string) string {
	return "arn:aws:kms:" + s.options.Region + ":" + s.options.Account + ":" + resource
}

// awsError is an error as AWS sends it.
type awsError struct {
	status  int
	code    string
	message string
}

func (e *awsError) Error() string { return e.code + ": " + e.message }

// fail makes an error with the HTTP status that the API Reference gives it.
func fail(code, format string, args ...any) error {
	status := http.StatusBadRequest
	switch code {
	case "DisabledException", "KMSInvalidStateException":
		status = http.StatusConflict
	case "DryRunOperationException":
		status = http.StatusPreconditionFailed
	case "KMSInternalException":
		status = http.StatusInternalServerError
	}
	return &awsError{status, code, fmt.Sprintf(format, args...)}
}

// code is the name of an error, empty for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	return asAWS(err).code
}

// asAWS turns what went wrong inside the server into KMS's internal error.
func asAWS(err error) *awsError {
	var e *awsError
	if !errors.As(err, &e) {
		e = &awsError{http.StatusInternalServerError, "KMSInternalException", err.Error()}
	}
	return e
}

// uuid returns a random version 4 UUID.
func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Package readiness asks verifiers which registry they serve.
//
// A verifier is an address that answers a GET with one of three texts: the
// registry file itself, byte for byte; a JSON object whose registrySha256 (and,
// if it likes, archiveSha256) is the SHA-256 of the file in hex; or those 64
// digits alone.
//
// It refuses plain HTTP except on this machine, credentials, queries and
// fragments in an address (an address is printed and kept), redirects to
// another host, answers of more than 1 MiB, and compressed ones. Why it is
// safe: nothing is sent but the address, nothing that comes back is used but a
// digest, and whatever is not plainly one of the three texts is a problem, not
// a digest. It sends no Cache-Control: what a cache hands out to verifiers is
// what it is to hand out here.
package readiness

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

// MaxURLs is how many verifiers may be listed.
const MaxURLs = 32

const (
	largestAnswer = 1 << 20
	attemptTime   = 10 * time.Second
	attempts      = 3
	longestPause  = 10 * time.Second
	atOnce        = 8
	redirects     = 5
)

// Answer is what a verifier answered, in digests of 64 lower-case hex digits.
// ArchiveSHA256 is "" if it told none; Problem says why it could not be asked,
// and then there is no digest.
type Answer struct {
	URL                           string
	RegistrySHA256, ArchiveSHA256 string
	Problem                       string
}

// Options say how to reach verifiers.
type Options struct {
	// HTTP carries the requests; nil is net/http's, with its proxies.
	HTTP http.RoundTripper
	// Sleep waits, or ends early with the context's error; nil waits for real.
	Sleep func(ctx context.Context, d time.Duration) error
}

// wrong is a list that cannot be asked.
type wrong string

func (w wrong) Error() string { return "verifier-urls: " + string(w) }

// ExitCode is 2: the input has to be changed.
func (w wrong) ExitCode() int { return 2 }

// Check refuses a list of addresses that Ask would not ask. Its errors have
// exit code 2.
func Check(urls []string) error {
	if len(urls) > MaxURLs {
		return wrong(fmt.Sprintf("%d verifiers are listed, and %d is the most; list those that are the last to see a change", len(urls), MaxURLs))
	}
	for n, text := range urls {
		u, err := url.Parse(text)
		why := ""
		switch {
		case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
			why = "is no web address; write it as https://verifier.example/registry"
		case u.User != nil:
			why = "holds a user name or a password; give the verifier an address that needs none, and change that password"
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
			why = "has a query or a fragment, which would be printed wherever the verifier is named; give an address without"
		case len(text) > 500:
			why = "has more than 500 characters; give a shorter one"
		case u.Scheme != "https" && !(u.Scheme == "http" && local(u)):
			why = "does not start with https://, so anybody on the way could answer for the verifier; use https"
		}
		if why != "" { // the address may hold a secret, so it is not repeated
			return wrong(fmt.Sprintf("address %d of %d %s", n+1, len(urls), why))
		}
	}
	return nil
}

// local tells whether u leads to this machine.
func local(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Ask asks every verifier once, a few at a time, and gives their answers in the
// order of the list. One that fails in passing is asked again, twice at most.
// The error is that of Check, or the context's.
func Ask(ctx context.Context, urls []string, o Options) ([]Answer, error) {
	if err := Check(urls); err != nil {
		return nil, err
	}
	if o.HTTP == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true // the digest is of the file, not of its packing
		t.MaxResponseHeaderBytes = 64 << 10
		defer t.CloseIdleConnections()
		o.HTTP = t
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	a := asker{&http.Client{Transport: o.HTTP, Timeout: attemptTime, CheckRedirect: sameHost}, o.Sleep}
	answers := make([]Answer, len(urls))
	free := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, u := range urls {
		all.Go(func() {
			free <- struct{}{}
			answers[i] = a.ask(ctx, u)
			<-free
		})
	}
	all.Wait()
	return answers, ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused says why an answer is none. again: it may be one the next time, after
// a pause.
type refused struct {
	why   string
	again bool
	pause time.Duration
}

func (r *refused) Error() string { return r.why }

// sameHost keeps the question with whom it was put to.
func sameHost(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	switch {
	case next.URL.Scheme != first.Scheme || next.URL.Host != first.Host:
		return &refused{why: "it redirects to another host, " + line(next.URL.Scheme+"://"+next.URL.Host) + ", which is not followed: list that address if you trust it"}
	case len(before) > redirects:
		return &refused{why: fmt.Sprintf("it redirects more than %d times", redirects)}
	}
	return nil
}

type asker struct {
	client *http.Client
	sleep  func(context.Context, time.Duration) error
}

func (a asker) ask(ctx context.Context, address string) Answer {
	for attempt := 1; ; attempt++ {
		body, failure := a.get(ctx, address)
		if failure == nil {
			answer := parse(body)
			answer.URL = address
			return answer
		}
		pause := min(max(time.Second<<(attempt-1), failure.pause), longestPause)
		if !failure.again || attempt == attempts || patience.From(ctx).Pause(pause, nil) != nil || a.sleep(ctx, pause) != nil {
			if attempt > 1 {
				failure.why += fmt.Sprintf(", %d times", attempt)
			}
			return Answer{URL: address, Problem: failure.why}
		}
	}
}

// get makes one attempt.
func (a asker) get(ctx context.Context, address string) ([]byte, *refused) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &refused{why: "it cannot be asked: " + line(err.Error())}
	}
	req.Header.Set("User-Agent", "audit-signer-rotation")
	req.Header.Set("Accept", "application/json, text/plain")
	res, err := a.client.Do(req)
	if err != nil {
		return nil, explain(ctx, err)
	}
	defer res.Body.Close()
	if code := res.StatusCode; code != http.StatusOK {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return nil, &refused{
			why:   strings.TrimSpace(fmt.Sprintf("it answers %d %s", code, http.StatusText(code))),
			again: code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout,
			pause: time.Duration(min(max(seconds, 0), 3600)) * time.Second,
		}
	}
	if how := res.Header.Get("Content-Encoding"); how != "" && how != "identity" {
		return nil, &refused{why: "it packs its answer (Content-Encoding " + line(how) + ") although that was not asked for"}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, largestAnswer+1))
	switch {
	case err != nil:
		return nil, explain(ctx, err)
	case len(body) > largestAnswer:
		return nil, &refused{why: "its answer is larger than 1 MiB, which no registry is"}
	}
	return body, nil
}

// explain says why no answer came, and whether one may come the next time.
func explain(ctx context.Context, err error) *refused {
	if r, ok := errors.AsType[*refused](err); ok {
		return r
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address, which stands beside it
	}
	if ctx.Err() != nil {
		return &refused{why: "the run was stopped before it answered"}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return &refused{why: fmt.Sprintf("no whole answer within %s", attemptTime), again: true}
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return &refused{why: line(err.Error()), again: !untrusted && !(isDNS && dns.IsNotFound)}
}

// line makes one short line of a foreign text, without what a terminal or a
// page would obey.
func line(text string) string {
	text = strings.Map(func(c rune) rune {
		if c != ' ' && !unicode.IsGraphic(c) || c == '<' || c == '>' || c == '`' {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if all := []rune(text); len(all) > 200 {
		text = string(slices.Concat(all[:200], []rune("…")))
	}
	return text
}

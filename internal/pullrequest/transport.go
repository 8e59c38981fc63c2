package pullrequest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

const (
	largestAnswer = 64 << 20
	conflictTries = 3 // a 409 or 408 that stays is an answer, not a hiccup
	refusedTries  = 5 // nobody listens, after half a minute still: the address is wrong
)

var errTooLarge = errors.New("the answer is larger than 64 MiB")

// transport is the manners of this package: requests one after another, writes
// spaced, limits obeyed, reads repeated when they fail in passing. Writes are
// repeated here only after a rate limit, which says that nothing was done; what
// to do after any other failure of a write is decided by Repo.write.
//
// The rules are those of GitHub's pages "Best practices for using the REST API"
// and "Rate limits for the REST API".
type transport struct {
	base     http.RoundTripper
	token    string
	timeout  time.Duration
	interval time.Duration
	sleep    func(ctx context.Context, d time.Duration) error
	tell     func(what string) // nil: nobody wants to know

	serial    sync.Mutex // held from a request's first attempt to its last
	lastWrite time.Time  // guarded by serial

	budget *patience.Budget // where the context has none

	mu   sync.Mutex // guards what follows
	date time.Time
}

func newTransport(o Options) *transport {
	t := &transport{
		base: http.DefaultTransport, token: o.Token, timeout: attemptTime,
		interval: o.WriteInterval, sleep: o.Sleep, tell: o.Tell, budget: patience.New(patience.Default),
	}
	if o.HTTP != nil && o.HTTP.Transport != nil {
		t.base = o.HTTP.Transport
	}
	if o.HTTP != nil && o.HTTP.Timeout > 0 {
		t.timeout = o.HTTP.Timeout
	}
	if t.sleep == nil {
		t.sleep = sleep
	}
	return t
}

func (t *transport) now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.date
}

// RoundTrip sends a request until it has an answer that is worth handing up.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.serial.Lock()
	defer t.serial.Unlock()
	ctx, read := req.Context(), req.Method == http.MethodGet
	for attempt := 1; ; attempt++ {
		if !read {
			if rest := t.interval - time.Since(t.lastWrite); rest > 0 && !t.lastWrite.IsZero() {
				if err := t.sleep(ctx, rest); err != nil {
					return nil, err
				}
			}
		}
		begun := time.Now()
		res, body, err := t.attempt(req)
		if !read {
			t.lastWrite = time.Now()
		}
		pause, why := t.limit(res, body, attempt)
		if pause == 0 && read {
			pause, why = hiccup(res, body, err, attempt)
		}
		if pause == 0 || ctx.Err() != nil {
			return res, err
		}
		if err := t.wait(ctx, pause, time.Since(begun), why); err != nil {
			return nil, err
		}
	}
}

// attempt sends once and reads the whole answer, so that a cut body shows here.
func (t *transport) attempt(req *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	defer cancel()
	out := req.Clone(ctx)
	if t.token != "" {
		out.Header.Set("Authorization", "Bearer "+t.token)
	}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, nil, err
		}
		out.Body = body
	}
	res, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, largestAnswer+1))
	if err != nil {
		return nil, nil, err
	}
	if len(body) > largestAnswer {
		return nil, nil, errTooLarge
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		t.mu.Lock()
		t.date = date
		t.mu.Unlock()
	}
	return res, body, nil
}

// limit says how long GitHub wants to be left alone, 0 when it did not refuse
// for a limit: Retry-After, else the reset of a limit that is used up, else a
// minute, doubled each time.
func (t *transport) limit(res *http.Response, body []byte, attempt int) (time.Duration, string) {
	if res == nil {
		return 0, ""
	}
	h := res.Header
	remaining, reset, after := h.Get("X-RateLimit-Remaining"), h.Get("X-RateLimit-Reset"), h.Get("Retry-After")
	h.Del("X-RateLimit-Remaining") // go-github would refuse the next call on its own,
	h.Del("X-RateLimit-Reset")     // by this machine's clock
	text := strings.ToLower(string(body[:min(len(body), 4096)]))
	limited := res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusForbidden &&
		(after != "" || remaining == "0" || strings.Contains(text, "rate limit") || strings.Contains(text, "rate-limit"))
	if !limited {
		return 0, ""
	}
	now := t.now()
	if seconds, err := strconv.Atoi(after); err == nil {
		return max(time.Second, time.Duration(seconds)*time.Second), "limits the rate of requests"
	}
	if date, err := http.ParseTime(after); err == nil {
		return max(time.Second, date.Sub(now)), "limits the rate of requests"
	}
	if epoch, err := strconv.ParseInt(reset, 10, 64); err == nil && remaining == "0" {
		return max(time.Second, time.Unix(epoch, 0).Sub(now)+time.Second), "says that the hourly rate limit is used up"
	}
	return time.Minute << min(attempt-1, 10), "limits the rate of requests"
}

// hiccup says how long to wait before a read is repeated, 0 when its answer
// stands.
func hiccup(res *http.Response, body []byte, err error, attempt int) (time.Duration, string) {
	switch {
	case err != nil:
		if permanent(err) || errors.Is(err, syscall.ECONNREFUSED) && attempt >= refusedTries {
			return 0, ""
		}
		return backoff(attempt), "cuts the connection or does not answer in time"
	case res.StatusCode >= 500:
		return backoff(attempt), "answers " + strconv.Itoa(res.StatusCode)
	case res.StatusCode == http.StatusConflict || res.StatusCode == http.StatusRequestTimeout:
		if attempt < conflictTries {
			return backoff(attempt), "answers " + strconv.Itoa(res.StatusCode)
		}
	case res.StatusCode/100 == 2 && !json.Valid(body):
		return backoff(attempt), "answers with half a document"
	}
	return 0, ""
}

// permanent tells the failures of a connection that time does not heal.
func permanent(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return true
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted || errors.Is(err, errTooLarge) || errors.Is(err, context.Canceled)
}

// backoff doubles from one second to one minute.
func backoff(attempt int) time.Duration {
	return min(time.Second<<min(attempt-1, 10), time.Minute)
}

// wait sleeps as long as the budget allows. took is what the failed attempt
// cost, which counts too.
func (t *transport) wait(ctx context.Context, pause, took time.Duration, why string) error {
	budget := cmp.Or(patience.From(ctx), t.budget)
	budget.Took(took)
	if err := budget.Pause(pause, nil); err != nil {
		return remote("GitHub %s, and %s; run again later, it goes on from what is there", why, err)
	}
	if t.tell != nil {
		t.tell(fmt.Sprintf("GitHub %s; trying again in %s", why, pause.Round(time.Second)))
	}
	return t.sleep(ctx, pause)
}

package readiness_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/readiness"
)

const registry = "{\"signers\": [\n  {\"signerId\": \"v1\"}\n]}\n"

var digest = hexOf(registry)

func hexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// verifier is one that nobody may ask for more than it must tell.
func verifier(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(strict(t, answer))
	t.Cleanup(s.Close)
	return s
}

func strict(t *testing.T, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.ContentLength != 0 || r.URL.RawQuery != "" {
			t.Errorf("asked by %s %s with %d bytes", r.Method, r.URL, r.ContentLength)
		}
		for _, name := range []string{"Authorization", "Cookie", "Cache-Control", "Pragma", "Accept-Encoding", "If-None-Match", "Proxy-Authorization"} {
			if v := r.Header.Get(name); v != "" {
				t.Errorf("%s: %s was sent", name, v)
			}
		}
		answer(w, r)
	}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// pauses collects what would have been waited.
type pauses struct {
	sync.Mutex
	all []time.Duration
}

func (p *pauses) sleep(ctx context.Context, d time.Duration) error {
	p.Lock()
	defer p.Unlock()
	p.all = append(p.all, d)
	return ctx.Err()
}

// ask asks one verifier.
func ask(t *testing.T, url string) readiness.Answer {
	t.Helper()
	answers, err := readiness.Ask(context.Background(), []string{url}, readiness.Options{Sleep: new(pauses).sleep})
	if err != nil || len(answers) != 1 || answers[0].URL != url {
		t.Fatalf("%+v, %v", answers, err)
	}
	a := answers[0]
	if (a.Problem == "") == (a.RegistrySHA256 == "") || a.Problem != "" && a.ArchiveSHA256 != "" {
		t.Errorf("an answer is a digest or a problem: %+v", a)
	}
	return a
}

func TestAnswers(t *testing.T) {
	archive := hexOf("archive")
	for name, tc := range map[string]struct {
		body          string
		want, archive string
		problem       string
	}{
		"the file":               {registry, digest, "", ""},
		"another file":           {registry + "\n", hexOf(registry + "\n"), "", ""},
		"a list":                 {"[]", hexOf("[]"), "", ""},
		"a digest":               {digest, digest, "", ""},
		"a digest on a line":     {"\n " + strings.ToUpper(digest) + "\r\n", digest, "", ""},
		"a status":               {`{"version": "1.2", "registrySha256": "` + digest + `"}`, digest, "", ""},
		"a status, upper case":   {`{"registrySha256":  "` + strings.ToUpper(digest) + `"}`, digest, "", ""},
		"with its archive":       {`{"registrySha256": "` + digest + `", "archiveSha256": "` + archive + `"}`, digest, archive, ""},
		"without an archive":     {`{"registrySha256": "` + digest + `", "archiveSha256": ""}`, digest, "", ""},
		"an archive of null":     {`{"registrySha256": "` + digest + `", "archiveSha256": null}`, digest, "", ""},
		"a signer of that name":  {`{"registrySha256": {"alg": "ed25519"}}`, hexOf(`{"registrySha256": {"alg": "ed25519"}}`), "", ""},
		"the name in other case": {`{"registrySHA256": "x"}`, hexOf(`{"registrySHA256": "x"}`), "", ""},

		"nothing":                 {"", "", "", "empty"},
		"white space":             {" \n", "", "", "empty"},
		"a page":                  {"<html>Sign in</html>", "", "", "is this the right address?"},
		"a digest too short":      {digest[1:], "", "", "neither"},
		"a digest too long":       {digest + "00", "", "", "neither"},
		"a digest in quotes":      {`"` + digest + `"`, "", "", "neither"},
		"sha256sum's line":        {digest + "  signers.json\n", "", "", "neither"},
		"half a file":             {registry[:20], "", "", "neither"},
		"two files":               {registry + registry, "", "", "neither"},
		"a byte order mark":       {"\ufeff" + registry, "", "", "neither"},
		"null":                    {"null", "", "", "neither"},
		"a status of nothing":     {`{"registrySha256": ""}`, "", "", "its registrySha256 is not a SHA-256"},
		"a status of null":        {`{"registrySha256": null}`, "", "", "its registrySha256 is not a SHA-256"},
		"a status of a number":    {`{"registrySha256": 1}`, "", "", "its registrySha256 is not a SHA-256"},
		"a status of a list":      {`{"registrySha256": ["` + digest + `"]}`, "", "", "its registrySha256 is not a SHA-256"},
		"a status, digest short":  {`{"registrySha256": "` + digest[2:] + `"}`, "", "", "its registrySha256 is not a SHA-256"},
		"a status, other letters": {`{"registrySha256": "` + strings.Repeat("zz", 32) + `"}`, "", "", "its registrySha256 is not a SHA-256"},
		"an archive of junk":      {`{"registrySha256": "` + digest + `", "archiveSha256": "v3"}`, "", "", "its archiveSha256 is not a SHA-256"},
		"too much":                {strings.Repeat(" ", 1<<20+1), "", "", "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, verifier(t, says(tc.body)).URL)
			if a.RegistrySHA256 != tc.want || a.ArchiveSHA256 != tc.archive || !strings.Contains(a.Problem, tc.problem) || (tc.problem == "") != (a.Problem == "") {
				t.Errorf("got %+v, want %+v", a, tc)
			}
		})
	}
}

// The largest answer that is read is read whole.
func TestAnswerOfOneMiB(t *testing.T) {
	body := "[]" + strings.Repeat(" ", 1<<20-2)
	if a := ask(t, verifier(t, says(body)).URL); a.RegistrySHA256 != hexOf(body) {
		t.Errorf("%+v", a)
	}
}

// What passes is asked for again, what stays is told at once.
func TestFaults(t *testing.T) {
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, digest) // a body counts with 200 alone
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, digest)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		fault   http.HandlerFunc
		asked   int // with the fault lasting
		problem string
	}{
		"500":            {status(500), 3, "it answers 500 Internal Server Error, 3 times"},
		"503":            {status(503, "Retry-After", "2"), 3, "it answers 503 Service Unavailable, 3 times"},
		"429":            {status(429, "Retry-After", "9999"), 3, "it answers 429"},
		"408":            {status(408), 3, "it answers 408"},
		"401":            {status(401), 1, "it answers 401 Unauthorized"},
		"404":            {status(404), 1, "it answers 404 Not Found"},
		"201":            {status(201), 1, "it answers 201 Created"},
		"206":            {status(206), 1, "it answers 206"},
		"304":            {status(304), 1, "it answers 304"},
		"an odd code":    {status(599), 3, "it answers 599, 3 times"},
		"half an answer": {cut, 3, "unexpected EOF, 3 times"},
		"no answer":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 3, "EOF, 3 times"},
		"a loop":         {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, 6, "it redirects more than 5 times"},
		"somewhere else": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/<b>?token=1", http.StatusFound)
		}, 1, "another host, https://evil.example, which is not followed"},
		"another port": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, 1, "another host, http://127.0.0.1:1"},
		"no place at all":     {status(302), 1, "it answers 302"},
		"packed":              {packed, 1, "it packs its answer (Content-Encoding gzip)"},
		"packed in something": {status(200, "Content-Encoding", "<br>\u202e"), 1, "(Content-Encoding ?br??"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := verifier(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); tc.fault(w, r) })
			a := ask(t, s.URL)
			if !strings.Contains(a.Problem, tc.problem) || int(asked.Load()) != tc.asked {
				t.Errorf("asked %d times: %+v; want %d, %q", asked.Load(), a, tc.asked, tc.problem)
			}
			if strings.ContainsAny(a.Problem, "<>\u202e\n") || strings.Contains(a.Problem, "token") {
				t.Errorf("foreign text got through: %q", a.Problem)
			}
			// The same fault, once.
			var once atomic.Bool
			s = verifier(t, func(w http.ResponseWriter, r *http.Request) {
				if once.CompareAndSwap(false, true) {
					tc.fault(w, r)
					return
				}
				fmt.Fprint(w, registry)
			})
			if again, a := tc.asked == 3 || name == "a loop", ask(t, s.URL); again != (a.RegistrySHA256 == digest) {
				t.Errorf("after one fault: %+v", a)
			}
		})
	}
}

func packed(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(registry))
	z.Close()
	w.Header().Set("Content-Encoding", "gzip")
	w.Write(b.Bytes())
}

func TestPausesAreBounded(t *testing.T) {
	for after, want := range map[string]string{"": "[1s 2s]", "0": "[1s 2s]", "7": "[7s 7s]", "86400": "[10s 10s]", "-5": "[1s 2s]", "99999999999999999999": "[10s 10s]", "soon": "[1s 2s]"} {
		p := new(pauses)
		s := verifier(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		if _, err := readiness.Ask(context.Background(), []string{s.URL}, readiness.Options{Sleep: p.sleep}); err != nil || fmt.Sprint(p.all) != want {
			t.Errorf("Retry-After %q: %v, %v, want %s", after, p.all, err, want)
		}
	}
}

// A redirect on the same host is followed: a registry may have moved there.
func TestRedirectAtHome(t *testing.T) {
	s := verifier(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
			return
		}
		fmt.Fprint(w, registry)
	})
	if a := ask(t, s.URL+"/old"); a.RegistrySHA256 != digest {
		t.Errorf("%+v", a)
	}
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	if a := ask(t, s.URL); !strings.Contains(a.Problem, "connection refused, 3 times") {
		t.Errorf("%+v", a)
	}
	if a := ask(t, "https://verifier.invalid/registry"); a.Problem == "" {
		t.Errorf("%+v", a)
	}
	raw := verifier(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(c, "\x1b[31m<script>\u202e no HTTP at all\r\n\r\n")
		c.Close()
	})
	if a := ask(t, raw.URL); a.Problem == "" || strings.ContainsAny(a.Problem, "\x1b<\u202e\n") {
		t.Errorf("%q", a.Problem)
	}
}

// A certificate that nobody vouches for is no verifier's, and asking again does
// not make it one.
func TestTLS(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewUnstartedServer(strict(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); fmt.Fprint(w, registry) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	if a := ask(t, s.URL); !strings.Contains(a.Problem, "certificate") || strings.Contains(a.Problem, "times") || asked.Load() != 0 {
		t.Errorf("%+v", a)
	}
	answers, err := readiness.Ask(context.Background(), []string{s.URL}, readiness.Options{HTTP: plain(s.Client().Transport)})
	if err != nil || answers[0].RegistrySHA256 != digest {
		t.Errorf("%+v, %v", answers, err)
	}
}

func plain(t http.RoundTripper) http.RoundTripper {
	own := t.(*http.Transport).Clone()
	own.DisableCompression = true
	return own
}

// Many are asked at once, but not all, and each answer stands at its place.
func TestManyVerifiers(t *testing.T) {
	var now, most atomic.Int32
	s := verifier(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		fmt.Fprint(w, hexOf(r.URL.Path))
	})
	var urls []string
	for i := range readiness.MaxURLs {
		urls = append(urls, fmt.Sprintf("%s/%d", s.URL, i))
	}
	answers, err := readiness.Ask(context.Background(), urls, readiness.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if a.URL != urls[i] || a.RegistrySHA256 != hexOf(fmt.Sprintf("/%d", i)) {
			t.Errorf("%d: %+v", i, a)
		}
	}
	if m := most.Load(); m < 2 || m > 8 {
		t.Errorf("%d were asked at once", m)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := verifier(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	answers, err := readiness.Ask(ctx, []string{s.URL, s.URL}, readiness.Options{})
	if err == nil || len(answers) != 2 || answers[0].Problem == "" || answers[1].Problem == "" {
		t.Errorf("%+v, %v", answers, err)
	}
}

func TestCheck(t *testing.T) {
	for _, url := range []string{"https://v.example", "https://v.example:8443/a/b%20c", "http://127.0.0.1:80/", "http://localhost/x", "http://[::1]:9/"} {
		if err := readiness.Check([]string{url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, why := range map[string]string{
		"": "no web address", "v.example": "no web address", "https://": "no web address", "https://:443/": "no web address", "https:v.example": "no web address", "://x": "no web address", "https://a b/": "no web address",
		"http://v.example/": "does not start with https://", "ftp://v.example/": "does not start with https://", "http://localhost.evil.example/": "does not start with https://", "file:///etc/passwd": "no web address",
		"https://user:canary@v.example/": "user name or a password", "https://canary@v.example/": "user name or a password",
		"https://v.example/?token=canary": "query or a fragment", "https://v.example/?": "query or a fragment", "https://v.example/#canary": "query or a fragment", "https://v.example/#": "query or a fragment",
		"https://v.example/" + strings.Repeat("x", 500): "more than 500",
	} {
		err := readiness.Check([]string{"https://good.example/", url})
		if err == nil || !strings.Contains(err.Error(), "verifier-urls: address 2 of 2 ") || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %s", url, err, why)
			continue
		}
		if coded, ok := err.(interface{ ExitCode() int }); !ok || coded.ExitCode() != 2 {
			t.Errorf("%s: not exit code 2", url)
		}
		if answers, asked := readiness.Ask(context.Background(), []string{url}, readiness.Options{}); asked == nil || answers != nil {
			t.Errorf("%s was asked", url)
		}
	}
	if err := readiness.Check(make([]string, readiness.MaxURLs+1)); err == nil || !strings.Contains(err.Error(), "33 verifiers are listed, and 32 is the most") {
		t.Error(err)
	}
	if err := readiness.Check(nil); err != nil {
		t.Error(err)
	}
}

var hexForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Whatever a verifier sends, the answer is a digest or a problem.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{registry, digest, `{"registrySha256": "` + digest + `", "archiveSha256": null}`, "", "null", `{"registrySha256":{}}`, "[", "<html>"} {
		f.Add([]byte(body))
	}
	var body atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body.Load().([]byte)) }))
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, text []byte) {
		body.Store(text)
		answers, err := readiness.Ask(context.Background(), []string{s.URL}, readiness.Options{})
		if err != nil {
			t.Fatal(err)
		}
		a := answers[0]
		if a.Problem == "" && !hexForm.MatchString(a.RegistrySHA256) || a.ArchiveSHA256 != "" && !hexForm.MatchString(a.ArchiveSHA256) || a.Problem != "" && a.RegistrySHA256 != "" {
			t.Errorf("%q gives %+v", text, a)
		}
	})
}

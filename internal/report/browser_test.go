package report

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

var screenshots = flag.String("screenshots", "", "folder to put a picture of every page into, to be looked at")

// browser finds a Chromium without a window. Without one the tests that need
// it are skipped, except in CI.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "no Chromium is found: run tools/deps.sh chromium-headless-shell")
	return ""
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip("NOT TESTED in a browser: " + what)
}

// look is how a page is looked at.
type look struct {
	width int
	dark  bool
}

func (l look) String() string {
	return fmt.Sprintf("%d-%s", l.width, map[bool]string{true: "dark", false: "light"}[l.dark])
}

var looks = []look{{360, false}, {360, true}, {1280, false}, {1280, true}}

// browse opens an address and gives what the browser prints.
func browse(t *testing.T, l look, url string, args ...string) []byte {
	t.Helper()
	scheme := "1"
	if l.dark {
		scheme = "0"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	all := []string{"--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-extensions", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
		fmt.Sprintf("--window-size=%d,900", l.width), "--blink-settings=preferredColorScheme=" + scheme, "--virtual-time-budget=30000"}
	if os.Getuid() == 0 {
		all = append(all, "--no-sandbox") // it refuses to sandbox for root
	}
	command := exec.CommandContext(ctx, browser(t), append(append(all, args...), url)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, stderr.Bytes())
	}
	return out
}

// stressed are pages with more, longer and worse than there ought to be.
func stressed(t *testing.T) map[string]Evidence {
	t.Helper()
	all := map[string]Evidence{"hostile": hostilePage("</style><script>document.title='owned'</script>\x1b[31m\u202egnp.exe \u05d0\u05d1 " + strings.Repeat("W", 400))}
	many := evidences(t)["tampered"]
	r := *many.Chain
	r.Findings = nil
	for n := range 1000 {
		r.Findings = append(r.Findings, finding.Finding{Rule: "bad-signature", Severity: finding.Error, Position: int64(1 + 12*n), EventID: fmt.Sprintf("event-%d-%s", n, strings.Repeat("0", 200)), Message: "the signature is not one of signer \"audit-2026\" over this row's digest"})
	}
	r.FindingsTotal, r.ByRule = 5000, map[string]int64{"bad-signature": 5000}
	many.Chain = &r
	all["many"] = many
	return all
}

// judge runs in a copy of a page that lets scripts run: it says what axe-core
// objects to, and whether anything makes the page wider than its window.
const judge = `
const out = document.createElement('pre');
out.id = 'judgement';
const wide = document.documentElement.scrollWidth > window.innerWidth ? [{id: 'wider than its window', nodes: [document.documentElement.scrollWidth + ' > ' + window.innerWidth]}] : [];
axe.run(document, {resultTypes: ['violations']}).then(r => {
  out.textContent = JSON.stringify(wide.concat(r.violations.map(v => ({id: v.id + ': ' + v.help, nodes: v.nodes.map(n => n.html.slice(0, 300) + ' ' + n.failureSummary)}))));
  document.body.append(out);
});`

// No page of any kind, at the width of a phone and of a desktop, by day and by
// night, breaks a rule of axe-core or scrolls sideways.
func TestPagesAreAccessible(t *testing.T) {
	browser(t)
	axe, err := os.ReadFile("../../tools/axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		missing(t, "axe-core is missing: run npm ci --prefix tools/axe --ignore-scripts")
	}
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	judgement := regexp.MustCompile(`(?s)<pre id="judgement">(.*?)</pre>`)
	pages := stressed(t)
	for name, e := range evidences(t) {
		pages[name] = e
	}
	for name, e := range pages {
		page := Page(e)
		open := policy.ReplaceAll(page, nil)
		if len(open) == len(page) {
			t.Fatal("no policy to take out")
		}
		open = bytes.Replace(open, []byte("</body>"), []byte("<script>"+string(axe)+"</script><script>"+judge+"</script></body>"), 1)
		path := filepath.Join(t.TempDir(), name+".html")
		if err := os.WriteFile(path, open, 0o644); err != nil {
			t.Fatal(err)
		}
		all := looks
		switch name {
		case "nothing", "empty", "drill-failed", "verified":
			all = looks[:1]
		case "drill", "resumed", "many":
			all = looks[:2]
		}
		for _, l := range all {
			t.Run(name+"-"+l.String(), func(t *testing.T) {
				t.Parallel()
				m := judgement.FindSubmatch(browse(t, l, "file://"+path, "--dump-dom"))
				if m == nil {
					t.Fatal("axe-core came to no judgement")
				}
				var violations []struct {
					ID    string
					Nodes []string
				}
				if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &violations); err != nil {
					t.Fatal(err)
				}
				for _, v := range violations {
					t.Errorf("%s\n  %s", v.ID, strings.Join(v.Nodes, "\n  "))
				}
			})
		}
	}
}

// The policy of a page holds in a real browser: whatever somebody smuggles
// into it, no request leaves it and no script runs.
func TestPolicyHolds(t *testing.T) {
	browser(t)
	var mutex sync.Mutex
	var asked []string
	var page []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		asked = append(asked, r.URL.Path)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	}))
	defer server.Close()
	smuggled := `<img src="/a"><script src="/b"></script><script>document.title = 'owned'</script><iframe src="/c"></iframe><link rel="stylesheet" href="/d"><style>body { background: url(/e) }</style>` +
		`<svg><image href="/f"/></svg><object data="/g"></object><video src="/h"></video><form id="f" action="/i"></form><img src="x" onerror="document.title = 'owned'"></body>`
	page = bytes.Replace(Page(evidences(t)["tampered"]), []byte("</body>"), []byte(smuggled), 1)
	dom := browse(t, looks[0], server.URL+"/", "--dump-dom")
	if len(asked) != 1 || asked[0] != "/" {
		t.Errorf("the page asked for %q", asked)
	}
	if bytes.Contains(dom, []byte("<title>owned")) || !bytes.Contains(dom, []byte("FAILED")) {
		t.Errorf("a script has run, or the page was not there:\n%.300s", dom)
	}
	// Without the policy all of that happens: the test can fail.
	asked, page = nil, bytes.Replace(page, []byte("Content-Security-Policy"), []byte("x-nothing"), 1)
	if dom := browse(t, looks[0], server.URL+"/", "--dump-dom"); !bytes.Contains(dom, []byte("<title>owned")) || len(asked) < 5 {
		t.Errorf("without a policy the page asked for %q only", asked)
	}
}

// Pictures for people; nothing is compared.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		return
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	pages := stressed(t)
	for name, e := range evidences(t) {
		pages[name] = e
	}
	for name, e := range pages {
		path := filepath.Join(t.TempDir(), name+".html")
		if err := os.WriteFile(path, Page(e), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, l := range looks {
			picture, err := filepath.Abs(filepath.Join(*screenshots, name+"-"+l.String()+".png"))
			if err != nil {
				t.Fatal(err)
			}
			browse(t, l, "file://"+path, "--screenshot="+picture, fmt.Sprintf("--window-size=%d,%d", l.width, map[int]int{360: 5200, 1280: 3600}[l.width]))
		}
	}
}

// Package pullrequest changes a GitHub repository by pull request, and reads
// from it what decisions rest on.
//
// Every operation looks first, does at most what is still missing, and can be
// repeated at any time: a lost answer, a killed run or ten runs at once end
// with one branch and one pull request. Creating the branch is the lock, and a
// branch only ever moves forward, so nothing that a person has pushed is lost.
//
// It refuses to merge, to force, to write to the default branch, to touch
// .git or .github, to read through a symbolic link or a submodule, to follow a
// redirect, and to send the token without TLS (except to the machine itself).
// Requests go out one at a time, and the token appears in no error.
package pullrequest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/go-github/v60/github"
)

// Options say which repository is meant and how patient to be.
type Options struct {
	APIURL     string // root of the REST API; https://api.github.com when empty
	Token      string // App installation token, GITHUB_TOKEN or PAT; empty reads a public repository
	Repository string // owner/name

	// HTTP supplies transport and timeout per attempt (30 s when zero).
	HTTP *http.Client
	// Sleep waits, or ends early with the context's error; nil waits for real.
	Sleep func(ctx context.Context, d time.Duration) error
	// Tell, if set, is told why and how long a request waits to be repeated.
	Tell func(what string)
	// WriteInterval is the least time between two writes. GitHub's "Best
	// practices for using the REST API" asks for one second, which is what zero
	// means, unless the API is on this machine. A negative value means none.
	WriteInterval time.Duration
}

// Repo is one repository as one token sees it.
type Repo struct {
	owner, name string
	client      *github.Client
	http        *transport

	mu            sync.Mutex
	trees         map[string][]entry // by commit or tree id; those never change
	defaultBranch string
}

var repositoryForm = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9_-]{0,99}))/([A-Za-z0-9._-]{1,100})$`)

// Open checks the options and sends nothing. Its errors have exit code 2.
func Open(o Options) (*Repo, error) {
	match := repositoryForm.FindStringSubmatch(o.Repository)
	if match == nil || match[2] == "." || match[2] == ".." {
		return nil, usage("repository %q is not of the form owner/name; give it as GitHub shows it, such as acme/kernel", clip(o.Repository))
	}
	base, local, err := apiURL(o.APIURL)
	if err != nil {
		return nil, err
	}
	if o.WriteInterval == 0 && !local {
		o.WriteInterval = time.Second
	}
	if strings.ContainsFunc(o.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, usage("the token holds a space, a line break or a character outside ASCII; copy it again, without a line break at its end")
	}
	t := newTransport(o)
	client := github.NewClient(&http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	client.BaseURL = base
	client.UserAgent = "audit-signer-rotation"
	return &Repo{owner: match[1], name: match[2], client: client, http: t, trees: map[string][]entry{}}, nil
}

// apiURL reads the API's root. The token travels there, so TLS is required
// unless the host is this machine.
func apiURL(text string) (u *url.URL, local bool, err error) {
	if text == "" {
		text = "https://api.github.com"
	}
	u, err = url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, false, usage("the GitHub API URL is not a plain URL without user, query and fragment; use https://api.github.com, or https://HOST/api/v3 for GitHub Enterprise Server")
	}
	ip := net.ParseIP(u.Hostname())
	local = u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return nil, false, usage("the GitHub API URL for host %s does not start with https://, and the token would travel in the clear; use https", clip(u.Host))
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	return u, local, nil
}

// Now is GitHub's clock: the Date of the latest answer, zero before the first.
func (r *Repo) Now() time.Time { return r.http.now() }

// DefaultBranch returns the name of the repository's default branch.
func (r *Repo) DefaultBranch(ctx context.Context) (string, error) {
	r.mu.Lock()
	known := r.defaultBranch
	r.mu.Unlock()
	if known != "" {
		return known, nil
	}
	repo, _, err := r.client.Repositories.Get(ctx, r.owner, r.name)
	if err != nil {
		return "", r.explain("cannot read the repository", err)
	}
	if repo.GetDefaultBranch() == "" {
		return "", remote("cannot read the repository: GitHub's answer names no default branch; run again")
	}
	r.mu.Lock()
	r.defaultBranch = repo.GetDefaultBranch()
	r.mu.Unlock()
	return repo.GetDefaultBranch(), nil
}

// Head returns the commit at the tip of a branch. A branch that does not exist
// is an error with exit code 2.
func (r *Repo) Head(ctx context.Context, branch string) (string, error) {
	if err := checkBranch(branch); err != nil {
		return "", err
	}
	commit, found, err := r.ref(ctx, branch)
	if err != nil || found {
		return commit, err
	}
	if _, _, err := r.client.Repositories.Get(ctx, r.owner, r.name); err != nil { // 404 also means: not visible
		return "", r.explain("cannot read branch "+branch, err)
	}
	return "", usage("branch %s does not exist in %s/%s; set base-branch to one that does, or leave it empty for the default branch", branch, r.owner, r.name)
}

// ref reads a branch without judging that it is missing.
func (r *Repo) ref(ctx context.Context, branch string) (commit string, found bool, err error) {
	ref, _, err := r.client.Git.GetRef(ctx, r.owner, r.name, "heads/"+branch)
	switch {
	case status(err) == http.StatusNotFound:
		return "", false, nil
	case err != nil:
		return "", false, r.explain("cannot read branch "+branch, err)
	case ref.GetRef() != "refs/heads/"+branch || !isID(ref.GetObject().GetSHA()):
		return "", false, remote("cannot read branch %s: GitHub answered with something else; run again", branch)
	}
	return ref.GetObject().GetSHA(), true, nil
}

var idForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// isID tells whether a text is an object id of git.
func isID(text string) bool { return idForm.MatchString(text) }

// checkBranch accepts what git-check-ref-format does, less the exotic.
func checkBranch(name string) error {
	bad := name == "" || len(name) > 200 || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || name == "@" ||
		strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) })
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return usage("%q is not a branch name that git accepts; give the plain name, such as main", clip(name))
	}
	return nil
}

// status is the HTTP status of a refusal, 0 for any other error and for none.
func status(err error) int {
	if refusal, ok := errors.AsType[*github.ErrorResponse](err); ok && refusal.Response != nil {
		return refusal.Response.StatusCode
	}
	return 0
}

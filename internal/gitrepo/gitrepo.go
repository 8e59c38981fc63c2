// Package gitrepo reads files of a commit out of the checked-out repository,
// with the git command: no network, no token, nothing written.
//
// It refuses commits that the checkout does not hold (a shallow one has only
// the newest), paths that git would read as options or revisions, and
// everything but regular files. Neither configuration nor environment can make
// git run another program, ask the network or look into another repository:
// hooks, filters and pagers play no part in cat-file, and the rest is switched
// off for every call.
package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	pathpkg "path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Error says what git could not do; its exit code is 2.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// ExitCode is 2: the checkout or an input must change.
func (e *Error) ExitCode() int { return 2 }

var (
	commitForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/^~@+#-]{0,199}$`)
	idForm     = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
	// treeLine is an entry of a tree: mode, type, id, size, and the path.
	treeLine = regexp.MustCompile(`^([0-7]{6}) (blob|tree|commit) ([0-9a-f]+) +(\d+|-)\t`)
)

// Commit resolves a revision to a commit id in the repository at dir.
func Commit(ctx context.Context, dir, revision string) (string, error) {
	if !commitForm.MatchString(revision) || strings.Contains(revision, "..") {
		return "", &Error{fmt.Sprintf("%.80q is no commit; give a commit id, a branch or a tag", revision)}
	}
	out, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil && !errors.Is(err, errSilent) {
		return "", &Error{fmt.Sprintf("git cannot look up commit %s: %v; run this in the checkout, owned by this user", revision, err)}
	}
	id := strings.TrimSpace(string(out))
	has := err == nil && (!idForm.MatchString(revision) || id == revision)
	if has && strings.HasPrefix(revision, "refs/") { // or a tag of that whole name would do
		if has, err = Has(ctx, dir, revision); err != nil {
			return "", err
		}
	}
	if !has {
		return "", &Error{fmt.Sprintf("the checkout does not hold commit %s: check out with fetch-depth: 0, or give base-ref", revision)}
	}
	return id, nil
}

// node is an entry of a tree.
type node struct{ mode, kind, id, size, path string }

// what names it for people.
func (n node) what() string {
	switch n.mode {
	case "120000":
		return "a symbolic link"
	case "160000":
		return "a submodule"
	case "040000":
		return "a folder"
	}
	return "of mode " + n.mode
}

// file wants a plain file of at most limit bytes; git knows the mode with and
// without leave to execute.
func (n node) file(commit string, limit int64) error {
	if n.kind != "blob" || n.mode == "120000" {
		return &Error{fmt.Sprintf("%q is %s, no regular file, in commit %.12s; links and submodules are refused: make it a plain file", n.path, n.what(), commit)}
	}
	if size, err := strconv.ParseInt(n.size, 10, 64); err != nil || size > limit {
		return &Error{fmt.Sprintf("%q of commit %.12s is larger than %d bytes", n.path, commit, limit)}
	}
	return nil
}

// list gives the entries of a commit at these paths, or, of a path with a slash at
// its end, below it.
func list(ctx context.Context, dir, commit string, paths ...string) (nodes []node, err error) {
	args := []string{"ls-tree", "-z", "--long", "--end-of-options", commit}
	for _, p := range paths {
		args = append(args, ":(literal)"+p)
	}
	out, err := git(ctx, dir, args...)
	if err != nil {
		return nil, &Error{fmt.Sprintf("git cannot list %q of commit %.12s: %v", paths[len(paths)-1], commit, err)}
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		m := treeLine.FindStringSubmatch(line)
		if m == nil && line != "" {
			return nil, &Error{fmt.Sprintf("git lists %q of commit %.12s in a form that is not known: %.80q%s", paths[0], commit, line, partial(line, " BAD"))}
		} else if m != nil {
			nodes = append(nodes, node{m[1], m[2], m[3], m[4], line[len(m[0]):]})
		}
	}
	return nodes, nil
}

// lookup gives the entry at a path, found is false if there is none. A link or a
// submodule on the way to it is an error: there is something that is not looked at.
func lookup(ctx context.Context, dir, commit, path string) (n node, found bool, err error) {
	if path = pathpkg.Clean(path); !filepath.IsLocal(path) {
		return n, false, &Error{fmt.Sprintf("%q leads out of the checkout: give a path relative to it", path)}
	}
	if path == "." {
		return node{mode: "040000", kind: "tree", path: path}, true, nil
	}
	parts := strings.Split(path, "/")
	for i := range parts {
		nodes, err := list(ctx, dir, commit, strings.Join(parts[:i+1], "/"))
		if err != nil || len(nodes) == 0 {
			return n, false, err
		}
		if n = nodes[0]; i+1 < len(parts) && n.kind != "tree" {
			if n.kind == "blob" && n.mode != "120000" {
				return n, false, nil
			}
			return n, false, &Error{fmt.Sprintf("%q leads through %s (%s) in commit %.12s; links and submodules are refused: make it a plain folder", path, n.path, n.what(), commit)}
		}
	}
	return n, true, nil
}

// ReadFile gives a file of a commit; found is false if the commit has none of
// that path. commit is an id that Commit returned; path is relative to dir.
func ReadFile(ctx context.Context, dir, commit, path string, limit int64) (content []byte, found bool, err error) {
	n, found, err := lookup(ctx, dir, commit, path)
	if err != nil || !found {
		return nil, false, err
	}
	if err := n.file(commit, limit); err != nil {
		return nil, false, err
	}
	if content, err = git(ctx, dir, "cat-file", "blob", n.id); err != nil {
		return nil, false, &Error{fmt.Sprintf("git cannot read %q of commit %.12s: %v", path, commit, err)}
	}
	return content, true, nil
}

// maxFolder bounds the files of a folder, maxOutput what git may answer.
const (
	maxFolder = 2000
	maxOutput = 64 << 20
)

// ReadDir gives the regular files that stand in a folder of a commit and whose
// names end in suffix, by name; none if there is no such folder. Each has at
// most limit bytes.
func ReadDir(ctx context.Context, dir, commit, folder, suffix string, limit int64) (map[string][]byte, error) {
	folder = pathpkg.Clean(folder)
	at, found, err := lookup(ctx, dir, commit, folder)
	if err != nil || !found {
		return nil, err
	}
	if at.kind != "tree" {
		return nil, &Error{fmt.Sprintf("%q is %s, no folder, in commit %.12s; links and submodules are refused: make it a plain folder", folder, at.what(), commit)}
	}
	below := []string{folder + "/"}
	if folder == "." {
		below = []string{"./"}
	}
	nodes, err := list(ctx, dir, commit, below...)
	if err != nil {
		return nil, err
	}
	files, ids, names := map[string][]byte{}, strings.Builder{}, []string{}
	for _, n := range nodes {
		name := n.path[strings.LastIndexByte(n.path, '/')+1:]
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		if err := n.file(commit, limit); err != nil {
			return nil, err
		}
		ids.WriteString(n.id + "\n")
		names = append(names, name)
	}
	if len(names) > maxFolder {
		return nil, &Error{fmt.Sprintf("%q of commit %.12s holds %d files, more than %d", folder, commit, len(names), maxFolder)}
	}
	if len(names) == 0 {
		return files, nil
	}
	answer, err := gitWith(ctx, dir, ids.String(), "cat-file", "--batch")
	for _, name := range names {
		head, rest, ok := strings.Cut(string(answer), "\n") // "<id> blob <size>"
		n, convErr := strconv.Atoi(head[strings.LastIndexByte(head, ' ')+1:])
		if err != nil || !ok || convErr != nil || n >= len(rest) {
			return nil, &Error{fmt.Sprintf("git cannot read %q of %q in commit %.12s: %v", name, folder, commit, err)}
		}
		files[name], answer = []byte(rest[:n]), []byte(rest[n+1:])
	}
	return files, nil
}

// Change is a file that differs between two commits.
type Change struct {
	// Path is relative to the top of the repository, with slashes.
	Path string
	// Mode is that of the newer commit, such as 100644; "" if it has no such file.
	Mode string
}

// Changed lists the files in which two commits differ. It says nothing about how
// they are related; Relate does.
func Changed(ctx context.Context, dir, from, to string) ([]Change, error) {
	out, err := git(ctx, dir, "diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none", "--end-of-options", from, to, "--")
	if err != nil {
		return nil, &Error{fmt.Sprintf("git cannot compare the commits %.12s and %.12s: %v", from, to, err)}
	}
	var changes []Change
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		modes := strings.Fields(fields[i]) // ":<old mode> <new mode> <old id> <new id> <status>"
		if len(modes) != 5 {
			return nil, &Error{fmt.Sprintf("git compares the commits %.12s and %.12s in a form that is not known: %.80q", from, to, fields[i])}
		}
		c := Change{Path: fields[i+1]}
		if modes[1] != "000000" {
			c.Mode = modes[1]
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// FirstParents lists the commits after from, up to to, along first parents,
// the oldest first; nil if from is not among to's first parents or more than
// limit commits lie between.
func FirstParents(ctx context.Context, dir, from, to string, limit int) ([]string, error) {
	out, err := git(ctx, dir, "rev-list", "--first-parent", "--max-count="+strconv.Itoa(limit+1), "--end-of-options", to, "--")
	if err != nil {
		return nil, &Error{fmt.Sprintf("git cannot list the history of commit %.12s: %v", to, err)}
	}
	all := strings.Fields(string(out))
	i := slices.Index(all, from)
	if i < 0 {
		return nil, nil
	}
	steps := all[:i]
	slices.Reverse(steps)
	return steps, nil
}

// Arrived is when a file came to be as it is in a commit: the time of the newest
// of its first parents that changed it. Merges on a branch are first parents, and
// the host of the repository writes their time. One that was pushed with an
// earlier time than a commit before it counts from that one, unless that one is
// dated after now: then its clock was wrong. It is an error where the checkout is
// too shallow to tell.
func Arrived(ctx context.Context, dir, commit, path string, now time.Time) (at time.Time, err error) {
	fail := func(err error) (time.Time, error) {
		return at, &Error{fmt.Sprintf("git cannot tell since when %q is as it is in commit %.12s: %v", path, commit, err)}
	}
	out, err := git(ctx, dir, "rev-list", "--first-parent", "--max-count=1", "--end-of-options", commit, "--", ":(top,literal)"+path)
	if err != nil {
		return fail(err)
	}
	change := strings.TrimSpace(string(out))
	if change == "" {
		return fail(errors.New("no commit of its history has it; check out with fetch-depth: 0"))
	}
	if is, err := shallow(ctx, dir); err != nil {
		return fail(err)
	} else if is {
		return fail(errors.New("this checkout is shallow, so its history is not here: check out with fetch-depth: 0"))
	}
	out, err = git(ctx, dir, "rev-list", "--first-parent", "--no-commit-header", "--format=%ct", "--end-of-options", change, "--")
	if err != nil {
		return fail(err)
	}
	var latest int64
	for i, text := range strings.Fields(string(out)) {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fail(err)
		}
		if i == 0 || seconds <= now.Unix() {
			latest = max(latest, seconds)
		}
	}
	return time.Unix(latest, 0).UTC(), nil
}

// shallow reports whether the checkout lacks history.
func shallow(ctx context.Context, dir string) (bool, error) {
	out, err := git(ctx, dir, "rev-parse", "--is-shallow-repository")
	return strings.TrimSpace(string(out)) != "false", err
}

// Holds reports whether a file of a commit has the name, in whatever folder.
func Holds(ctx context.Context, dir, commit, name string) (bool, error) {
	out, err := git(ctx, dir, "ls-tree", "-r", "-z", "--name-only", "--full-tree", "--end-of-options", commit)
	if err != nil {
		return false, &Error{fmt.Sprintf("git cannot list commit %.12s: %v", commit, err)}
	}
	return strings.Contains("/"+strings.ReplaceAll(string(out), "\x00", "\x00/"), "/"+name+"\x00"), nil
}

// Prefix is the place of dir below the top of the repository: "" or with a
// slash at its end.
func Prefix(ctx context.Context, dir string) (string, error) {
	out, err := git(ctx, dir, "rev-parse", "--show-prefix")
	if err != nil {
		return "", &Error{fmt.Sprintf("git does not say where in its repository %q is: %v", dir, err)}
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// settings are laid over whatever the checkout, the user and the environment
// configure: nothing is run, nothing is fetched, and a folder that merely looks
// like a repository is none.
var settings = []string{
	"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "protocol.allow=never",
	"-c", "safe.bareRepository=explicit", "-c", "core.quotePath=false", "-c", "diff.orderFile=/dev/null", "-c", "advice.graftFileDeprecated=false",
	"-c", "core.commitGraph=false",
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return gitWith(ctx, dir, "", args...)
}

func gitWith(ctx context.Context, dir, stdin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", slices.Concat([]string{"--no-pager", "--no-replace-objects"}, settings, args)...)
	cmd.Dir = dir
	// Of git's own variables only those that say whose checkouts it trusts count;
	// GIT_DIR and its kin would lead to another repository.
	for _, v := range cmd.Environ() {
		if !strings.HasPrefix(v, "GIT_") || strings.HasPrefix(v, "GIT_CONFIG_GLOBAL=") || strings.HasPrefix(v, "GIT_CONFIG_SYSTEM=") || strings.HasPrefix(v, "GIT_CONFIG_NOSYSTEM=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// What a repository has instead of its commits' own parents and objects is off.
	cmd.Env = append(cmd.Env, "GIT_GRAFT_FILE="+os.DevNull, "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("git is not installed")
	case stdout.full:
		return nil, fmt.Errorf("its answer is longer than %d bytes", maxOutput)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && stderr.Len() > 0:
		why := strings.TrimSpace(stderr.String())
		return nil, errors.New(why + partial(why, "promisor", "lazy fetching disabled", "could not fetch", "missing blob"))
	case err != nil:
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
			return nil, errSilent
		}
		return nil, err
	case bytes.Contains(stderr.Bytes(), []byte("broken ref")): // git goes on without it
		return nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// errSilent is git's answer to a question whose answer is no.
var errSilent = errors.New("git says no more")

// partial is what to do about a checkout that lacks objects, where git's words say
// that it does.
func partial(said string, signs ...string) string {
	for _, sign := range signs {
		if strings.Contains(said, sign) {
			return ". This is a partial clone, which lacks objects: take filter and sparse-checkout out of the checkout step"
		}
	}
	return ""
}

// capped keeps what a program writes, up to maxOutput.
type capped struct {
	bytes.Buffer
	full bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxOutput {
		c.full = true
		return 0, errors.New("too much")
	}
	return c.Buffer.Write(p)
}

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
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Error says what git could not do; its exit code is 2.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// ExitCode is 2: the checkout or an input must change.
func (e *Error) ExitCode() int { return 2 }

var (
	commitForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/^~-]{0,199}$`)
	// treeLine is a regular file, of which git knows the mode with and without
	// leave to execute.
	treeLine = regexp.MustCompile(`^100(?:644|755) blob ([0-9a-f]+) +(\d+)\t`)
)

// Commit resolves a revision to a commit id in the repository at dir.
func Commit(ctx context.Context, dir, revision string) (string, error) {
	if !commitForm.MatchString(revision) || strings.Contains(revision, "..") {
		return "", &Error{fmt.Sprintf("%.80q is no commit; give a commit id, a branch or a tag", revision)}
	}
	out, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil && err.Error() != "" { // a missing commit is met with silence
		return "", &Error{fmt.Sprintf("git cannot look up commit %s: %v; run this in the checkout, owned by this user", revision, err)}
	}
	if err != nil {
		return "", &Error{fmt.Sprintf("the checkout does not hold commit %s: check out with fetch-depth: 2 (or 0), or give base-ref", revision)}
	}
	return strings.TrimSpace(string(out)), nil
}

// MergeBase is what a pull request's head was merged onto: the first parent of
// HEAD if head is its second and last, as the merge commit that GitHub makes
// for pull_request has them. It is "" for any other HEAD, above all for a merge
// commit that the pull request itself brings along, whose first parent its
// author has chosen.
func MergeBase(ctx context.Context, dir, head string) string {
	out, err := git(ctx, dir, "rev-list", "--parents", "--max-count=1", "HEAD")
	if ids := strings.Fields(string(out)); err == nil && len(ids) == 3 && ids[2] == head { // HEAD and its parents
		return ids[1]
	}
	return ""
}

// ReadFile gives a file of a commit; found is false if the commit has none of
// that path. commit is an id that Commit returned; path is relative to dir.
func ReadFile(ctx context.Context, dir, commit, path string, limit int64) (content []byte, found bool, err error) {
	path = strings.TrimPrefix(path, "./")
	out, err := git(ctx, dir, "ls-tree", "-z", "--long", commit, "--", ":(literal)"+path)
	if err != nil {
		return nil, false, &Error{fmt.Sprintf("git cannot list %q of commit %.12s: %v", path, commit, err)}
	}
	if len(out) == 0 {
		return nil, false, nil
	}
	m := treeLine.FindSubmatch(out)
	if m == nil {
		return nil, false, &Error{fmt.Sprintf("%q is no regular file in commit %.12s; links and submodules are refused: make it a plain file", path, commit)}
	}
	if n, err := strconv.ParseInt(string(m[2]), 10, 64); err != nil || n > limit {
		return nil, false, &Error{fmt.Sprintf("%q of commit %.12s is larger than %d bytes", path, commit, limit)}
	}
	if content, err = git(ctx, dir, "cat-file", "blob", string(m[1])); err != nil {
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
	folder = strings.TrimPrefix(strings.TrimSuffix(folder, "/"), "./")
	out, err := git(ctx, dir, "ls-tree", "-z", "--long", commit, "--", ":(literal)"+folder+"/")
	if err != nil {
		return nil, &Error{fmt.Sprintf("git cannot list %q of commit %.12s: %v", folder, commit, err)}
	}
	files, ids, names := map[string][]byte{}, strings.Builder{}, []string{}
	for line := range strings.SplitSeq(string(out), "\x00") {
		_, name, _ := strings.Cut(line, "\t")
		name = name[strings.LastIndexByte(name, '/')+1:]
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		m := treeLine.FindStringSubmatch(line)
		if m == nil {
			return nil, &Error{fmt.Sprintf("%q of %q is no regular file in commit %.12s; links and submodules are refused: make it a plain file", name, folder, commit)}
		}
		if n, err := strconv.ParseInt(m[2], 10, 64); err != nil || n > limit {
			return nil, &Error{fmt.Sprintf("%q of %q in commit %.12s is larger than %d bytes", name, folder, commit, limit)}
		}
		ids.WriteString(m[1] + "\n")
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
	// Removed says that the newer commit has no such file.
	Removed bool
	// Executable says that the newer commit's file is a program, by its mode.
	Executable bool
}

// Changed lists the files that to changes: against from, or, where to is no
// merge onto from, against their last common commit, if the checkout holds it.
func Changed(ctx context.Context, dir, from, to string) ([]Change, error) {
	if out, err := git(ctx, dir, "merge-base", from, to); err == nil {
		from = strings.TrimSpace(string(out))
	}
	out, err := git(ctx, dir, "diff-tree", "-r", "-z", "--raw", "--no-renames", from, to)
	if err != nil {
		return nil, &Error{fmt.Sprintf("git cannot compare the commits %.12s and %.12s: %v", from, to, err)}
	}
	var changes []Change
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		modes := strings.Fields(fields[i]) // ":<old mode> <new mode> <old id> <new id> <status>"
		changes = append(changes, Change{Path: fields[i+1], Removed: strings.HasSuffix(fields[i], " D"), Executable: len(modes) > 1 && modes[1] == "100755"})
	}
	return changes, nil
}

// FirstParents lists the commits after from, up to to, along first parents,
// the oldest first; nil if from is not among to's first parents or more than
// limit commits lie between.
func FirstParents(ctx context.Context, dir, from, to string, limit int) []string {
	out, err := git(ctx, dir, "rev-list", "--first-parent", "--max-count="+strconv.Itoa(limit+1), to)
	if err != nil {
		return nil
	}
	all := strings.Fields(string(out))
	i := slices.Index(all, from)
	if i < 0 {
		return nil
	}
	steps := all[:i]
	slices.Reverse(steps)
	return steps
}

// Holds tells whether a file of a commit has the name, in whatever folder; it
// takes a tree that is too large to look through for one that has.
func Holds(ctx context.Context, dir, commit, name string) bool {
	out, err := git(ctx, dir, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
	return err != nil || strings.Contains("/"+strings.ReplaceAll(string(out), "\x00", "\x00/"), "/"+name+"\x00")
}

// Prefix is the place of dir below the top of the repository: "" or with a
// slash at its end.
func Prefix(ctx context.Context, dir string) string {
	out, err := git(ctx, dir, "rev-parse", "--show-prefix")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(out), "\n")
}

// settings are laid over whatever the checkout, the user and the environment
// configure: nothing is run, nothing is fetched, and a folder that merely looks
// like a repository is none.
var settings = []string{
	"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "protocol.allow=never",
	"-c", "safe.bareRepository=explicit", "-c", "core.quotePath=false", "-c", "diff.orderFile=/dev/null",
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
	cmd.Env = append(cmd.Env, "GIT_NO_LAZY_FETCH=1", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
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
	case err != nil:
		return nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
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

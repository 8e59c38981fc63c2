package pullrequest

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/go-github/v60/github"
)

// entry is one line of a git tree.
type entry struct {
	name, mode, id string
	size           int64
}

func (e entry) folder() bool { return e.mode == "040000" }

// regular tells a plain file from links, submodules and folders.
func (e entry) regular() bool { return e.mode == "100644" || e.mode == "100755" }

func (e entry) kind() string {
	switch e.mode {
	case "040000":
		return "a folder"
	case "120000":
		return "a symbolic link"
	case "160000":
		return "a submodule"
	}
	return "of mode " + e.mode
}

// checkPath accepts a relative, clean path outside .git and .github.
func checkPath(p string) error {
	bad := p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || !utf8.ValidString(p) ||
		strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' })
	for part := range strings.SplitSeq(p, "/") {
		bad = bad || part == ".." || strings.EqualFold(part, ".git") || strings.EqualFold(part, ".github")
	}
	if bad {
		return usage("path %q is refused: it must be relative to the repository, without .., backslash or control character, and outside .git and .github; give a path such as kernel/tools/signers.json", clip(p))
	}
	return nil
}

// ReadFile returns a file of a commit. found is false when nothing is there. A
// symbolic link, a submodule or a folder at the path or on the way to it, and
// a file of more than limit bytes, are errors with exit code 2; the size is
// checked before the content is asked for, and the content against its id.
func (r *Repo) ReadFile(ctx context.Context, commit, path string, limit int64) (content []byte, found bool, err error) {
	e, found, err := r.lookup(ctx, commit, path)
	if err != nil || !found {
		return nil, false, err
	}
	if !e.regular() {
		return nil, false, usage("%s at %s is %s, not a plain file; replace it by the file itself", path, short(commit), e.kind())
	}
	if e.size > limit {
		return nil, false, usage("%s at %s has %d bytes, more than the %d that are read; check that the path names the right file", path, short(commit), e.size, limit)
	}
	what := fmt.Sprintf("cannot read %s at %s", path, short(commit))
	blob, _, err := r.client.Git.GetBlob(ctx, r.owner, r.name, e.id)
	if err != nil {
		return nil, false, r.explain(what, err)
	}
	content, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(blob.GetContent(), "\n", ""))
	if err != nil || blob.GetEncoding() != "base64" || blobID(content) != e.id {
		return nil, false, remote("%s: what GitHub sent is not the file that the commit names; run again", what)
	}
	return content, true, nil
}

// History returns the commits up to one that have changed a file since a time,
// the newest first, limit at most (100 if that is more). A merged branch is there
// with its own commits.
func (r *Repo) History(ctx context.Context, commit, path string, since time.Time, limit int) ([]string, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	list, _, err := r.client.Repositories.ListCommits(ctx, r.owner, r.name, &github.CommitsListOptions{
		SHA: commit, Path: path, Since: since, ListOptions: github.ListOptions{PerPage: limit},
	})
	if err != nil {
		return nil, r.explain(fmt.Sprintf("cannot read the history of %s up to %s", path, short(commit)), err)
	}
	var ids []string
	for _, c := range list[:min(len(list), limit)] {
		if !isID(c.GetSHA()) {
			return nil, remote("cannot read the history of %s up to %s: GitHub answered with something else; run again", path, short(commit))
		}
		ids = append(ids, c.GetSHA())
	}
	return ids, nil
}

// Ancestor is a commit and when it was made.
type Ancestor struct {
	ID string
	At time.Time
}

// FirstParents returns a commit and those before it along first parents, the newest
// first, down to the first that was made before a time. It returns none where that
// is more than limit commits away, or further than GitHub's first page tells.
func (r *Repo) FirstParents(ctx context.Context, commit string, until time.Time, limit int) (line []Ancestor, err error) {
	list, _, err := r.client.Repositories.ListCommits(ctx, r.owner, r.name, &github.CommitsListOptions{SHA: commit, ListOptions: github.ListOptions{PerPage: 100}})
	if err != nil {
		return nil, r.explain("cannot read the history of "+short(commit), err)
	}
	byID := map[string]*github.RepositoryCommit{}
	for _, c := range list {
		byID[c.GetSHA()] = c
	}
	for id := commit; len(line) < limit; {
		c, known := byID[id]
		if !known {
			return nil, nil
		}
		at := c.GetCommit().GetCommitter().GetDate().Time
		line = append(line, Ancestor{id, at})
		if at.Before(until) || at.Equal(until) || len(c.Parents) == 0 {
			return line, nil
		}
		id = c.Parents[0].GetSHA()
	}
	return nil, nil
}

// Link reports whether something else than a folder is at a path: a symbolic link,
// a submodule or a file.
func (r *Repo) Link(ctx context.Context, commit, path string) (bool, error) {
	e, found, err := r.lookup(ctx, commit, path)
	return err == nil && found && !e.folder(), err
}

// ReadDir returns the names of what a folder of a commit holds, sorted, without
// its folders; none when there is no such folder.
func (r *Repo) ReadDir(ctx context.Context, commit, path string) ([]string, error) {
	e, found, err := r.lookup(ctx, commit, path)
	if err != nil || !found {
		return nil, err
	}
	if !e.folder() {
		return nil, usage("%s at %s is not a folder; correct the path", path, short(commit))
	}
	entries, err := r.tree(ctx, e.id)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.folder() {
			names = append(names, e.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// lookup walks down to a path. Only folders are walked through.
func (r *Repo) lookup(ctx context.Context, commit, path string) (entry, bool, error) {
	if err := checkPath(path); err != nil {
		return entry{}, false, err
	}
	if !isID(commit) {
		return entry{}, false, usage("%q is not a full commit id of 40 lower-case hex digits; give the commit, not a branch", clip(commit))
	}
	at := entry{mode: "040000", id: commit}
	for name := range strings.SplitSeq(path, "/") {
		if !at.folder() {
			if at.regular() {
				return entry{}, false, nil
			}
			return entry{}, false, usage("%s at %s leads through %s (%s); give the path of the file itself", path, short(commit), at.name, at.kind())
		}
		entries, err := r.tree(ctx, at.id)
		if err != nil {
			return entry{}, false, err
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		if i < 0 {
			return entry{}, false, nil
		}
		at = entries[i]
	}
	return at, true, nil
}

// below is lookup for a path that may be below something that is no folder and is
// cleared: then nothing is there.
func (r *Repo) below(ctx context.Context, commit, path string, clear []string) (entry, bool, error) {
	for _, c := range clear {
		if strings.HasPrefix(path, c+"/") {
			if e, found, err := r.lookup(ctx, commit, c); err != nil || !found || !e.folder() {
				return entry{}, false, err
			}
		}
	}
	return r.lookup(ctx, commit, path)
}

// tree lists a tree, given its own id or that of a commit. Both name content,
// so the answer is kept.
func (r *Repo) tree(ctx context.Context, id string) ([]entry, error) {
	r.mu.Lock()
	entries, known := r.trees[id]
	r.mu.Unlock()
	if known {
		return entries, nil
	}
	what := "cannot read tree " + short(id)
	tree, _, err := r.client.Git.GetTree(ctx, r.owner, r.name, id, false)
	if status(err) == http.StatusNotFound {
		return nil, remote("%s: commit or tree %s does not exist in %s/%s; run again with a commit that does", what, id, r.owner, r.name)
	}
	if err != nil {
		return nil, r.explain(what, err)
	}
	if tree.GetTruncated() {
		return nil, remote("%s: the folder has more entries than GitHub lists, so what is missing cannot be told; move the files to a smaller folder", what)
	}
	for _, e := range tree.Entries {
		entries = append(entries, entry{name: e.GetPath(), mode: e.GetMode(), id: e.GetSHA(), size: int64(e.GetSize())})
	}
	r.mu.Lock()
	r.trees[id] = entries
	r.mu.Unlock()
	return entries, nil
}

// blobID is the id that git gives to a file's content.
func blobID(content []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

package pullrequest

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"

	"github.com/google/go-github/v60/github"
)

// errNoID is an answer of success without the object that was made.
var errNoID = errors.New("the answer names no object")

// edit is one file that differs from the base, or that is taken away.
type edit struct {
	path    string
	content []byte
	remove  bool
}

// edits lists what must change on top of a commit. What is written is a plain
// file, also where it was an executable one; a link, submodule or folder is
// refused.
func (e *ensuring) edits(ctx context.Context, base string) ([]edit, error) {
	var edits []edit
	for _, path := range e.c.paths() {
		content := e.c.Files[path]
		old, found, err := e.below(ctx, base, path, e.c.Clear)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(e.c.Clear, path):
			if found && !old.folder() {
				edits = append(edits, edit{path: path, remove: true})
			}
		case !found:
			edits = append(edits, edit{path: path, content: content})
		case !old.regular():
			return nil, usage("%s at %s is %s and will not be overwritten; correct the path", path, short(base), old.kind())
		case old.id != blobID(content):
			edits = append(edits, edit{path: path, content: content})
		}
	}
	return edits, nil
}

// sameFiles tells whether two commits agree on every file of the change.
func (e *ensuring) sameFiles(ctx context.Context, a, b string) (bool, error) {
	if a == b {
		return true, nil
	}
	for _, path := range e.c.paths() {
		inA, _, err := e.below(ctx, a, path, e.c.Clear)
		if err != nil {
			return false, err
		}
		inB, _, err := e.below(ctx, b, path, e.c.Clear)
		if err != nil {
			return false, err
		}
		if inA != inB {
			return false, nil
		}
	}
	return true, nil
}

// commit makes the objects of a commit, which nobody sees until a branch names
// it: blobs, then the base's tree with them, then the commit with its trailers.
func (e *ensuring) commit(ctx context.Context, base string, parents []string, edits []edit) (*github.Commit, error) {
	under, _, err := e.client.Git.GetCommit(ctx, e.owner, e.name, base)
	if err != nil {
		return nil, e.explain("cannot read commit "+short(base), err)
	}
	tree, err := e.writeTree(ctx, under.GetTree().GetSHA(), edits)
	if err != nil {
		return nil, err
	}
	mark := provenance{operation: e.branch, base: base, files: e.c.digest(), tree: tree}
	return e.writeCommit(ctx, mark.sign(e.c.Message), tree, parents)
}

// writeTree puts files on top of a tree, "" for none, and returns the new one.
func (r *Repo) writeTree(ctx context.Context, onto string, edits []edit) (string, error) {
	var entries []*github.TreeEntry
	for _, edit := range edits {
		if edit.remove { // no id: it is taken away
			entries = append(entries, &github.TreeEntry{Path: github.String(edit.path), Mode: github.String("100644"), Type: github.String("blob")})
			continue
		}
		id := blobID(edit.content)
		blob := &github.Blob{Content: github.String(base64.StdEncoding.EncodeToString(edit.content)), Encoding: github.String("base64")}
		err := r.write(ctx, func() error {
			made, _, err := r.client.Git.CreateBlob(ctx, r.owner, r.name, blob)
			if err == nil && made.GetSHA() != id {
				return errNoID
			}
			return err
		}, nil)
		if err != nil {
			return "", r.explain("cannot store "+edit.path, err)
		}
		entries = append(entries, &github.TreeEntry{
			Path: github.String(edit.path), Mode: github.String("100644"), Type: github.String("blob"), SHA: github.String(id),
		})
	}
	var tree string
	err := r.write(ctx, func() error {
		made, _, err := r.client.Git.CreateTree(ctx, r.owner, r.name, onto, entries)
		if tree = made.GetSHA(); err == nil && !isID(tree) {
			return errNoID
		}
		return err
	}, nil)
	return tree, r.explain("cannot store the tree of the commit", err)
}

// writeCommit names no author and no committer: GitHub then signs what a bot
// commits (GitHub documentation, "About commit signature verification").
func (r *Repo) writeCommit(ctx context.Context, message, tree string, parents []string) (*github.Commit, error) {
	want := &github.Commit{Message: github.String(message), Tree: &github.Tree{SHA: github.String(tree)}}
	for _, parent := range parents {
		want.Parents = append(want.Parents, &github.Commit{SHA: github.String(parent)})
	}
	var made *github.Commit
	err := r.write(ctx, func() (err error) {
		made, _, err = r.client.Git.CreateCommit(ctx, r.owner, r.name, want, nil)
		if err == nil && !isID(made.GetSHA()) {
			return errNoID
		}
		return err
	}, nil)
	return made, r.explain("cannot store the commit", err)
}

// createRef makes a branch. When it exists already, at another commit, it is a
// *Conflict: creating it is the lock.
func (r *Repo) createRef(ctx context.Context, branch, commit string) error {
	ref := &github.Reference{Ref: github.String("refs/heads/" + branch), Object: &github.GitObject{SHA: github.String(commit)}}
	return r.swapRef(ctx, branch, "", commit, func() error {
		_, _, err := r.client.Git.CreateRef(ctx, r.owner, r.name, ref)
		return err
	})
}

// moveRef moves a branch forward from old. When it is no longer there, it is a
// *Conflict; it never forces.
func (r *Repo) moveRef(ctx context.Context, branch, old, commit string) error {
	ref := &github.Reference{Ref: github.String("refs/heads/" + branch), Object: &github.GitObject{SHA: github.String(commit)}}
	return r.swapRef(ctx, branch, old, commit, func() error {
		_, _, err := r.client.Git.UpdateRef(ctx, r.owner, r.name, ref, false)
		return err
	})
}

// swapRef carries out a change of a branch from old ("" for none) to commit. A
// refusal is read again: the branch may be where it should be, or elsewhere.
func (r *Repo) swapRef(ctx context.Context, branch, old, commit string, change func() error) error {
	applied := func() (bool, error) {
		at, _, err := r.ref(ctx, branch)
		switch {
		case err != nil || at == commit:
			return err == nil, err
		case at != old:
			return false, &Conflict{Branch: branch, Want: old, Have: at}
		}
		return false, nil
	}
	err := r.write(ctx, change, applied)
	if code := status(err); code == http.StatusUnprocessableEntity || code == http.StatusConflict {
		if done, raced := applied(); done || raced != nil {
			return raced
		}
	}
	return r.explain("cannot set branch "+branch, err)
}

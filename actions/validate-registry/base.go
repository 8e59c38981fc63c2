package main

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// gate is one run: what is judged, and against what.
type gate struct {
	*gha.Run
	inputs inputs
	event  gha.Event
	at     signerfiles.Paths
	prefix string // of this folder below the top of the repository
	// base and head are commits, "" where files are compared or nothing is.
	base, head string
	headTree   signerfiles.Tree
	gained     record.Move // what the change does, nil if it makes no move
}

// local gives a path as git and the runner name it: relative to the working
// directory where it is in there, without detours. What does not look like the
// path of a changed file would not be known for one.
func local(name string) string {
	if name == "" {
		return ""
	}
	if dir, err := os.Getwd(); err == nil && filepath.IsAbs(name) {
		if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
			name = rel
		}
	}
	return path.Clean(filepath.ToSlash(name))
}

// commitTree reads files of a commit.
type commitTree string

func (t commitTree) File(ctx context.Context, path string) ([]byte, error) {
	content, _, err := gitrepo.ReadFile(ctx, ".", string(t), path, jsondoc.MaxSize)
	return content, err
}

func (t commitTree) Folder(ctx context.Context, path string) (map[string][]byte, error) {
	return gitrepo.ReadDir(ctx, ".", string(t), path, ".json", jsondoc.MaxSize)
}

// side is one side of a comparison.
type side struct {
	files    *record.Files
	findings []finding.Finding
}

// load reads and judges one side by itself; nil if it has no registry.
func (g *gate) load(ctx context.Context, t signerfiles.Tree, at signerfiles.Paths) (*side, error) {
	files, found, err := signerfiles.Load(ctx, t, at, g.Now())
	if err != nil || files == nil {
		return nil, err
	}
	return &side{files, found}, nil
}

// accepted judges the list of accepted findings, which verifications of the chain
// read: what they would stumble over is known before it is merged. A list that the
// base has already, just so, is no reason to hold another change up.
func (g *gate) accepted(ctx context.Context) ([]finding.Finding, error) {
	file := path.Join(path.Dir(g.at.Registry), "audit-exceptions.json") // its one place
	text, unread := g.headTree.File(ctx, file)
	switch {
	case text == nil && unread == nil:
		return nil, nil
	case unread != nil && !gha.IsMisuse(unread):
		return nil, unread
	}
	found, err := g.unreadableList(file, text, unread)
	if err != nil || len(found) == 0 || g.base == "" || g.head == "" {
		return found, err
	}
	changes, err := gitrepo.Changed(ctx, ".", g.base, g.head)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(changes, func(c gitrepo.Change) bool { return c.Path == g.prefix+file }) {
		for i := range found {
			found[i].Severity = finding.Warning
		}
	}
	return found, nil
}

// unreadableList makes findings of secrets in the list, and of what keeps readers
// from reading it.
func (g *gate) unreadableList(file string, text []byte, unread error) ([]finding.Finding, error) {
	if unread != nil { // it is too big, say, or no file
		return []finding.Finding{{Rule: trust.RuleExceptions, Severity: finding.Error, File: file, Line: 1, Col: 1,
			Message: unread.Error() + "; verifications cannot read it either: shorten it, or restore it from its history"}}, nil
	}
	secrets, err := registry.Secrets(file, text)
	if err == nil && len(secrets) == 0 {
		_, err = trust.ParseReviewed(file, text)
	}
	if why, ok := errors.AsType[*jsondoc.Error](err); ok {
		return []finding.Finding{{Rule: trust.RuleExceptions, Severity: finding.Error, File: file, Line: max(why.Line, 1), Col: max(why.Col, 1), Message: why.Message}}, nil
	}
	return secrets, err
}

// choose finds out what is compared with what.
func (g *gate) choose(ctx context.Context) (err error) {
	in, onRunner := g.inputs, g.Getenv("GITHUB_ACTIONS") == "true"
	g.headTree = signerfiles.Disk{Run: g.Run, Paths: g.at}
	switch {
	case in.BaseRegistryPath != "" || in.BaseRef == "none" || in.BaseRef == "" && !g.event.Compares():
		return nil
	case in.BaseRef != "":
		if onRunner && !gitrepo.FullRevision(in.BaseRef) {
			return gha.Misuse("base-ref %q may be the name of a branch and of a tag: give a commit id, or a ref by its full name, such as refs/remotes/origin/main", in.BaseRef)
		}
		if g.base, g.head, err = g.named(ctx); err != nil {
			return err
		}
	default:
		if err := g.protected(); err != nil {
			return err
		}
		e := gitrepo.Event{Name: g.event.Name, Base: g.event.BaseSHA, Head: g.event.HeadSHA, SHA: g.Getenv("GITHUB_SHA"), Created: g.event.Created, Forced: g.event.Forced}
		if tip := "refs/remotes/origin/" + g.event.BaseRef; e.Name == "pull_request" && g.event.BaseRef != "" {
			if has, err := gitrepo.Has(ctx, ".", tip); err != nil {
				return err
			} else if has {
				e.Tip = tip
			}
		}
		pair, err := gitrepo.Relate(ctx, ".", e)
		if err != nil {
			return err
		}
		g.base, g.head = pair.Base, pair.Head
	}
	if g.prefix, err = gitrepo.Prefix(ctx, "."); err != nil {
		return err
	}
	if !onRunner {
		g.head = "" // at a desk, what is not committed yet counts
		return nil
	}
	g.headTree = commitTree(g.head)
	return nil
}

// protected refuses to judge a change for another branch than the one that
// verifiers and actions read: a green check of it would say nothing.
func (g *gate) protected() error {
	want := g.inputs.ProtectedBranch
	if want == "" {
		want = g.event.DefaultBranch
	}
	if want != "" && g.event.BaseRef != want {
		return gha.Misuse("this change goes to branch %q, and the signers that count are those of %q: nothing was judged. If another branch is the protected one, name it in protected-branch", g.event.BaseRef, want)
	}
	return nil
}

// named is the comparison with the commit that base-ref names.
func (g *gate) named(ctx context.Context) (base, head string, err error) {
	if base, err = gitrepo.Commit(ctx, ".", g.inputs.BaseRef); err != nil {
		return "", "", err
	}
	if head, err = gitrepo.Commit(ctx, ".", "HEAD"); err != nil {
		return "", "", err
	}
	if ok, err := gitrepo.Ancestor(ctx, ".", base, head); err != nil {
		return "", "", err
	} else if !ok {
		return "", "", gha.Misuse("base-ref %q: HEAD (%.12s) does not contain that commit (%.12s), so what others have changed there would be taken for this change. Update the branch, or name the last common commit", g.inputs.BaseRef, head, base)
	}
	return base, head, nil
}

// compare judges the change. base is nil where there is nothing to compare
// with.
func (g *gate) compare(ctx context.Context, head *side) (base *side, found []finding.Finding, err error) {
	in := g.inputs
	switch {
	case in.BaseRegistryPath != "":
		at := signerfiles.PathsFor(in.BaseRegistryPath, in.BaseArchivePath, in.BaseRotationsPath)
		base, err = g.load(ctx, signerfiles.Disk{Run: g.Run, Paths: at, Base: "base-"}, at)
		if err == nil && base == nil {
			err = gha.Misuse("base-registry-path %q: there is no such file; check the path", in.BaseRegistryPath)
		}
		if err != nil {
			return nil, nil, err
		}
		found, err = g.judge(base, head, in.MaxEvidenceAge, nil)
		return base, found, err
	case g.base == "":
		g.Logf("nothing to compare with: only the files as they are were judged")
		return nil, nil, nil
	}
	g.Logf("compared with commit %s", g.base)
	base, found, err = g.step(ctx, g.base, g.head, head)
	if err == nil && g.event.Name == "push" && finding.Count(found, finding.Error) > 0 {
		return base, found, g.bySteps(ctx, &found)
	}
	return base, found, err
}

// judge judges what the files have become.
func (g *gate) judge(base, head *side, age time.Duration, arrived func(path string) (time.Time, error)) ([]finding.Finding, error) {
	c := rotation.Change{Base: *base.files, Head: *head.files, Now: g.Now(), Age: age, Arrived: arrived, Runs: g.Runs()}
	found, err := c.Judge()
	g.gained = c.Gained
	return found, err
}

// step judges what happened between two commits; to is "" for the working
// directory.
func (g *gate) step(ctx context.Context, from, to string, head *side) (base *side, found []finding.Finding, err error) {
	t := commitTree(from)
	var changes []gitrepo.Change
	if to != "" {
		if changes, err = gitrepo.Changed(ctx, ".", from, to); err != nil {
			return nil, nil, err
		}
	}
	if base, err = g.load(ctx, t, g.at); err != nil {
		return nil, nil, inBase(from, err)
	}
	isNew := false
	if base == nil {
		if base, err = g.moved(ctx, from, changes); err != nil {
			return nil, nil, err
		}
	}
	if base == nil { // a first registry is a change of an empty one
		g.Logf("commit %.12s has no %s: a registry that did not exist before cannot be broken", from, g.at.Registry)
		empty, _, err := signerfiles.Empty(ctx, t, g.at, g.Now())
		if err == nil {
			_, err = signerfiles.Records(ctx, t, empty)
		}
		if err != nil {
			return nil, nil, inBase(from, err)
		}
		holds, err := gitrepo.Holds(ctx, ".", from, path.Base(g.at.Registry))
		if err != nil {
			return nil, nil, err
		}
		base, isNew = &side{files: empty}, len(changes) > 0 && !holds
	}
	age := g.inputs.MaxEvidenceAge
	if g.event.Name == "push" {
		age = 0 // judged when it was merged
	}
	found, err = g.judge(base, head, age, func(path string) (time.Time, error) { return gitrepo.Arrived(ctx, ".", from, g.prefix+path, g.Now()) })
	if err != nil {
		return nil, nil, err
	}
	place := rotation.Placement{Registry: g.prefix + g.at.Registry, Archive: g.prefix + g.at.Archive, Rotations: g.prefix + g.at.Rotations, New: isNew}
	for _, r := range head.files.Records {
		place.Records = append(place.Records, r.ID)
	}
	for _, c := range changes {
		if c.Mode == "" {
			place.Removed = append(place.Removed, c.Path)
		} else {
			place.Touched = append(place.Touched, rotation.Touched{Path: c.Path, Mode: c.Mode})
		}
	}
	if isNew {
		base = nil
	}
	return base, append(found, place.Judge()...), nil
}

// inBase says that it is the base that cannot be read.
func inBase(commit string, err error) error {
	if broken, is := errors.AsType[*jsondoc.Error](err); is {
		return gha.Misuse("the base (commit %.12s) cannot be read, so nothing was compared with it: %s. Restore that file from its history, in a change that somebody may merge without this check", commit, broken)
	}
	return err
}

// moved looks for the registry that a change moves to its place, among the
// files that it removes: another path does not make it another registry.
func (g *gate) moved(ctx context.Context, from string, changes []gitrepo.Change) (*side, error) {
	for _, c := range changes {
		name, inside := strings.CutPrefix(c.Path, g.prefix)
		if c.Mode != "" || !inside || path.Ext(name) != ".json" {
			continue
		}
		at := signerfiles.PathsFor(name, "", "")
		base, err := g.load(ctx, commitTree(from), at)
		if broken := (*jsondoc.Error)(nil); errors.As(err, &broken) && broken.File == name {
			continue // another JSON file
		}
		if err != nil {
			return nil, inBase(from, err)
		}
		if base != nil && len(base.files.Registry.Signers) > 0 && finding.Count(base.findings, finding.Error) == 0 {
			g.Logf("commit %.12s has the registry at %s", from, name)
			return base, nil
		}
	}
	return nil, nil
}

// maxSteps bounds the merges of one push that are judged one by one.
const maxSteps = 50

// bySteps takes back what was found about a push if every merge of it passes by
// itself: a queue lands several pull requests at once.
func (g *gate) bySteps(ctx context.Context, found *[]finding.Finding) error {
	steps, err := gitrepo.FirstParents(ctx, ".", g.base, g.head, maxSteps)
	if err != nil || len(steps) < 2 {
		return err
	}
	var all []finding.Finding
	from := g.base
	for _, to := range steps {
		head, err := g.load(ctx, commitTree(to), g.at)
		if err != nil || head == nil {
			return err
		}
		_, more, err := g.step(ctx, from, to, head)
		if err != nil {
			return err
		}
		if all = append(all, more...); finding.Count(append(more, head.findings...), finding.Error) > 0 {
			return nil
		}
		from = to
	}
	g.Logf("%d commits were pushed at once, and each passes by itself", len(steps))
	*found = all
	return nil
}

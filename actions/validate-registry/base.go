package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// gate is one run: what is judged, and against what.
type gate struct {
	*gha.Run
	inputs inputs
	event  gha.Event
	at     places
	// base and head are commits, "" where files are compared or nothing is.
	base, head string
	headTree   tree
}

// places are the paths of the things to read.
type places struct{ registry, archive, rotations string }

// exceptions is the list of accepted findings, which has one place only.
func (p places) exceptions() string { return path.Join(path.Dir(p.registry), "audit-exceptions.json") }

// complete fills in what is not given: it stands beside the registry.
func (p places) complete() places {
	if p.archive == "" {
		p.archive = registry.ArchiveBeside(p.registry)
	}
	if p.rotations == "" {
		p.rotations = rotation.DirBeside(p.registry)
	}
	return p
}

// local gives a path as git and the runner name it: relative to the working
// directory where it lies in there, without detours. What does not look like the
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

// tree reads files, of a commit or of the working directory; what is not there
// is nil.
type tree struct {
	file   func(input, path string) ([]byte, error)
	folder func(input, path string) (map[string][]byte, error)
}

func commitTree(ctx context.Context, commit string) tree {
	return tree{
		func(_, path string) ([]byte, error) {
			content, _, err := gitrepo.ReadFile(ctx, ".", commit, path, jsondoc.MaxSize)
			return content, err
		},
		func(_, path string) (map[string][]byte, error) {
			return gitrepo.ReadDir(ctx, ".", commit, path, ".json", jsondoc.MaxSize)
		},
	}
}

func diskTree(r *gha.Run) tree {
	file := func(input, path string) ([]byte, error) {
		content, err := r.ReadFile(input, path, jsondoc.MaxSize)
		if errors.Is(err, fs.ErrNotExist) && input != "registry-path" && input != "base-registry-path" {
			return nil, nil
		}
		return content, err
	}
	return tree{file, func(input, folder string) (map[string][]byte, error) {
		names, err := r.ReadDir(input, folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		files := map[string][]byte{}
		for _, name := range names {
			if err == nil && strings.HasSuffix(name, ".json") {
				files[name], err = file(input, path.Join(folder, name))
			}
		}
		return files, err
	}}
}

// side is one side of a comparison.
type side struct {
	files    *registry.Files
	records  []rotation.Record
	findings []finding.Finding
}

func (s *side) under(dir string) rotation.Files {
	return rotation.Files{Registry: s.files.Registry, Archive: s.files.Archive, Records: s.records, Dir: dir}
}

// load reads and judges one side by itself; nil if it has no registry.
func (g *gate) load(t tree, at places) (*side, error) {
	text, err := t.file("registry-path", at.registry)
	if err != nil || text == nil {
		return nil, err
	}
	archive, err := t.file("archive-path", at.archive)
	if err != nil {
		return nil, err
	}
	s := &side{}
	if s.files, err = registry.Load(at.registry, text, at.archive, archive); err != nil {
		return nil, err
	}
	s.findings = append(s.files.Findings, registry.Validate(s.files.Registry, s.files.Archive, g.Now())...)
	return s, s.loadRecords(t, at.rotations)
}

// loadRecords reads the rotation records; one that cannot be read is a finding.
func (s *side) loadRecords(t tree, dir string) error {
	folder, err := t.folder("rotations-path", dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(folder)) {
		file := path.Join(dir, name)
		found, err := readable(rotation.RuleRecord, file, folder[name], func() error {
			rec, err := rotation.ParseRecord(file, folder[name])
			if err == nil && rec.ID+".json" != name {
				err = &jsondoc.Error{File: file, Message: "the record stands in another file than that of its id; rename it to <id>.json"}
			}
			if err == nil {
				s.records = append(s.records, rec)
			}
			return err
		})
		if err != nil {
			return err
		}
		s.findings = append(s.findings, found...)
	}
	return nil
}

// accepted judges the list of accepted findings, which verifications of the chain
// read: what they would stumble over is known before it is merged. A list that the
// base has already, just so, is no reason to hold another change up.
func (g *gate) accepted(ctx context.Context) ([]finding.Finding, error) {
	file := g.at.exceptions()
	text, unread := g.headTree.file("exceptions", file)
	switch {
	case text == nil && unread == nil:
		return nil, nil
	case unread != nil && !gha.IsMisuse(unread):
		return nil, unread
	}
	found, err := readable(trust.RuleExceptions, file, text, func() error {
		if unread != nil { // it is too big, say, or no file
			return &jsondoc.Error{File: file, Message: unread.Error() + "; verifications cannot read it either: shorten it, or restore it from its history"}
		}
		_, err := trust.ParseReviewed(file, text)
		return err
	})
	if err != nil || len(found) == 0 || g.base == "" || g.head == "" {
		return found, err
	}
	changes, err := gitrepo.Changed(ctx, ".", g.base, g.head)
	if err != nil {
		return nil, err
	}
	path := gitrepo.Prefix(ctx, ".") + file
	if !slices.ContainsFunc(changes, func(c gitrepo.Change) bool { return c.Path == path }) {
		for i := range found {
			found[i].Severity = finding.Warning
		}
	}
	return found, nil
}

// readable makes findings of secrets in a file, and of what keeps parse from
// reading it.
func readable(rule, file string, text []byte, parse func() error) ([]finding.Finding, error) {
	var secrets []finding.Finding
	var err error
	if text != nil {
		secrets, err = registry.Secrets(file, text)
	}
	if err == nil && len(secrets) == 0 {
		err = parse()
	}
	if why, ok := errors.AsType[*jsondoc.Error](err); ok {
		return []finding.Finding{{Rule: rule, Severity: finding.Error, File: file, Line: max(why.Line, 1), Col: max(why.Col, 1), Message: why.Message}}, nil
	}
	return secrets, err
}

// choose finds out what is compared with what.
func (g *gate) choose(ctx context.Context) error {
	g.headTree = diskTree(g.Run)
	revision := g.inputs.BaseRef
	if revision == "" && g.event.Name == "pull_request" {
		revision = gitrepo.MergeBase(ctx, ".", g.event.HeadSHA)
	}
	if revision == "" {
		revision = g.event.BaseSHA
	}
	if g.inputs.BaseRegistryPath != "" || revision == "" || revision == "none" {
		return nil
	}
	var err error
	if g.base, err = gitrepo.Commit(ctx, ".", revision); err != nil {
		return err
	}
	if g.Getenv("GITHUB_ACTIONS") != "true" {
		return nil // at a desk, what is not committed yet counts
	}
	if g.head, err = gitrepo.Commit(ctx, ".", "HEAD"); err != nil {
		return err
	}
	g.headTree = commitTree(ctx, g.head)
	return nil
}

// compare judges the change. base is nil where there is nothing to compare
// with.
func (g *gate) compare(ctx context.Context, head *side) (base *side, found []finding.Finding, err error) {
	switch {
	case g.inputs.BaseRegistryPath != "":
		base, err = g.baseFiles(head)
		if err != nil {
			return nil, nil, err
		}
		return base, rotation.Judge(base.under(g.inputs.BaseRotationsPath), head.under(g.at.rotations), g.Now(), g.inputs.MaxEvidenceAge), nil
	case g.base == "":
		g.Logf("nothing to compare with: only the files as they are were judged")
		return nil, nil, nil
	}
	g.Logf("compared with commit %s", g.base)
	base, found, err = g.step(ctx, g.base, g.head, head)
	if err == nil && g.event.Name == "push" && finding.Count(found, finding.Error) > 0 {
		found = g.bySteps(ctx, found)
	}
	return base, found, err
}

// baseFiles reads the base from files. Without records of the base, those of
// the head count as merged in the state before their ends.
func (g *gate) baseFiles(head *side) (*side, error) {
	in := g.inputs
	disk := diskTree(g.Run)
	base, err := g.load(tree{
		func(input, path string) ([]byte, error) {
			if input == "archive-path" && path == "" {
				return nil, nil
			}
			return disk.file("base-"+input, path)
		},
		func(input, path string) (map[string][]byte, error) {
			if path == "" {
				return nil, nil
			}
			return disk.folder("base-"+input, path)
		},
	}, places{in.BaseRegistryPath, in.BaseArchivePath, in.BaseRotationsPath})
	if err == nil && in.BaseRotationsPath == "" {
		for _, rec := range head.records {
			rec.Retirement, rec.Rollback = nil, nil
			base.records = append(base.records, rec)
		}
	}
	return base, err
}

// step judges what happened between two commits; to is "" for the working
// directory.
func (g *gate) step(ctx context.Context, from, to string, head *side) (base *side, found []finding.Finding, err error) {
	at, t := g.at, commitTree(ctx, from)
	var changes []gitrepo.Change
	if to != "" {
		if changes, err = gitrepo.Changed(ctx, ".", from, to); err != nil {
			return nil, nil, err
		}
	}
	base, err = g.load(t, at)
	if err == nil && base == nil {
		base, at = g.moved(ctx, from, changes)
	}
	age := g.inputs.MaxEvidenceAge
	if g.event.Name == "push" {
		age = 0 // judged when it was merged
	}
	var broken *jsondoc.Error
	switch {
	case errors.As(err, &broken):
		// Or no pull request could repair it.
		found = append(found, finding.Finding{Rule: "base-unreadable", Severity: finding.Warning, File: broken.File,
			Message: fmt.Sprintf("the base cannot be read (line %d: %s), so the change was not compared with it: review every line of it", broken.Line, broken.Message)})
	case err != nil:
		return nil, nil, err
	case base != nil:
		found = append(found, rotation.Judge(base.under(at.rotations), head.under(g.at.rotations), g.Now(), age)...)
	}
	prefix := gitrepo.Prefix(ctx, ".")
	var names, executable []string
	for _, c := range changes {
		names = append(names, c.Path)
		if c.Executable {
			executable = append(executable, c.Path)
		}
	}
	found = append(found, rotation.Executable(prefix+g.at.registry, prefix+g.at.archive, prefix+g.at.rotations, executable)...)
	isNew := base == nil && broken == nil && len(names) > 0 && !gitrepo.Holds(ctx, ".", from, path.Base(g.at.registry))
	return base, append(found, rotation.Alongside(prefix+g.at.registry, prefix+g.at.archive, prefix+g.at.rotations, names, isNew)...), nil
}

// moved looks for the registry that a change moves to its place, among the
// files that it removes: another path does not make it another registry.
func (g *gate) moved(ctx context.Context, from string, changes []gitrepo.Change) (*side, places) {
	prefix := gitrepo.Prefix(ctx, ".")
	for _, c := range changes {
		name, inside := strings.CutPrefix(c.Path, prefix)
		if !c.Removed || !inside || path.Ext(name) != ".json" {
			continue
		}
		at := places{registry: name}.complete()
		base, err := g.load(commitTree(ctx, from), at)
		if err == nil && base != nil && len(base.files.Registry.Signers) > 0 && finding.Count(base.files.Findings, finding.Error) == 0 {
			g.Logf("commit %.12s has the registry at %s", from, name)
			return base, at
		}
	}
	g.Logf("commit %.12s has no %s: a registry that did not exist before cannot be broken", from, g.at.registry)
	return nil, g.at
}

// maxSteps bounds the merges of one push that are judged one by one.
const maxSteps = 50

// bySteps takes back what was found about a push if every merge of it passes by
// itself: a queue lands several pull requests at once.
func (g *gate) bySteps(ctx context.Context, found []finding.Finding) []finding.Finding {
	steps := gitrepo.FirstParents(ctx, ".", g.base, g.head, maxSteps)
	if len(steps) < 2 {
		return found
	}
	var all []finding.Finding
	from := g.base
	for _, to := range steps {
		head, err := g.load(commitTree(ctx, to), g.at)
		if err != nil || head == nil {
			return found
		}
		_, more, err := g.step(ctx, from, to, head)
		if all = append(all, more...); err != nil || finding.Count(append(more, head.findings...), finding.Error) > 0 {
			return found
		}
		from = to
	}
	g.Logf("%d commits were pushed at once, and each passes by itself", len(steps))
	return all
}

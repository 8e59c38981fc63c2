// Package published reads what a repository has published about its signers:
// registry, archive and rotation records, all of one commit.
//
// It refuses a registry, archive or record that breaks its own rules: no step may
// build on a file that a verifier would not accept. What a pull request proposes is
// not published.
package published

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

// State is what one commit says.
type State struct {
	Branch string
	Commit string
	Paths  signerfiles.Paths
	record.Files
	// Blocked says what is in the place of the folder of records, "" if nothing is;
	// see Inputs.OpenAnyway.
	Blocked string
}

// NotSound says that a file breaks its rules: a published one, or, if Proposed,
// one that a step would publish.
type NotSound struct {
	Finding  finding.Finding
	Proposed bool
}

func (e *NotSound) Error() string {
	if e.Proposed {
		return "the file as this step would leave it is refused: " + e.Finding.String() + "; nothing was proposed, change the inputs"
	}
	return e.Finding.String() + "; repair the file first (validate-registry lists everything)"
}

// ExitCode is 2: the input cannot be built on.
func (e *NotSound) ExitCode() int { return 2 }

// commitTree reads files of a commit on GitHub.
type commitTree struct {
	repo   *pullrequest.Repo
	commit string
}

func (t commitTree) File(ctx context.Context, path string) ([]byte, error) {
	content, _, err := t.repo.ReadFile(ctx, t.commit, path, jsondoc.MaxSize)
	return content, err
}

func (t commitTree) Folder(ctx context.Context, folder string) (map[string][]byte, error) {
	names, err := t.repo.ReadDir(ctx, t.commit, folder)
	files := map[string][]byte{}
	for _, name := range names {
		if err == nil && strings.HasSuffix(name, ".json") {
			files[name], err = t.File(ctx, path.Join(folder, name))
		}
	}
	return files, err
}

// readRecords reads the records.
func (s *State) readRecords(ctx context.Context, t signerfiles.Tree) error {
	found, err := signerfiles.Records(ctx, t, &s.Files)
	if f, ok := broken(found, false); err == nil && ok {
		return &NotSound{Finding: f}
	}
	return err
}

// readSigners reads registry and archive. A missing archive is an empty one, missing
// records are none; a missing registry is an error unless missing is allowed, and
// then an empty one.
func readSigners(ctx context.Context, t signerfiles.Tree, p signerfiles.Paths, missing bool) (*State, error) {
	f, found, err := signerfiles.Signers(ctx, t, p, time.Time{})
	if err == nil && f == nil && !missing {
		where := "this folder has no such file; check registry-path"
		if c, is := t.(commitTree); is {
			where = fmt.Sprintf("the repository has no such file at commit %.12s; check registry-path and base-branch", c.commit)
		}
		return nil, &jsondoc.Error{File: p.Registry, Message: where}
	}
	if err == nil && f == nil {
		f, found, err = signerfiles.Empty(ctx, t, p, time.Time{})
	}
	if err != nil {
		return nil, err
	}
	if x, ok := broken(found, missing); ok {
		return nil, &NotSound{Finding: x}
	}
	return &State{Paths: p, Files: *f}, nil
}

// Apply returns the files after a move, and what is to be written for it, by path.
// What validate-registry will say about the pull request is said here: age is how
// old the evidence of a retirement may be.
func (s *State) Apply(id string, m record.Move, now time.Time, age time.Duration) (after record.Files, files map[string][]byte, err error) {
	if after, err = s.Files.Apply(id, m); err != nil {
		return after, nil, err
	}
	change := rotation.Change{Base: s.Files, Head: after, Now: now, Age: age}
	found, err := change.Judge()
	if err != nil {
		return after, nil, err
	}
	if f, ok := broken(found, false); ok {
		return after, nil, &NotSound{f, true}
	}
	return after, after.Changed(s.Files), nil
}

// broken gives the first error among findings; an empty registry may be let
// pass.
func broken(found []finding.Finding, empty bool) (finding.Finding, bool) {
	for _, x := range found {
		if x.Severity == finding.Error && !(empty && (x.Rule == registry.RuleNoSigner || x.Rule == registry.RuleSchema)) {
			return x, true
		}
	}
	return finding.Finding{}, false
}

// Recover finds the record of a rotation in the history of its file, where
// something else is in the place of the folder of records.
func (s *State) Recover(ctx context.Context, repo *pullrequest.Repo, id string) error {
	file := s.Paths.Record(id)
	commits, err := repo.History(ctx, s.Commit, file, time.Time{}, publications)
	if err != nil {
		return err
	}
	for _, commit := range commits {
		text, found, err := repo.ReadFile(ctx, commit, file, jsondoc.MaxSize)
		if gha.IsMisuse(err) || err == nil && !found {
			continue
		}
		if err != nil {
			return err
		}
		r, err := record.Parse(file, text)
		if err == nil && s.Path(r.ID) == file {
			s.Records = append(s.Records, r)
			return nil
		}
	}
	return gha.Misuse("%s, and no commit of the last %d that changed %s holds the record: put the folder of records back", s.Blocked, publications, file)
}

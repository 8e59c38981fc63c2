// Package published reads what a repository has published about its signers:
// registry, archive and rotation records, all of one commit.
//
// It refuses a registry, archive or record that does not hold by its own
// rules: no step may build on a file that a verifier would not accept. What a
// pull request proposes is not published.
package published

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// Paths are where the files stand in the repository.
type Paths struct {
	Registry, Archive, Rotations string
}

// PathsFor gives the paths that go with a registry: the archive and the
// records stand beside it unless named.
func PathsFor(registryPath, archivePath, rotationsPath string) Paths {
	p := Paths{registryPath, archivePath, rotationsPath}
	if p.Archive == "" {
		p.Archive = registry.ArchiveBeside(registryPath)
	}
	if p.Rotations == "" {
		p.Rotations = rotation.DirBeside(registryPath)
	}
	return p
}

// Record is the path of a rotation's record.
func (p Paths) Record(id string) string { return path.Join(p.Rotations, id+".json") }

// State is what one commit says.
type State struct {
	Branch   string
	Commit   string
	Paths    Paths
	Registry *registry.Registry
	Archive  *registry.Archive
	Records  []rotation.Record
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

// Read reads the state at a commit. A missing archive is an empty one, missing
// records are none; a missing registry is an error unless missing is allowed,
// and then an empty one.
func Read(ctx context.Context, repo *pullrequest.Repo, commit string, p Paths, missing bool) (*State, error) {
	s, err := readSigners(ctx, repo, commit, p, missing)
	if err != nil {
		return nil, err
	}
	return s, s.readRecords(ctx, repo)
}

// readSigners reads registry and archive.
func readSigners(ctx context.Context, repo *pullrequest.Repo, commit string, p Paths, missing bool) (*State, error) {
	s := &State{Commit: commit, Paths: p}
	text, found, err := repo.ReadFile(ctx, commit, p.Registry, jsondoc.MaxSize)
	switch {
	case err != nil:
		return nil, err
	case !found && !missing:
		return nil, &jsondoc.Error{File: p.Registry, Message: fmt.Sprintf("the repository has no such file at commit %.12s; check registry-path and base-branch", commit)}
	case !found:
		text = []byte(registry.New)
	}
	archive, _, err := repo.ReadFile(ctx, commit, p.Archive, jsondoc.MaxSize)
	if err != nil {
		return nil, err
	}
	files, err := registry.Load(p.Registry, text, p.Archive, archive)
	if err != nil {
		return nil, err
	}
	s.Registry, s.Archive = files.Registry, files.Archive
	if f, ok := broken(files, registry.Validate(s.Registry, s.Archive, time.Time{}), missing); ok {
		return nil, &NotSound{Finding: f}
	}
	return s, nil
}

func (s *State) readRecords(ctx context.Context, repo *pullrequest.Repo) error {
	names, err := repo.ReadDir(ctx, s.Commit, s.Paths.Rotations)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		file := path.Join(s.Paths.Rotations, path.Base(name))
		text, found, err := repo.ReadFile(ctx, s.Commit, file, jsondoc.MaxSize)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		r, err := rotation.ParseRecord(file, text)
		if err != nil {
			return err
		}
		if s.Paths.Record(r.ID) != file {
			return &jsondoc.Error{File: file, Message: fmt.Sprintf("the record's id is %q; a record stands in the file of its id, %s", r.ID, s.Paths.Record(r.ID))}
		}
		s.Records = append(s.Records, r)
	}
	return nil
}

// InFlight are the ids of the rotations that are not over, without the one named
// except.
func (s *State) InFlight(except string) []string {
	return slices.DeleteFunc(s.Files().Open(), func(id string) bool { return id == except })
}

// Recorded tells whether there is a record of a rotation.
func (s *State) Recorded(id string) bool {
	return s.Files().Record(id) != nil
}

// Files is the state as the policy of a change sees it.
func (s *State) Files() rotation.Files {
	return rotation.Files{Registry: s.Registry, Archive: s.Archive, Records: s.Records, Dir: s.Paths.Rotations}
}

// Judge holds the files that a step would write, by path, against the state:
// what validate-registry will say about the pull request. age is how old the
// evidence of a retirement may be.
func (s *State) Judge(files map[string][]byte, now time.Time, age time.Duration) error {
	reg, archive := s.Registry.Bytes(), s.Archive.Bytes()
	if text, ok := files[s.Paths.Registry]; ok {
		reg = text
	}
	if text, ok := files[s.Paths.Archive]; ok {
		archive = text
	}
	after, err := registry.Load(s.Paths.Registry, reg, s.Paths.Archive, archive)
	if err != nil {
		return err
	}
	head := rotation.Files{Registry: after.Registry, Archive: after.Archive, Dir: s.Paths.Rotations}
	for _, r := range s.Records {
		if _, written := files[s.Paths.Record(r.ID)]; !written {
			head.Records = append(head.Records, r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Dir(name) != s.Paths.Rotations {
			continue
		}
		r, err := rotation.ParseRecord(name, files[name])
		if err != nil {
			return err
		}
		head.Records = append(head.Records, r)
	}
	more := append(registry.Validate(after.Registry, after.Archive, now), rotation.Judge(s.Files(), head, now, age)...)
	if f, ok := broken(after, more, false); ok {
		return &NotSound{f, true}
	}
	return nil
}

// broken gives the first error among findings; an empty registry may be let
// pass.
func broken(f *registry.Files, more []finding.Finding, empty bool) (finding.Finding, bool) {
	for _, x := range append(f.Findings, more...) {
		if x.Severity == finding.Error && !(empty && (x.Rule == registry.RuleNoSigner || x.Rule == registry.RuleSchema)) {
			return x, true
		}
	}
	return finding.Finding{}, false
}

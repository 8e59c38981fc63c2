// Package signerfiles reads what one commit or folder says about its signers:
// registry, archive and rotation records together.
//
// It refuses what it cannot read whole: an absent archive is an empty one only where
// the tree itself says that there is none, and a record that cannot be read is an
// error, because the moves in it would be unknown.
package signerfiles

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Paths are where the files are.
type Paths struct {
	Registry, Archive, Rotations string
}

// PathsFor gives the paths that go with a registry: archive and records are beside
// it unless named.
func PathsFor(registryPath, archivePath, rotationsPath string) Paths {
	p := Paths{registryPath, archivePath, rotationsPath}
	if p.Archive == "" {
		p.Archive = registry.ArchiveBeside(registryPath)
	}
	if p.Rotations == "" {
		p.Rotations = record.DirBeside(registryPath)
	}
	return p
}

// Record is the path of a rotation's record.
func (p Paths) Record(id string) string { return path.Join(p.Rotations, id+".json") }

// Tree is where files are read: a commit, or a folder.
type Tree interface {
	// File returns a file of at most jsondoc.MaxSize bytes, nil if there is none.
	File(ctx context.Context, path string) ([]byte, error)
	// Folder returns the files in a folder whose names end in ".json", by name;
	// none if there is no such folder.
	Folder(ctx context.Context, path string) (map[string][]byte, error)
}

// Signers reads registry and archive, and lists what is wrong with them; nil if
// the tree has no registry. Errors are those of the tree, and *jsondoc.Error for a
// file that cannot be read.
func Signers(ctx context.Context, t Tree, p Paths, now time.Time) (*record.Files, []finding.Finding, error) {
	text, err := t.File(ctx, p.Registry)
	if err != nil || text == nil {
		return nil, nil, err
	}
	archive, err := t.File(ctx, p.Archive)
	if err != nil {
		return nil, nil, err
	}
	return Parse(p, text, archive, now)
}

// Empty is Signers for a tree without a registry: there may be an archive all the
// same, and its ids are not free.
func Empty(ctx context.Context, t Tree, p Paths, now time.Time) (*record.Files, []finding.Finding, error) {
	archive, err := t.File(ctx, p.Archive)
	if err != nil {
		return nil, nil, err
	}
	return Parse(p, []byte(registry.New), archive, now)
}

// Parse is Signers with texts; archive is nil where there is none.
func Parse(p Paths, text, archive []byte, now time.Time) (*record.Files, []finding.Finding, error) {
	files, err := registry.Load(p.Registry, text, p.Archive, archive)
	if err != nil {
		return nil, nil, err
	}
	f := &record.Files{Registry: files.Registry, Archive: files.Archive, Dir: p.Rotations}
	return f, append(files.Findings, registry.Validate(f.Registry, f.Archive, now)...), nil
}

// Load reads all.
func Load(ctx context.Context, t Tree, p Paths, now time.Time) (*record.Files, []finding.Finding, error) {
	f, found, err := Signers(ctx, t, p, now)
	if err != nil || f == nil {
		return nil, nil, err
	}
	more, err := Records(ctx, t, f)
	return f, append(found, more...), err
}

// Records reads the records of the folder f.Dir into f: all that can be read. The
// error is about the first that cannot.
func Records(ctx context.Context, t Tree, f *record.Files) (found []finding.Finding, first error) {
	folder, err := t.Folder(ctx, f.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(folder)) {
		file := path.Join(f.Dir, name)
		secrets, err := registry.Secrets(file, folder[name])
		found = append(found, secrets...)
		var r record.Record
		if err == nil && len(secrets) == 0 {
			r, err = record.Parse(file, folder[name])
		}
		switch {
		case err == nil && len(secrets) > 0:
		case err == nil && f.Path(r.ID) != file:
			err = &jsondoc.Error{File: file, Message: "this record's id is " + registry.Quote(r.ID) + "; a record is in the file of its id: rename it to " + f.Path(r.ID)}
		case err == nil:
			f.Records = append(f.Records, r)
		}
		if first == nil {
			first = err
		}
	}
	return found, first
}

// Disk is the working directory of a run. Errors name the input: registry-path,
// archive-path or rotations-path, after Base.
type Disk struct {
	Run   *gha.Run
	Paths Paths
	Base  string
}

// Input is the input that names a file.
func (t Disk) Input(path string) string {
	switch path {
	case t.Paths.Registry:
		return t.Base + "registry-path"
	case t.Paths.Archive:
		return t.Base + "archive-path"
	}
	return t.Base + "rotations-path"
}

// File is Tree's.
func (t Disk) File(_ context.Context, path string) ([]byte, error) {
	content, err := t.Run.ReadFile(t.Input(path), path, jsondoc.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// Folder is Tree's.
func (t Disk) Folder(ctx context.Context, folder string) (map[string][]byte, error) {
	names, err := t.Run.ReadDir(t.Base+"rotations-path", folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	files := map[string][]byte{}
	for _, name := range names {
		if err == nil && strings.HasSuffix(name, ".json") {
			files[name], err = t.File(ctx, path.Join(folder, name))
		}
	}
	return files, err
}

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// keep takes in what the page of this drill will show: the chain as verify-chain
// has reported it under this name, and the rotation as its record tells it.
func (w *world) keep(name string) error {
	text, err := os.ReadFile(filepath.Join(out, "report-"+name+".json"))
	if err != nil {
		return err
	}
	w.evidence.Chain = &chain.Report{}
	if err := json.Unmarshal(text, w.evidence.Chain); err != nil {
		return err
	}
	reg, _ := w.github.File("main", registryF)
	var archive []byte // none before the first signer leaves
	if text, found := w.github.File("main", registry.ArchiveBeside(registryF)); found {
		archive = []byte(text)
	}
	files, err := registry.Load(registryF, []byte(reg), registry.ArchiveBeside(registryF), archive)
	if err != nil {
		return err
	}
	w.evidence.Archive = files.Archive
	if w.add.rotation == "" {
		return nil
	}
	path := filepath.ToSlash(filepath.Join(filepath.Dir(registryF), "rotations", w.add.rotation+".json"))
	is, _ := w.github.File("main", path)
	rec, err := record.Parse(path, []byte(is))
	if err != nil {
		return err
	}
	a := rotation.Assessment{Phase: record.Files{Registry: files.Registry, Archive: files.Archive}.Phase(rec)}
	if ret := record.Find[*record.Retire](rec); ret != nil {
		a.Gates, a.Boundary = ret.Gates, ret.Boundary
	}
	w.evidence.Rotations = []report.Status{report.NewStatus(rec, a)}
	return nil
}

// index writes the page that everything in the folder can be reached from.
func (w *world) index(t *timeline, failed error) error {
	e := report.Evidence{}
	if w != nil {
		e = w.evidence
	}
	e.Rehearsal = &report.Rehearsal{Took: time.Since(t.start).Round(100 * time.Millisecond).String(), Parts: t.parts}
	if failed != nil {
		e.Rehearsal.Failed = failed.Error()
	}
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, out+string(filepath.Separator)))
		if d.IsDir() && (name == "bin" || name == "checkouts" || name == "repository.git") {
			return fs.SkipDir
		}
		for _, k := range kinds {
			if ok, _ := filepath.Match(k[0], name); ok && !d.IsDir() {
				e.Files = append(e.Files, report.File{Name: name, What: k[1]})
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "index.html"), report.Page(e), 0o644)
}

// kinds say what a file is, by its name.
var kinds = [][2]string{
	{"evidence-*.html", "the evidence page of a verification or of finalize"},
	{"report-*.json", "the report of a verification"},
	{"gate-*.json", "what the registry gate found on a pull request"},
	{"pull-request-*.md", "title and text of a pull request"},
	{"checkpoint.json", "the last checkpoint"},
	{"events.ndjson", "the events"},
	{"steps/*.summary.md", "the job summary of a step"},
	{"steps/*.log", "what a step printed"},
}

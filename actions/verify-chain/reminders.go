package main

import (
	"path"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// reminders say what nobody has done in time, as far as the records beside the
// registry tell. They decide nothing here, so what cannot be read is left out:
// validate-registry speaks of it.
func reminders(r *gha.Run, in inputs, files *registry.Files) []string {
	f := rotation.Files{Registry: files.Registry, Archive: files.Archive, Dir: path.Join(path.Dir(in.RegistryPath), "rotations")}
	names, _ := r.ReadDir("registry-path", f.Dir)
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		name = path.Join(f.Dir, name)
		text, err := r.ReadFile("registry-path", name, jsondoc.MaxSize)
		if err != nil {
			continue
		}
		if rec, err := rotation.ParseRecord(name, text); err == nil {
			f.Records = append(f.Records, rec)
		}
	}
	return rotation.Reminders(f, r.Now())
}

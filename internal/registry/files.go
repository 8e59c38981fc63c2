package registry

import (
	"path"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// Files are a registry and the archive beside it, with what is wrong in each.
type Files struct {
	Registry *Registry
	Archive  *Archive
	Findings []finding.Finding
}

// ArchiveBeside is the path of the archive that goes with a registry.
func ArchiveBeside(registryPath string) string {
	return path.Join(path.Dir(registryPath), "signers.archive.json")
}

// Load reads both files; archive is nil where there is none. The schemas have
// their say where the rules in code found nothing wrong.
func Load(name string, src []byte, archiveName string, archive []byte) (*Files, error) {
	r, fs, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	if fs, err = bySchema(fs, schemas.Signers, name, src); err != nil {
		return nil, err
	}
	f := &Files{Registry: r, Archive: &Archive{Name: archiveName}, Findings: fs}
	if archive == nil {
		return f, nil
	}
	if f.Archive, fs, err = ParseArchive(archiveName, archive); err != nil {
		return nil, err
	}
	if fs, err = bySchema(fs, schemas.Archive, archiveName, archive); err != nil {
		return nil, err
	}
	f.Findings = append(f.Findings, fs...)
	return f, nil
}

// Bytes are the archive's text, nil where there is no file.
func (a *Archive) Bytes() []byte {
	if a.doc == nil {
		return nil
	}
	return a.doc.Bytes()
}

func bySchema(fs []finding.Finding, schema schemas.Name, name string, src []byte) ([]finding.Finding, error) {
	if finding.Count(fs, finding.Error) > 0 {
		return fs, nil
	}
	violations, err := schemas.Violations(schema, src)
	if err != nil {
		return nil, err
	}
	for _, v := range violations {
		fs = append(fs, finding.Finding{Rule: RuleSchema, Severity: finding.Error, File: name, Line: 1, Col: 1,
			Message: "the schema " + string(schema) + " refuses /" + strings.Join(v.Path, "/") + ": " + v.Message})
	}
	return fs, nil
}

// HMACSigners are the signers with an HMAC key, published and archived; one that
// was archived and came back is both.
func HMACSigners(r *Registry, a *Archive) (list []Signer) {
	for _, s := range r.Signers {
		if s.Algorithm == pubkey.HMACSHA256 {
			list = append(list, s)
		}
	}
	for _, s := range a.Retired {
		if s.Algorithm == pubkey.HMACSHA256 {
			list = append(list, s.Signer)
		}
	}
	return list
}

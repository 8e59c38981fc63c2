// Package schemas holds the JSON Schemas (draft-07) of the files that this
// project reads and writes, and checks documents against them.
//
// It is the second opinion beside the rules in code: a schema refuses shapes
// that nobody thought of. It neither sees duplicate names nor knows lines; the
// documents come from package jsondoc, which does.
package schemas

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"sync"

	"github.com/xeipuuv/gojsonschema"
)

//go:embed *.schema.json
var files embed.FS

// Name is a schema's file name without ".schema.json".
type Name string

// The schemas.
const (
	Signers    Name = "signers"
	Archive    Name = "archive"
	Rotation   Name = "rotation"
	Checkpoint Name = "checkpoint"
	Exceptions Name = "exceptions"
	Report     Name = "report"
	Shard      Name = "shard"
	Findings   Name = "findings"
	Gates      Name = "gates"
	Step       Name = "step"
	SARIF      Name = "sarif"
)

// Violation is one place at which a document is not what its schema asks for.
type Violation struct {
	// Path leads from the root to the value, by member names and indexes.
	Path    []string
	Message string
}

func (v Violation) String() string { return "/" + strings.Join(v.Path, "/") + ": " + v.Message }

// compiled holds the schemas that have been asked for.
var compiled sync.Map // Name → *gojsonschema.Schema

func schema(name Name) (*gojsonschema.Schema, error) {
	if s, ok := compiled.Load(name); ok {
		return s.(*gojsonschema.Schema), nil
	}
	text, err := files.ReadFile(string(name) + ".schema.json")
	if err != nil {
		return nil, fmt.Errorf("no schema %q: %w", name, err)
	}
	s, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(text))
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	compiled.Store(name, s)
	return s, nil
}

// Violations checks a JSON document. The error says that the document or the
// schema cannot be read at all.
func Violations(name Name, document []byte) ([]Violation, error) {
	s, err := schema(name)
	if err != nil {
		return nil, err
	}
	result, err := s.Validate(gojsonschema.NewBytesLoader(bytes.TrimSpace(document)))
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	var out []Violation
	for _, e := range result.Errors() {
		switch e.Type() {
		case "condition_else", "condition_then", "number_not": // say only that a branch failed, which its own error explains
			continue
		}
		const root = "(root)"
		path := strings.Split(e.Context().String("\x00"), "\x00")
		if len(path) > 0 && path[0] == root {
			path = path[1:]
		}
		out = append(out, Violation{Path: path, Message: e.Description()})
	}
	return out, nil
}

// Package schemas holds the JSON Schemas (draft-07) of the files that this
// project reads and writes, and checks documents against them.
//
// It is the second opinion beside the rules in code: a schema refuses shapes
// that nobody thought of. It neither sees duplicate names nor knows lines;
// package jsondoc does, and a Form asks both.
package schemas

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
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

// Form is a kind of document that is read into a Go value.
type Form struct {
	Schema Name
	// Is and Else are for people: "not a checkpoint: ", the reason, "; restore it".
	Is, Else string
}

// Decode reads a document into v, strictly, and refuses what is not of the form;
// file is its path. Every error is a *jsondoc.Error.
func (f Form) Decode(file string, src []byte, v any) error {
	if _, err := jsondoc.Parse(file, src); err != nil {
		return err
	}
	violations, err := Violations(f.Schema, src)
	if err != nil {
		return f.Refuse(file, err.Error())
	}
	if len(violations) > 0 {
		return f.Refuse(file, violations[0].String())
	}
	if err := json.Unmarshal(src, v); err != nil {
		return f.Refuse(file, err.Error())
	}
	return nil
}

// Refuse is the error for a document that is not of the form, and why.
func (f Form) Refuse(file, why string) error {
	return &jsondoc.Error{File: file, Message: "not " + f.Is + ": " + why + "; " + f.Else}
}

// Restore is what to do about a broken file that is kept under version control.
const Restore = "repair the file, or restore it from its history"

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

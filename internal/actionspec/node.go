package actionspec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node is a place in the YAML tree. The tree is walked rather than decoded
// into structs, because that would lose the order of inputs, and with it the
// library's own checks for names given twice.
type node struct{ yaml *yaml.Node }

type member struct {
	name  string
	value node
}

// document is the root of a file that holds one document.
func document(src []byte) (node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		return node{}, fmt.Errorf("not readable as YAML: %w", err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return node{}, errors.New("more than one YAML document: keep the first")
	}
	return node{doc.Content[0]}, nil
}

func (n node) line() int { return n.yaml.Line }

// mapping lists the members of n in the order of the file, each of them known
// (if any names are given) and named once. An empty value has no members.
func (n node) mapping(known ...string) ([]member, error) {
	if n.yaml.Tag == "!!null" {
		return nil, nil
	}
	if n.yaml.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping (name: value)", n.line())
	}
	var members []member
	for pair := range slices.Chunk(n.yaml.Content, 2) {
		name, err := node{pair[0]}.text()
		switch {
		case err != nil:
			return nil, err
		case len(known) > 0 && !slices.Contains(known, name):
			return nil, fmt.Errorf("line %d: unknown member %q: known here are %s", pair[0].Line, name, strings.Join(known, ", "))
		case slices.ContainsFunc(members, func(m member) bool { return m.name == name }):
			return nil, fmt.Errorf("line %d: %q is given twice: keep one", pair[0].Line, name)
		}
		members = append(members, member{name, node{pair[1]}})
	}
	return members, nil
}

func (n node) list() ([]node, error) {
	if n.yaml.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: want a list (- item)", n.line())
	}
	var items []node
	for _, item := range n.yaml.Content {
		items = append(items, node{item})
	}
	return items, nil
}

// text is a scalar as a runner hands it on: the text, whatever YAML takes its
// type to be.
func (n node) text() (string, error) {
	switch {
	case n.yaml.Kind != yaml.ScalarNode:
		return "", fmt.Errorf("line %d: want one value", n.line())
	case n.yaml.Tag == "!!null":
		return "", nil
	}
	return n.yaml.Value, nil
}

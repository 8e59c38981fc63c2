// Package actionspec reads an action.yml as data: the one list of an action's
// inputs, with descriptions, defaults and the environment variables under
// which the binary receives them.
//
// Each action embeds its own action.yml, so the face that a consumer sees and
// the inputs that the binary accepts cannot drift apart. Parse refuses a file
// that is not the metadata of a composite action, in particular members named
// twice and an input that two variables carry; it evaluates no expression.
// The syntax is GitHub's "Metadata syntax for GitHub Actions"
// (docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax).
package actionspec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// Spec is one action.yml. Inputs, outputs, steps and environment variables
// keep the order of the file.
type Spec struct {
	Name        string
	Description string
	Inputs      []Input
	Outputs     []Output
	// Using is runs.using: "composite" for every action of this project.
	Using string
	Steps []Step
}

// Input is one entry of inputs.
type Input struct {
	Name        string
	Description string
	// Default is the text as written; it may hold an expression, which only
	// a runner evaluates.
	Default  string
	Required bool
	// Env is the variable of the first step that carries "${{ inputs.Name }}",
	// such as INPUT_REGISTRY_PATH; empty if none does. A composite step gets
	// no INPUT_ variable by itself.
	Env string
}

// Output is one entry of outputs; Value is the expression as written.
type Output struct {
	Name        string
	Description string
	Value       string
}

// Step is one entry of runs.steps.
type Step struct {
	ID    string
	Uses  string
	Shell string
	Run   string
	Env   []Var
}

// Var is one entry of a step's env.
type Var struct{ Name, Value string }

// inputRef matches the value of an env line that hands over one input.
var inputRef = regexp.MustCompile(`^\$\{\{\s*inputs\.([A-Za-z0-9_-]+)\s*\}\}$`)

// Parse reads the text of an action.yml. Its errors name the line.
func Parse(src []byte) (Spec, error) {
	spec, err := parse(src)
	if err != nil {
		return Spec{}, fmt.Errorf("action.yml: %w", err)
	}
	return spec, nil
}

func parse(src []byte) (Spec, error) {
	root, err := document(src)
	if err != nil {
		return Spec{}, err
	}
	top, err := root.mapping("name", "description", "author", "branding", "inputs", "outputs", "runs")
	if err != nil {
		return Spec{}, err
	}
	var spec Spec
	for _, m := range top {
		switch m.name {
		case "name":
			spec.Name, err = m.value.text()
		case "description":
			spec.Description, err = m.value.text()
		case "inputs":
			spec.Inputs, err = inputs(m.value)
		case "outputs":
			spec.Outputs, err = outputs(m.value)
		case "runs":
			spec.Using, spec.Steps, err = runs(m.value)
		}
		if err != nil {
			return Spec{}, err
		}
	}
	switch {
	case spec.Name == "":
		return Spec{}, errors.New("name is missing: write what the action is called")
	case spec.Description == "":
		return Spec{}, errors.New("description is missing: write what the action does")
	case spec.Using != "composite":
		return Spec{}, fmt.Errorf("runs.using is %q: only composite actions are read here", spec.Using)
	}
	return spec, spec.mapInputs()
}

func inputs(n node) ([]Input, error) {
	var ins []Input
	declared, err := n.mapping()
	if err != nil {
		return nil, err
	}
	for _, d := range declared {
		members, err := d.value.mapping("description", "default", "required", "deprecationMessage")
		if err != nil {
			return nil, err
		}
		in := Input{Name: d.name}
		for _, m := range members {
			text, err := m.value.text()
			if err != nil {
				return nil, err
			}
			switch m.name {
			case "description":
				in.Description = text
			case "default":
				in.Default = text
			case "required":
				if text != "true" && text != "false" {
					return nil, fmt.Errorf("line %d: required is %q: write true or false", m.value.line(), text)
				}
				in.Required = text == "true"
			}
		}
		ins = append(ins, in)
	}
	return ins, nil
}

func outputs(n node) ([]Output, error) {
	var outs []Output
	declared, err := n.mapping()
	if err != nil {
		return nil, err
	}
	for _, d := range declared {
		members, err := d.value.mapping("description", "value")
		if err != nil {
			return nil, err
		}
		out := Output{Name: d.name}
		for _, m := range members {
			text, err := m.value.text()
			if err != nil {
				return nil, err
			}
			if m.name == "value" {
				out.Value = text
			} else {
				out.Description = text
			}
		}
		outs = append(outs, out)
	}
	return outs, nil
}

func runs(n node) (using string, steps []Step, err error) {
	members, err := n.mapping("using", "steps")
	if err != nil {
		return "", nil, err
	}
	for _, m := range members {
		if m.name == "using" {
			if using, err = m.value.text(); err != nil {
				return "", nil, err
			}
			continue
		}
		items, err := m.value.list()
		if err != nil {
			return "", nil, err
		}
		for _, item := range items {
			step, err := step(item)
			if err != nil {
				return "", nil, err
			}
			steps = append(steps, step)
		}
	}
	return using, steps, nil
}

// step refuses what the steps of this project have no use for, such as if and
// continue-on-error: with them a failure could pass as a success.
func step(n node) (Step, error) {
	members, err := n.mapping("name", "id", "uses", "shell", "run", "env")
	if err != nil {
		return Step{}, err
	}
	var s Step
	for _, m := range members {
		if m.name == "env" {
			vars, err := m.value.mapping()
			if err != nil {
				return Step{}, err
			}
			for _, v := range vars {
				text, err := v.value.text()
				if err != nil {
					return Step{}, err
				}
				s.Env = append(s.Env, Var{v.name, text})
			}
			continue
		}
		text, err := m.value.text()
		if err != nil {
			return Step{}, err
		}
		switch m.name {
		case "id":
			s.ID = text
		case "uses":
			s.Uses = text
		case "shell":
			s.Shell = text
		case "run":
			s.Run = text
		}
	}
	return s, nil
}

// mapInputs sets each input's Env from the first step.
func (s *Spec) mapInputs() error {
	if len(s.Steps) == 0 {
		return nil
	}
	for _, v := range s.Steps[0].Env {
		ref := inputRef.FindStringSubmatch(v.Value)
		if ref == nil {
			continue
		}
		i := slices.IndexFunc(s.Inputs, func(in Input) bool { return in.Name == ref[1] })
		if i < 0 {
			return fmt.Errorf("env %s hands over the input %s, which inputs does not declare", v.Name, ref[1])
		}
		in := &s.Inputs[i]
		if in.Env != "" {
			return fmt.Errorf("env %s and env %s hand over the same input %s: keep one", in.Env, v.Name, in.Name)
		}
		in.Env = v.Name
	}
	return nil
}

package gha

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/agent-manager/audit-signer-rotation/internal/actionspec"
)

// ours are the inputs that action.yml hands to the binary; one with another
// variable is run.sh's.
func ours(spec actionspec.Spec) []actionspec.Input {
	return slices.DeleteFunc(slices.Clone(spec.Inputs), func(in actionspec.Input) bool {
		return !strings.HasPrefix(in.Env, "INPUT_")
	})
}

// fields maps the name of each of our inputs to its place in the struct t. It
// panics where the two lists differ, which is a defect of the action.
func fields(spec actionspec.Spec, t reflect.Type) map[string]reflect.StructField {
	byName := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, ok := f.Tag.Lookup("input")
		if !ok {
			continue
		}
		switch reflect.Zero(f.Type).Interface().(type) {
		case string, Secret, bool, int, time.Duration, []string:
			byName[name] = f
		default:
			panic("the input " + name + " cannot be a " + f.Type.String())
		}
	}
	declared := map[string]bool{}
	for _, in := range ours(spec) {
		declared[in.Name] = true
		if _, ok := byName[in.Name]; !ok {
			panic("no field takes the input " + in.Name)
		}
	}
	for name, f := range byName {
		if !declared[name] {
			panic("action.yml does not declare the input " + name + " of field " + f.Name)
		}
	}
	return byName
}

// given is what the user gave for one input.
type given struct {
	value string
	flag  bool // on the command line
	bare  bool // there without "=value"
}

// bind fills the struct that dst points to, and masks its secrets first.
func (r *Run) bind(p Process, dst any) error {
	v := reflect.ValueOf(dst).Elem()
	byName := fields(r.spec, v.Type())
	values, problems := read(r.spec, p.Args, r.env)
	for _, in := range ours(r.spec) {
		g, field := values[in.Name], v.FieldByIndex(byName[in.Name].Index)
		g.value = strings.TrimSpace(g.value)
		secret := field.Type() == reflect.TypeFor[Secret]()
		if secret {
			r.mask(g.value)
		}
		if g.value == "" && !g.bare && !strings.Contains(in.Default, "${{") {
			g.value = in.Default
		}
		switch {
		case secret && g.value != "":
			r.given = append(r.given, Argument{Name: in.Name, Secret: in.Env})
		case g.bare:
			r.given = append(r.given, Argument{Name: in.Name, Value: "true"})
		case g.value != in.Default && g.value != "":
			r.given = append(r.given, Argument{Name: in.Name, Value: g.value})
		}
		var err error
		switch {
		case secret && g.flag:
			err = fmt.Errorf("every user of this machine can read a command line: set the variable %s instead, and change this secret", in.Env)
		case g.bare && field.Kind() != reflect.Bool:
			err = fmt.Errorf("a value is missing: write --%s=value", in.Name)
		case g.bare:
			field.SetBool(true)
		case g.value == "" && in.Required:
			err = errors.New("a value is required")
		case g.value != "":
			err = set(field, g.value)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("input %s: %w", in.Name, err))
		}
	}
	if len(problems) > 0 {
		return misuse{errors.Join(problems...)}
	}
	return nil
}

// read collects the values from the arguments and the environment, and what
// is wrong with their names. Arguments win.
func read(spec actionspec.Spec, args []string, env map[string]string) (map[string]given, []error) {
	var problems []error
	values := map[string]given{}
	var flags, vars []string
	leaked := map[string]bool{}
	for _, in := range ours(spec) {
		flags = append(flags, "--"+in.Name)
		vars = append(vars, in.Env)
		if value, ok := env[in.Env]; ok {
			values[in.Name] = given{value: value}
		}
	}
	for _, in := range spec.Inputs {
		// act, unlike a runner, also sets the variables that a JavaScript
		// action would get: INPUT_REGISTRY-PATH.
		leaked["INPUT_"+strings.ToUpper(in.Name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "INPUT_") && !leaked[name] && !slices.Contains(vars, name) {
			problems = append(problems, fmt.Errorf("unknown variable %s%s", name, didYouMean(name, vars)))
		}
	}
	for n, arg := range args {
		flag, value, hasValue := strings.Cut(arg, "=")
		i := slices.Index(flags, flag)
		switch {
		case !strings.HasPrefix(arg, "-"):
			problems = append(problems, fmt.Errorf("argument %d is no flag: inputs are written --name=value", n+1))
		case i < 0:
			problems = append(problems, fmt.Errorf("unknown flag %s%s", flag, didYouMean(flag, flags)))
		case values[flag[2:]].flag:
			problems = append(problems, fmt.Errorf("flag %s is given twice: keep one", flag))
		default:
			values[flag[2:]] = given{value: value, flag: true, bare: !hasValue}
		}
	}
	return values, problems
}

// set parses value into field, by the field's type.
func set(field reflect.Value, value string) error {
	list := field.Type() == reflect.TypeFor[[]string]()
	if err := plain(value, list); err != nil {
		return err
	}
	switch field.Interface().(type) {
	case string, Secret:
		field.SetString(value)
	case bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false: write one of the two", value)
		}
		field.SetBool(value == "true")
	case int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q is no whole number", value)
		}
		field.SetInt(int64(n))
	case time.Duration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("%q is no duration: write it as 48h or 90m", value)
		}
		field.SetInt(int64(d))
	case []string:
		var items []string
		for _, item := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' }) {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		field.Set(reflect.ValueOf(items))
	}
	return nil
}

// plain refuses what no input needs and what misleads whoever reads it later.
// It never repeats the value, which may be a secret.
func plain(value string, lines bool) error {
	if !utf8.ValidString(value) {
		return errors.New("the value is not UTF-8 text")
	}
	if strings.Contains(value, "${{") {
		return errors.New("the value holds ${{, an expression that no runner has evaluated: write it where expressions are evaluated, or give the value itself")
	}
	for _, c := range value {
		if !strconv.IsPrint(c) && !(lines && (c == '\n' || c == '\r')) {
			return fmt.Errorf("the value holds %U, an invisible or control character: write one line of plain text", c)
		}
	}
	return nil
}

// didYouMean names the nearest of the known names, if one is near.
func didYouMean(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	nearest := slices.MinFunc(known, func(a, b string) int {
		return cmp.Compare(distance(name, a), distance(name, b))
	})
	if distance(name, nearest) > len(nearest)/3 {
		return ": --help lists the inputs"
	}
	return ": did you mean " + nearest + "?"
}

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// help is the text of --help, from action.yml.
func help[Inputs any](spec actionspec.Spec) string {
	byName := fields(spec, reflect.TypeFor[Inputs]())
	var text strings.Builder
	fmt.Fprintf(&text, "%s (audit-signer-rotation %s)\n\n%s\n\nInputs, as --name=value or as variable:\n", spec.Name, Version, strings.TrimSpace(spec.Description))
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, in := range ours(spec) {
		flag := "--" + in.Name
		if byName[in.Name].Type == reflect.TypeFor[Secret]() {
			flag = "(variable only)"
		}
		note := ""
		switch {
		case in.Default != "":
			note = " (default " + in.Default + ")"
		case in.Required:
			note = " (required)"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s%s\n", flag, in.Env, strings.Join(strings.Fields(in.Description), " "), note)
	}
	table.Flush() // a strings.Builder takes everything
	return text.String() + "\n" + exitHelp
}

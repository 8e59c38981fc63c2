package gha

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"
)

var defaults = inputs{RegistryPath: "kernel/tools/signers.json", Overlap: 48 * time.Hour, Shards: 1}

func with(edit func(*inputs)) inputs {
	in := defaults
	edit(&in)
	return in
}

func TestInputs(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  []string
		want inputs
	}{
		{"defaults", nil, nil, defaults},
		{"an empty variable is the default", nil, []string{"INPUT_OVERLAP=", "INPUT_SHARDS= \n"}, defaults},
		{"an empty flag is the default", []string{"--overlap="}, nil, defaults},
		{"variables", nil,
			[]string{"INPUT_REGISTRY_PATH=a.json", "INPUT_OVERLAP=90m", "INPUT_ALLOW_EMPTY=true", "INPUT_SHARDS=4", "INPUT_TOKEN=t", "OTHER=x"},
			inputs{RegistryPath: "a.json", Overlap: 90 * time.Minute, AllowEmpty: true, Shards: 4, Token: "t"}},
		{"flags win", []string{"--registry-path=b.json", "--shards=5"},
			[]string{"INPUT_REGISTRY_PATH=a.json"},
			with(func(in *inputs) { in.RegistryPath, in.Shards = "b.json", 5 })},
		{"an empty flag wins too", []string{"--registry-path="}, []string{"INPUT_REGISTRY_PATH=a.json"}, defaults},
		{"a bare switch", []string{"--allow-empty"}, nil, with(func(in *inputs) { in.AllowEmpty = true })},
		{"a switch turned off", []string{"--allow-empty=false"}, []string{"INPUT_ALLOW_EMPTY=true"}, defaults},
		{"a value with = in it", []string{"--reason=a=b=c"}, nil, with(func(in *inputs) { in.Reason = "a=b=c" })},
		{"space around is cut", nil, []string{"INPUT_REASON=\n  leaver: offboarding \n"}, with(func(in *inputs) { in.Reason = "leaver: offboarding" })},
		{"lists by comma or line", nil, []string{"INPUT_LABELS=audit, rotation\n\n key change ,,"},
			with(func(in *inputs) { in.Labels = []string{"audit", "rotation", "key change"} })},
		{"lists with CRLF", nil, []string{"INPUT_LABELS=a\r\nb\r\n"}, with(func(in *inputs) { in.Labels = []string{"a", "b"} })},
		{"shell text and dashes are text", nil, []string{"INPUT_REASON=-x $(id) `id` ; | & é %0A ::error::"},
			with(func(in *inputs) { in.Reason = "-x $(id) `id` ; | & é %0A ::error::" })},
		{"spellings that act leaks", nil, []string{"INPUT_REGISTRY-PATH=leaked", "INPUT_BUILD-FROM-SOURCE=true"}, defaults},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got *inputs
			r := (&runner{args: test.args, env: test.env}).run(t, func(_ context.Context, _ *Run, in inputs) error {
				got = &in
				return nil
			})
			if r.code != 0 || got == nil {
				t.Fatalf("exit code %d, printed %q", r.code, r.stderr)
			}
			if !reflect.DeepEqual(*got, test.want) {
				t.Errorf("inputs are %#v, want %#v", *got, test.want)
			}
		})
	}
}

func TestInputsRefused(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  []string
		want string
	}{
		{"unknown flag", []string{"--registry-pth=x"}, nil, "unknown flag --registry-pth: did you mean --registry-path?"},
		{"unlike any flag", []string{"--verbose"}, nil, "unknown flag --verbose: --help lists the inputs"},
		{"one dash", []string{"-registry-path=x"}, nil, "unknown flag -registry-path: did you mean --registry-path?"},
		{"two dashes alone", []string{"--"}, nil, "unknown flag --: --help"},
		{"flag of run.sh", []string{"--build-from-source=true"}, nil, "unknown flag --build-from-source"},
		{"argument", []string{"--shards=2", "a.json"}, nil, "argument 2 is no flag"},
		{"value in the next argument", []string{"--registry-path", "a.json"}, nil, "input registry-path: a value is missing: write --registry-path=value"},
		{"flag twice", []string{"--shards=1", "--shards=2"}, nil, "flag --shards is given twice"},
		{"unknown variable", nil, []string{"INPUT_REGISTRY_PAHT=x"}, "unknown variable INPUT_REGISTRY_PAHT: did you mean INPUT_REGISTRY_PATH?"},
		{"unknown variable with hyphen", nil, []string{"INPUT_REGISTRY-PAHT=x"}, "unknown variable INPUT_REGISTRY-PAHT: did you mean INPUT_REGISTRY_PATH?"},
		{"secret as flag", []string{"--token=canary-in-argv"}, nil, "input token: every user of this machine can read a command line: set the variable INPUT_TOKEN instead"},
		{"empty secret as flag", []string{"--token="}, nil, "set the variable INPUT_TOKEN instead"},
		{"bare secret flag", []string{"--token"}, nil, "set the variable INPUT_TOKEN instead"},
		{"switch with a yes", []string{"--allow-empty=yes"}, nil, `input allow-empty: "yes" is neither true nor false`},
		{"switch in upper case", nil, []string{"INPUT_ALLOW_EMPTY=TRUE"}, `"TRUE" is neither`},
		{"switch with a digit", nil, []string{"INPUT_ALLOW_EMPTY=1"}, `"1" is neither`},
		{"number", nil, []string{"INPUT_SHARDS=4.0"}, `input shards: "4.0" is no whole number`},
		{"number out of range", nil, []string{"INPUT_SHARDS=99999999999999999999"}, "is no whole number"},
		{"duration without unit", nil, []string{"INPUT_OVERLAP=48"}, `input overlap: "48" is no duration: write it as 48h`},
		{"line end", nil, []string{"INPUT_REASON=a\nb"}, "input reason: the value holds U+000A"},
		{"escape", nil, []string{"INPUT_REASON=\x1b[2J"}, "the value holds U+001B"},
		{"bidi override", nil, []string{"INPUT_REASON=a\u202eb"}, "the value holds U+202E"},
		{"zero width", nil, []string{"INPUT_LABELS=a\u200bb"}, "the value holds U+200B"},
		{"escape in a list", nil, []string{"INPUT_LABELS=a\n\x1b[2J"}, "the value holds U+001B"},
		{"ill-formed UTF-8", nil, []string{"INPUT_REASON=\xff"}, "not UTF-8"},
		{"expression", nil, []string{"INPUT_REASON=${{ github.event.issue.title }}"}, "an expression that no runner has evaluated"},
		{"line end in a secret", nil, []string{"INPUT_TOKEN=canary\nsecond"}, "input token: the value holds U+000A"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := (&runner{args: test.args, env: test.env}).run(t, func(context.Context, *Run, inputs) error {
				t.Error("run was called")
				return nil
			})
			if r.code != 2 || !strings.Contains(r.stderr, test.want) {
				t.Errorf("exit code %d, printed %q, want %q", r.code, r.stderr, test.want)
			}
			if strings.Count(r.stderr, "\n") != 1 || strings.ContainsAny(r.stderr, "\x1b\u202e\u200b") {
				t.Errorf("not one harmless line: %q", r.stderr)
			}
			if strings.Contains(r.everything(), "canary") {
				t.Errorf("a secret was printed: %q", r.everything())
			}
		})
	}
}

func TestAllBadInputsAtOnce(t *testing.T) {
	r := (&runner{
		args: []string{"--shards=x", "--nothing"},
		env:  []string{"INPUT_OVERLAP=y", "INPUT_NONE=z"},
	}).run(t, func(context.Context, *Run, inputs) error { return nil })
	for _, want := range []string{"variable INPUT_NONE", "flag --nothing", "input overlap", "input shards"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%q is not reported: %q", want, r.stderr)
		}
	}
}

const small = `name: n
description: d
inputs: {reason: {description: r, required: true}}
runs: {using: composite, steps: [{id: run, env: {INPUT_REASON: '${{ inputs.reason }}'}}]}
`

func exec1[Inputs any](t *testing.T, env ...string) (int, string) {
	t.Helper()
	var stderr strings.Builder
	code := Exec(context.Background(), []byte(small), Process{Environ: env, Stdout: &stderr, Stderr: &stderr},
		func(context.Context, *Run, Inputs) error { return nil })
	return code, stderr.String()
}

func TestRequired(t *testing.T) {
	type in struct {
		Reason string `input:"reason"`
	}
	if code, text := exec1[in](t); code != 2 || !strings.Contains(text, "input reason: a value is required") {
		t.Errorf("exit code %d, printed %q", code, text)
	}
	if code, text := exec1[in](t, "INPUT_REASON=x"); code != 0 {
		t.Errorf("exit code %d, printed %q", code, text)
	}
}

// A struct that does not fit action.yml must fail on every start, not only on
// one that uses the input in question.
func TestFieldsMustFit(t *testing.T) {
	check := func(want string, code int, text string) {
		t.Helper()
		if code != 3 || !strings.Contains(text, "this is a defect") || !strings.Contains(text, want) {
			t.Errorf("exit code %d, printed %q, want %q", code, text, want)
		}
	}
	code, text := exec1[struct{}](t)
	check("no field takes the input reason", code, text)
	code, text = exec1[struct {
		Reason string `input:"reason"`
		Other  string `input:"other"`
	}](t)
	check("does not declare the input other of field Other", code, text)
	code, text = exec1[struct {
		Reason float64 `input:"reason"`
	}](t)
	check("the input reason cannot be a float64", code, text)
}

// Structs may be shared: what is embedded, under whatever name, counts as
// one's own.
func TestEmbedded(t *testing.T) {
	type Shared struct {
		Reason string `input:"reason"`
	}
	type alias = Shared
	if code, text := exec1[struct{ Shared }](t, "INPUT_REASON=x"); code != 0 {
		t.Errorf("exit code %d, printed %q", code, text)
	}
	if code, text := exec1[struct{ alias }](t, "INPUT_REASON=x"); code != 0 {
		t.Errorf("by an alias: exit code %d, printed %q", code, text)
	}
}

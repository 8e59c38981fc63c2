package actionspec

import (
	"reflect"
	"strings"
	"testing"
)

const sample = `name: Verify chain
description: Checks every event.
inputs:
  registry-path:
    description: The registry.
    default: kernel/tools/signers.json
  token:
    description: Reads the checkpoint branch.
    default: ${{ github.token }}
    required: true
  allow-empty:
    description: Accept no events.
    default: 'false'
  build-from-source:
    description: Build instead of downloading.
  forgotten:
    description: No env line hands it over.
outputs:
  verdict:
    description: verified, failed or undetermined.
    value: ${{ steps.run.outputs.verdict }}
  head:
    description: The last digest.
    value: ${{ steps.run.outputs.head }}
runs:
  using: composite
  steps:
    - id: run
      shell: bash
      run: '"$GITHUB_ACTION_PATH/../run.sh"'
      env:
        INPUT_TOKEN: ${{ inputs.token }}
        INPUT_REGISTRY_PATH: ${{inputs.registry-path}}
        INPUT_ALLOW_EMPTY: ${{ inputs.allow-empty }}
        AUDIT_SIGNER_BUILD_FROM_SOURCE: ${{ inputs.build-from-source }}
        FIXED: not an input
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Name:        "Verify chain",
		Description: "Checks every event.",
		Inputs: []Input{
			{Name: "registry-path", Description: "The registry.", Default: "kernel/tools/signers.json", Env: "INPUT_REGISTRY_PATH"},
			{Name: "token", Description: "Reads the checkpoint branch.", Default: "${{ github.token }}", Required: true, Env: "INPUT_TOKEN"},
			{Name: "allow-empty", Description: "Accept no events.", Default: "false", Env: "INPUT_ALLOW_EMPTY"},
			{Name: "build-from-source", Description: "Build instead of downloading.", Env: "AUDIT_SIGNER_BUILD_FROM_SOURCE"},
			{Name: "forgotten", Description: "No env line hands it over."},
		},
		Outputs: []Output{
			{"verdict", "verified, failed or undetermined.", "${{ steps.run.outputs.verdict }}"},
			{"head", "The last digest.", "${{ steps.run.outputs.head }}"},
		},
		Using: "composite",
		Steps: []Step{{
			ID: "run", Shell: "bash", Run: `"$GITHUB_ACTION_PATH/../run.sh"`,
			Env: []Var{
				{"INPUT_TOKEN", "${{ inputs.token }}"},
				{"INPUT_REGISTRY_PATH", "${{inputs.registry-path}}"},
				{"INPUT_ALLOW_EMPTY", "${{ inputs.allow-empty }}"},
				{"AUDIT_SIGNER_BUILD_FROM_SOURCE", "${{ inputs.build-from-source }}"},
				{"FIXED", "not an input"},
			},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Parse:\n got %+v\nwant %+v", got, want)
	}
}

func TestParseWithoutInputs(t *testing.T) {
	got, err := Parse([]byte("name: n\ndescription: d\nruns: {using: composite, steps: [{uses: o/r@v1}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Inputs) != 0 || len(got.Outputs) != 0 || got.Steps[0].Uses != "o/r@v1" {
		t.Errorf("Parse = %+v", got)
	}
}

func TestParseRefuses(t *testing.T) {
	edit := func(old, new string) string {
		edited := strings.Replace(sample, old, new, 1)
		if edited == sample {
			t.Fatalf("the sample does not hold %q", old)
		}
		return edited
	}
	tests := []struct{ name, src, want string }{
		{"empty", "", "not readable as YAML"},
		{"not YAML", "a: [", "not readable as YAML"},
		{"two documents", sample + "---\nname: again\n", "more than one YAML document"},
		{"a list", "- a\n", "line 1: want a mapping"},
		{"no name", edit("name: Verify chain\n", ""), "name is missing"},
		{"no description", edit("description: Checks every event.\n", ""), "description is missing"},
		{"node action", edit("using: composite", "using: node20"), `runs.using is "node20"`},
		{"unknown top member", edit("runs:", "run: x\nruns:"), `line 25: unknown member "run"`},
		{"top member twice", edit("runs:", "name: again\nruns:"), `line 25: "name" is given twice`},
		{"input twice", edit("  token:\n", "  registry-path:\n"), `line 7: "registry-path" is given twice`},
		{"output twice", edit("  head:\n", "  verdict:\n"), `"verdict" is given twice`},
		{"variable twice", edit("INPUT_ALLOW_EMPTY", "INPUT_TOKEN"), `"INPUT_TOKEN" is given twice`},
		{"misspelt member of an input", edit("required: true", "require: true"), `line 10: unknown member "require"`},
		{"misspelt member of an output", edit("value: ${{ steps.run.outputs.head }}", "values: x"), `unknown member "values"`},
		{"required neither true nor false", edit("required: true", "required: yes"), `required is "yes"`},
		{"default is a list", edit("default: kernel/tools/signers.json", "default: [a]"), "line 6: want one value"},
		{"input is text", edit("    description: Accept no events.\n    default: 'false'", "    text"), "line 12: want a mapping"},
		{"output value is a mapping", edit("value: ${{ steps.run.outputs.head }}", "value: {a: b}"), "want one value"},
		{"inputs as a list", "inputs: [a]", "line 1: want a mapping"},
		{"outputs as a list", "outputs: [a]", "line 1: want a mapping"},
		{"steps as a mapping", "runs: {steps: {a: b}}", "line 1: want a list"},
		{"step with if", edit("      shell: bash\n", "      if: always()\n"), `unknown member "if"`},
		{"variable is a list", edit("FIXED: not an input", "FIXED: [a]"), "want one value"},
		{"input in two variables", edit("inputs.allow-empty }}", "inputs.token }}"), "hand over the same input token"},
		{"variable of no input", edit("inputs.allow-empty }}", "inputs.allow-emtpy }}"), "allow-emtpy, which inputs does not declare"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec, err := Parse([]byte(test.src))
			if err == nil {
				t.Fatalf("accepted as %+v", spec)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
		})
	}
}

package rotation

import (
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

func TestAlongside(t *testing.T) {
	for changed, want := range map[string]string{
		"":                          "",
		"kernel/tools/signers.json": "",
		"kernel/tools/signers.json kernel/tools/signers.archive.json kernel/tools/rotations/r.json README.md": "",
		".github/workflows/gate.yml CODEOWNERS .gitattributes":                                                "", // without the registry
		"kernel/tools/signers.json .github/workflows/gate.yml":                                                "mixed-change",
		"kernel/tools/signers.archive.json .github/workflows/gate.yml":                                        "mixed-change",
		"kernel/tools/rotations/r.json .github/workflows/gate.yml":                                            "mixed-change",
		"kernel/tools/rotations2/r.json .github/workflows/gate.yml":                                           "",
		"kernel/tools/signers.json .GitHub/Workflows/gate.yml":                                                "mixed-change",
		"kernel/tools/signers.json x.github/workflows/gate.yml":                                               "",
		"kernel/tools/signers.json CODEOWNERS":                                                                "mixed-change",
		"kernel/tools/signers.json docs/CODEOWNERS":                                                           "mixed-change",
		"kernel/tools/signers.json .github/CODEOWNERS":                                                        "mixed-change",
		"kernel/tools/signers.json kernel/.gitattributes":                                                     "mixed-change",
		"kernel/tools/signers.json .gitmodules":                                                               "mixed-change",
		"kernel/tools/signers.json kernel/tools/audit-exceptions.json":                                        "mixed-change",
		"kernel/tools/signers.json other/audit-exceptions.json":                                               "",
		"kernel/tools/signers.json .github/a .github/b":                                                       "mixed-change mixed-change",
		"kernel/tools/Signers.json":                                                                           "path-twin",
		"Kernel/tools/signers.json":                                                                           "path-twin",
		"kernel/tools/signers.ARCHIVE.json":                                                                   "path-twin",
		"kernel/tools/Signers.json kernel/tools/signers.json CODEOWNERS":                                      "path-twin mixed-change",
	} {
		for _, isNew := range []bool{false, true} {
			var rules []string
			for _, f := range Alongside("kernel/tools/signers.json", "kernel/tools/signers.archive.json", "kernel/tools/rotations", strings.Fields(changed), isNew) {
				rules = append(rules, f.Rule)
				if warns := isNew && f.Rule == RuleMixedChange; f.Line != 1 || !slices.Contains(strings.Fields(changed), f.File) || (f.Severity == finding.Warning) != warns || (f.Severity == finding.Error) == warns {
					t.Errorf("%+v", f)
				}
			}
			if got := strings.Join(rules, " "); got != want {
				t.Errorf("%q: %q, want %q", changed, got, want)
			}
		}
	}
}

func TestExecutable(t *testing.T) {
	for executable, want := range map[string]int{
		"":                          0,
		"README.md tools/x.sh":      0,
		"kernel/tools/signers.json": 1,
		"kernel/tools/signers.archive.json kernel/tools/rotations/r.json": 2,
		"kernel/tools/rotations2/r.json other/kernel/tools/signers.json":  0,
	} {
		got := Executable("kernel/tools/signers.json", "kernel/tools/signers.archive.json", "kernel/tools/rotations", strings.Fields(executable))
		for _, f := range got {
			if f.Rule != RuleFileMode || f.Severity != finding.Error || f.Line != 1 || !slices.Contains(strings.Fields(executable), f.File) {
				t.Errorf("%+v", f)
			}
		}
		if len(got) != want {
			t.Errorf("%q: %d findings, want %d", executable, len(got), want)
		}
	}
}

package rotation

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Which files a change may touch. A name alone is a plain file that the change
// leaves; 120000:name has that mode, -name is taken away.
func TestPlacement(t *testing.T) {
	const reg, arch, rec = "kernel/tools/signers.json", "kernel/tools/signers.archive.json", "kernel/tools/rotations/rotate-b-1.json"
	for changed, want := range map[string]string{
		"":                                   "",
		reg:                                  "",
		reg + " " + arch + " " + rec:         "",
		reg + " README.md kernel/tools/x.js": "",
		"kernel/tools/rotations/README.md":   "",
		"kernel/tools/audit-verify.js":       "",

		// The gate changes together with what it guards.
		".github/workflows/gate.yml CODEOWNERS .gitattributes":      "", // without the registry
		reg + " .github/workflows/gate.yml":                         "mixed-change",
		reg + " -.github/workflows/gate.yml":                        "mixed-change",
		"-" + reg + " .github/workflows/gate.yml":                   "mixed-change",
		arch + " .github/workflows/gate.yml":                        "mixed-change",
		rec + " .github/workflows/gate.yml":                         "mixed-change",
		"kernel/tools/rotations2/r.json .github/workflows/gate.yml": "",
		reg + " .GitHub/Workflows/gate.yml":                         "mixed-change",
		reg + " x.github/workflows/gate.yml":                        "",
		reg + " CODEOWNERS":                                         "mixed-change",
		reg + " docs/CODEOWNERS":                                    "mixed-change",
		reg + " .github/CODEOWNERS":                                 "mixed-change",
		reg + " kernel/.gitattributes":                              "mixed-change",
		reg + " .gitmodules":                                        "mixed-change",
		reg + " kernel/tools/audit-exceptions.json":                 "mixed-change",
		reg + " other/audit-exceptions.json":                        "",
		reg + " .github/a .github/b":                                "mixed-change mixed-change",

		// What is no plain file.
		"100755:" + reg:                       "file-mode",
		"100755:" + arch + " 100755:" + rec:   "file-mode file-mode",
		"120000:" + reg:                       "file-mode",
		"160000:" + arch:                      "file-mode",
		"120000:" + rec:                       "file-mode",
		"120000:kernel/tools/rotations":       "file-mode",
		"160000:kernel/tools/rotations":       "file-mode",
		"120000:kernel":                       "file-mode",
		"160000:kernel/tools":                 "file-mode",
		"120000:kernel/tools/link":            "",
		"100755:kernel/tools/x.sh":            "",
		"120000:kernel/tool":                  "",
		"-kernel/tools/rotations/rotate.json": "",

		// Records elsewhere.
		"kernel/tools/rotations/2026/rotate-c-1.json": "misplaced-record",
		"kernel/tools/rotations/a/b/c.json":           "misplaced-record",
		"kernel/tools/rotations/a/README.md":          "misplaced-record",
		"120000:kernel/tools/rotations/a/b":           "file-mode misplaced-record",

		// Names that some file system takes for ours.
		"kernel/tools/Signers.json":                        "path-twin",
		"Kernel/tools/signers.json":                        "path-twin",
		"kernel/TOOLS/other.json":                          "path-twin",
		"kernel/tools/signers.ARCHIVE.json":                "path-twin",
		"kernel/tools/Rotations/rotate-b-1.json":           "path-twin",
		"kernel/tools/Rotations":                           "path-twin",
		"kernel/tools/rotations/Rotate-b-1.json":           "path-twin",
		"kernel/tools/rotations/rotate-b-1.JSON":           "path-twin",
		"kernel/tools/signers.json.":                       "path-twin",
		"kernel/tools/signers.json::$DATA":                 "path-twin",
		"kernel/tools/signers\u200c.json":                  "path-twin",
		"kernel/tools\u200d/signers.json":                  "path-twin",
		"kernel/tools/\u017figners.json":                   "path-twin", // a long s
		"\u212aernel/tools/signers.json":                   "path-twin", // a Kelvin sign
		`kernel/tools\signers.json`:                        "path-twin",
		"kernel/tools/SIGNER~1.JSO":                        "path-twin",
		"kernel/tools/signer~2.jso":                        "path-twin",
		"kernel/tools/ROTATI~1/x.json":                     "path-twin",
		"kernel/tools/rotations/ROTATE~1.JSO":              "path-twin",
		"kernel/tools/SIGNER~1.TXT":                        "",
		"kernel/tools/other~1.jso":                         "",
		"kernel/tools/signers.json.md":                     "",
		"kernel/tools/signers2.json":                       "",
		"kernel/tools/signers":                             "",
		"other/Signers.json":                               "",
		"-kernel/tools/Signers.json":                       "",
		"kernel/tools/Signers.json " + reg + " CODEOWNERS": "path-twin mixed-change",
	} {
		for _, isNew := range []bool{false, true} {
			p := Placement{Registry: reg, Archive: arch, Rotations: "kernel/tools/rotations", Records: []string{"rotate-b-1"}, New: isNew}
			for _, name := range strings.Fields(changed) {
				mode, path, is := strings.Cut(name, ":")
				switch {
				case strings.HasPrefix(name, "-"):
					p.Removed = append(p.Removed, name[1:])
				case is && len(mode) == 6:
					p.Touched = append(p.Touched, Touched{path, mode})
				default:
					p.Touched = append(p.Touched, Touched{name, "100644"})
				}
			}
			var rules []string
			for _, f := range p.Judge() {
				rules = append(rules, f.Rule)
				warns := isNew && f.Rule == RuleMixedChange
				if f.Line != 1 || !strings.Contains(changed, f.File) || (f.Severity == finding.Warning) != warns || (f.Severity == finding.Error) == warns {
					t.Errorf("%+v", f)
				}
			}
			if got := strings.Join(rules, " "); got != want {
				t.Errorf("%q: got %q, want %q", changed, got, want)
			}
		}
	}
	p := Placement{Registry: reg, Archive: arch, Rotations: "kernel/tools/rotations", Touched: []Touched{{"kernel/tools/signers.json ", "100644"}}}
	if fs := p.Judge(); len(fs) != 1 || fs[0].Rule != RulePathTwin {
		t.Errorf("a space behind the name: %v", fs)
	}
}

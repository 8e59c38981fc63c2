package rotation

import (
	"fmt"
	"path"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Executable judges the files that a change leaves with leave to execute: a
// registry, an archive and a record are data (mode 100644). What was so before
// and is not touched is nobody's business.
func Executable(registryPath, archivePath, rotationsDir string, executable []string) []finding.Finding {
	var fs []finding.Finding
	for _, name := range executable {
		if name == registryPath || name == archivePath || strings.HasPrefix(name, rotationsDir+"/") {
			fs = append(fs, finding.Finding{Rule: RuleFileMode, Severity: finding.Error, File: name, Line: 1, Col: 1,
				Message: "this file is executable (mode 100755), and it is data: take that away with git update-index --chmod=-x, and commit"})
		}
	}
	return fs
}

// Alongside judges which files a change touches, given from the top of the
// repository: what decides over the gate, or over who must approve, does not
// change together with what it guards, and no second file stands where a file
// system that folds letter case has room for one. Of a registry that is new,
// the first is a warning: its workflow has to come from somewhere.
func Alongside(registryPath, archivePath, rotationsDir string, changed []string, isNew bool) []finding.Finding {
	var fs []finding.Finding
	touched := false
	for _, name := range changed {
		touched = touched || name == registryPath || name == archivePath || strings.HasPrefix(name, rotationsDir+"/")
		for _, own := range []string{registryPath, archivePath} {
			if name != own && strings.EqualFold(name, own) {
				fs = append(fs, finding.Finding{Rule: RulePathTwin, Severity: finding.Error, File: name, Line: 1, Col: 1,
					Message: fmt.Sprintf("this name differs from %s in letter case only: on Windows and macOS a checkout holds one of the two, and nobody knows which", own)})
			}
		}
	}
	if !touched {
		return fs
	}
	severity, advice := finding.Error, "make it a change of its own"
	if isNew {
		severity, advice = finding.Warning, "review both: from the next change on they must come apart"
	}
	for _, name := range changed {
		if what := guards(path.Dir(registryPath), name); what != "" {
			fs = append(fs, finding.Finding{Rule: RuleMixedChange, Severity: severity, File: name, Line: 1, Col: 1,
				Message: fmt.Sprintf("%s changes together with the registry, its archive or its records; %s", what, advice)})
		}
	}
	return fs
}

// guards says what a file decides over, "" if nothing of ours. dir is the
// registry's folder.
func guards(dir, name string) string {
	folded := strings.ToLower(name)
	switch base := path.Base(folded); {
	case base == "codeowners":
		return "CODEOWNERS, which says who must approve,"
	case strings.HasPrefix(folded, ".github/"):
		return "a workflow or policy of this repository"
	case base == ".gitattributes" || base == ".gitmodules":
		return "what git shows of files and makes of them (" + base + ")"
	case base == "audit-exceptions.json" && path.Dir(folded) == strings.ToLower(dir):
		return "the list of accepted findings"
	}
	return ""
}

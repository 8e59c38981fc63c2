package rotation

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// The rules of where files are; docs/rules.md explains each.
const (
	RuleMixedChange = "mixed-change"
	RulePathTwin    = "path-twin"
	RuleFileMode    = "file-mode"
	RuleMisplaced   = "misplaced-record"
)

// Touched is a file that a change leaves behind, by its path from the top of the
// repository, and its mode in git: 100644 is a plain file.
type Touched struct{ Path, Mode string }

// Placement is where registry, archive and records are, from the top of the
// repository, and which files a change touches. Removed are those that it takes
// away.
type Placement struct {
	Registry, Archive, Rotations string
	// Records are the ids of those that the change leaves behind.
	Records []string
	Touched []Touched
	Removed []string
	// New says that the base has no registry.
	New bool
}

// Judge refuses what is ours in another place or form than readers expect: links,
// submodules and programs, records in nested folders, and names that some file
// system takes for one of ours. What decides over the gate, or over who must
// approve, does not change together with what it guards. Of a registry that is
// new, the first is a warning: its workflow has to come from somewhere. Files of
// other tools beside the registry are none of its business.
func (p Placement) Judge() (fs []finding.Finding) {
	add := func(rule string, severity finding.Severity, file, format string, args ...any) {
		fs = append(fs, finding.Finding{Rule: rule, Severity: severity, File: file, Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)})
	}
	touched := false
	all := append([]string{}, p.Removed...)
	for _, t := range p.Touched {
		all = append(all, t.Path)
		rest, inRotations := strings.CutPrefix(t.Path, p.Rotations+"/")
		own := t.Path == p.Registry || t.Path == p.Archive || inRotations
		if what := modes[t.Mode]; what != "" && (own || p.leadsTo(t.Path)) {
			add(RuleFileMode, finding.Error, t.Path, "this is %s, and it must be a plain file (mode 100644) or a plain folder: of a program, take that away with git update-index --chmod=-x, and commit", what)
		}
		if inRotations && strings.Contains(rest, "/") {
			add(RuleMisplaced, finding.Error, t.Path, "records are in %s itself, and this is in a folder below it, where no reader looks: move it, or keep other files elsewhere", p.Rotations)
		}
		if twin := p.twin(t.Path); twin != "" {
			add(RulePathTwin, finding.Error, t.Path, "some file systems take this name for %s (they fold letter case, ignore some characters, or shorten names): a checkout there has one of the two, and nobody knows which. Choose another name", twin)
		}
	}
	for _, name := range all {
		touched = touched || name == p.Registry || name == p.Archive || strings.HasPrefix(name, p.Rotations+"/")
	}
	if !touched {
		return fs
	}
	severity, advice := finding.Error, "make it a change of its own"
	if p.New {
		severity, advice = finding.Warning, "review both: from the next change on they must be separate"
	}
	for _, name := range all {
		if what := guards(path.Dir(p.Registry), name); what != "" {
			add(RuleMixedChange, severity, name, "%s changes together with the registry, its archive or its records; %s", what, advice)
		}
	}
	return fs
}

// modes are those of git that no plain file has.
var modes = map[string]string{"100755": "a program", "120000": "a symbolic link", "160000": "a submodule"}

// leadsTo reports whether a path is a folder on the way to one of ours.
func (p Placement) leadsTo(name string) bool {
	for _, own := range []string{p.Registry, p.Archive, p.Rotations + "/"} {
		if strings.HasPrefix(own, name+"/") {
			return true
		}
	}
	return false
}

// twin is the path of ours, or of a folder on the way to it, that a name is taken
// for, "" if it is none: all names before are the same, and the first that is not
// is a twin.
func (p Placement) twin(name string) string {
	own := []string{p.Registry, p.Archive, p.Rotations}
	for _, id := range p.Records {
		own = append(own, p.Rotations+"/"+id+".json")
	}
	for _, path := range own {
		is, ours := strings.Split(name, "/"), strings.Split(path, "/")
		for i := range min(len(is), len(ours)) {
			if is[i] == ours[i] {
				continue
			}
			if sameName(is[i], ours[i]) {
				return strings.Join(ours[:i+1], "/")
			}
			break
		}
	}
	return ""
}

// ignored are the characters that HFS+ leaves out of a comparison of names (git's
// utf8.c, is_hfs_dotgit, lists them).
var ignored = strings.NewReplacer("\u200c", "", "\u200d", "", "\u200e", "", "\u200f", "", "\u202a", "", "\u202b", "", "\u202c", "", "\u202d", "", "\u202e", "",
	"\u206a", "", "\u206b", "", "\u206c", "", "\u206d", "", "\u206e", "", "\u206f", "", "\ufeff", "")

// short is the form of an 8.3 name of Windows.
var short = regexp.MustCompile(`^([^~.]{1,6})~[0-9]{1,6}(\.[^.]{0,3})?$`)

// sameName reports whether some file system takes a name for ours: one that folds
// letter case (Windows, macOS), leaves characters out (HFS+), cuts dots and spaces
// off the end, has data streams behind a colon, takes a backslash for a separator,
// or shortens names (NTFS).
func sameName(name, ours string) bool {
	bare := ignored.Replace(name)
	bare, _, _ = strings.Cut(bare, ":")
	bare, _, _ = strings.Cut(bare, `\`)
	bare = strings.TrimRight(bare, ". ")
	if strings.EqualFold(bare, ours) {
		return true
	}
	m := short.FindStringSubmatch(bare)
	if m == nil {
		return false
	}
	stem, ext := strings.ReplaceAll(ours, " ", ""), path.Ext(ours)
	stem = strings.ReplaceAll(strings.TrimSuffix(stem, ext), ".", "")
	return len(stem) > 8 && len(m[1]) <= len(stem) && strings.EqualFold(m[1], stem[:len(m[1])]) && strings.EqualFold(m[2], ext[:min(len(ext), 4)]) ||
		len(ext) > 4 && len(m[1]) <= len(stem) && strings.EqualFold(m[1], stem[:len(m[1])]) && strings.EqualFold(m[2], ext[:4])
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

package pullrequest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// largestBody is what Ensure accepts; GitHub takes 65,536 characters.
const largestBody = 65_000

// Change is what a pull request shall propose.
type Change struct {
	Operation string // add-signer, finalize, rollback: lower case, digits, hyphens
	Key       string // canonical text of what it does; equal keys are one pull request

	Base       string            // the branch to merge into
	BaseCommit string            // the commit of it that Files were computed from
	Files      map[string][]byte // whole new content by path
	Clear      []string          // paths below which Files are, and where a link, submodule or file is taken away
	Tip        string            // of this change's branch when Files were computed, "" if it did not exist
	Name       string            // of the branch, where its own is blocked; see Propose

	Message     string // of the commit
	Title, Body string // of the pull request

	// These are applied once, when the pull request is opened.
	Labels, Reviewers, TeamReviewers, Assignees []string
}

// branches is what our branches begin with, and elsewhere what they begin with
// where that name is blocked.
const (
	branches  = "audit-signer/"
	elsewhere = "audit-signer-"
)

// Branch names the branch of this change:
// audit-signer/<operation>/<first 16 hex digits of SHA-256(Key)>, unless Name is set.
func (c Change) Branch() string { return cmp.Or(c.Name, branches+c.Operation+"/"+c.digits()) }

// second is the name where the first one is blocked.
func (c Change) second() string { return elsewhere + c.Operation + "-" + c.digits() }

func (c Change) digits() string {
	sum := sha256.Sum256([]byte(c.Key))
	return hex.EncodeToString(sum[:8])
}

// State says what Ensure found or did.
type State string

const (
	Created   State = "created"   // the pull request was opened now
	Updated   State = "updated"   // it was open, and branch or text changed
	Unchanged State = "unchanged" // nothing was written; Number is 0 when the base already holds every file
	Proposed  State = "open"      // Find only: it is open
	Closed    State = "closed"    // a person closed it unmerged, which means no; nothing was written
	Merged    State = "merged"    // it is merged; nothing was written
	Foreign   State = "foreign"   // the branch ends in a commit that is not ours; left alone, with a comment
)

// Proposal is a pull request as Ensure or Find left it.
type Proposal struct {
	State    State
	Branch   string
	Number   int // 0 when there is none
	URL      string
	Base     string    // the branch it merges into
	Commit   string    // head of the branch
	MergedAt time.Time // zero unless merged

	// Notes are sentences on what people should know: a reviewer whom GitHub does
	// not accept, say, or that no check starts by itself.
	Notes []string
}

var operationForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// check refuses a change that must not be sent.
func (c Change) check() error {
	if !operationForm.MatchString(c.Operation) {
		return usage("operation %q is not a lower-case word; use one such as add-signer", clip(c.Operation))
	}
	for name, text := range map[string]string{"key": c.Key, "commit message": c.Message, "title": c.Title} {
		if strings.TrimSpace(text) == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return usage("the change's %s is empty or not plain text; a pull request needs one", name)
		}
	}
	if strings.ContainsAny(c.Title, "\r\n") {
		return usage("the title %q has a line break; give one line", clip(c.Title))
	}
	if n := utf8.RuneCountInString(c.Body); n > largestBody {
		return usage("the pull request's text has %d characters, more than the %d that GitHub takes; shorten it", n, largestBody)
	}
	if !isID(c.BaseCommit) {
		return usage("base commit %q is not a full commit id; give the commit that the files were computed from", clip(c.BaseCommit))
	}
	if len(c.Files) == 0 {
		return usage("the change has no files; there is nothing to propose")
	}
	for _, path := range c.paths() {
		if err := checkPath(path); err != nil {
			return err
		}
	}
	return checkBranch(c.Base)
}

// paths lists what changes, sorted.
func (c Change) paths() []string {
	all := append(slices.Collect(maps.Keys(c.Files)), c.Clear...)
	slices.Sort(all)
	return all
}

// digest covers the path and content of every file.
func (c Change) digest() string {
	h := sha256.New()
	for _, path := range c.paths() {
		fmt.Fprintf(h, "%s\x00%s\n", path, blobID(c.Files[path]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// provenance is what a commit of ours says about itself, in trailers of its
// message. The tree's id binds it to the content: a person who amends the
// commit or adds another one makes it theirs.
type provenance struct{ operation, base, files, tree string }

const (
	trailerOperation = "Audit-Signer-Operation: "
	trailerBase      = "Audit-Signer-Base: "
	trailerFiles     = "Audit-Signer-Files: "
	trailerTree      = "Audit-Signer-Tree: "
)

// sign appends the trailers to a message.
func (p provenance) sign(message string) string {
	return strings.TrimSpace(message) + "\n\n" +
		trailerOperation + p.operation + "\n" + trailerBase + p.base + "\n" +
		trailerFiles + p.files + "\n" + trailerTree + p.tree + "\n"
}

// readProvenance reads the last paragraph of a message. ours is true when it
// is complete and speaks of this branch and of the tree that the commit has.
func readProvenance(message, branch, tree string) (p provenance, ours bool) {
	paragraphs := strings.Split(strings.TrimSpace(strings.ReplaceAll(message, "\r\n", "\n")), "\n\n")
	for line := range strings.SplitSeq(paragraphs[len(paragraphs)-1], "\n") {
		for prefix, field := range map[string]*string{
			trailerOperation: &p.operation, trailerBase: &p.base, trailerFiles: &p.files, trailerTree: &p.tree,
		} {
			if value, found := strings.CutPrefix(line, prefix); found {
				*field = value
			}
		}
	}
	return p, p.operation == branch && p.tree == tree && isID(p.tree) && isID(p.base) && p.files != ""
}

package gitrepo_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
)

// history is that of a pull request: the name of a commit, then those of its parents.
const history = `
	start                       # main, before the pull request
	base        start           # main, as the payload names it
	tip         base            # main, after somebody else's merge
	early       base            # the branch of the pull request
	head        early           # its head, as the payload names it
	merge       base head       # GitHub's merge of the head
	mergeTip    tip head        # the same, after main moved on
	mergeEarly  base early      # GitHub's merge of the earlier head
	mergeStart  start head      # a merge onto a commit that lacks the base
	turned      head base       # a merge with its parents in the other order
	octopus     base head tip   # a merge of two heads
	squashed    base            # a commit of the same tree that is no merge
	behind      start           # a head that was made before the base
	mergeBehind base behind     # GitHub's merge of it
	forged      base            # a commit of the pull request, made to be a first parent
	own         forged head     # a merge that the pull request has as its head
	ownBehind   start behind    # such a merge that lacks the base
	mergeOwn    base own        # GitHub's merge of such a head
	unrelated                   # the start of another history
`

// ids are commits by their names.
type ids map[string]string

// commits makes the commits of a history, all of them with one tree.
func (r repo) commits(history string) ids {
	r.t.Helper()
	r.commit("kernel/tools/signers.json", "{}")
	made := ids{}
	for line := range strings.Lines(history) {
		line, _, _ = strings.Cut(line, "#")
		names := strings.Fields(line)
		if len(names) == 0 {
			continue
		}
		made[names[0]] = r.commitTree("HEAD^{tree}", names[0], made.of(names[1:]...)...)
	}
	return made
}

// commitTree makes a commit of a tree, with these parents.
func (r repo) commitTree(tree, message string, parents ...string) string {
	r.t.Helper()
	args := []string{"commit-tree", "-m", message}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	return r.git(append(args, tree)...)
}

// write writes a file, of the working tree or of git.
func (r repo) write(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, path), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// remove removes the object of a commit, a tree or a file from the repository.
func (r repo) remove(id string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.dir, ".git/objects", id[:2], id[2:])); err != nil {
		r.t.Fatal(err)
	}
}

// spoil overwrites such an object with what is none.
func (r repo) spoil(id string) {
	r.t.Helper()
	r.remove(id)
	r.write(filepath.Join(".git/objects", id[:2], id[2:]), "spoilt")
}

// wantParents checks what git says without the settings of this package: a row that
// changes parents must really change them.
func (r repo) wantParents(commit string, want ...string) {
	r.t.Helper()
	got := strings.Fields(r.git("-c", "advice.graftFileDeprecated=false", "rev-list", "--parents", "--max-count=1", commit, "--"))
	if !slices.Equal(got[1:], want) {
		r.t.Fatalf("this row changes nothing: got parents %q, want %q", got[1:], want)
	}
}

// of are the ids of these names; what is no name stays as it is.
func (made ids) of(names ...string) (all []string) {
	for _, name := range names {
		if id, is := made[name]; is {
			name = id
		}
		all = append(all, name)
	}
	return all
}

func (made ids) event(e gitrepo.Event) gitrepo.Event {
	all := made.of(e.Base, e.Head, e.SHA)
	e.Base, e.Head, e.SHA = all[0], all[1], all[2]
	return e
}

func (made ids) pair(p gitrepo.Pair) gitrepo.Pair {
	all := made.of(p.Base, p.Head)
	return gitrepo.Pair{Base: all[0], Head: all[1]}
}

// text puts the first twelve digits of an id in the place of {its name}, all of
// them in the place of {{its name}}.
func (made ids) text(s string) string {
	return regexp.MustCompile(`\{+\w+\}+`).ReplaceAllStringFunc(s, func(name string) string {
		id := made[strings.Trim(name, "{}")]
		if strings.HasPrefix(name, "{{") {
			return id
		}
		return id[:12]
	})
}

// names are those of the commits of a pair, for an error.
func (made ids) names(p gitrepo.Pair) gitrepo.Pair {
	for name, id := range made {
		if p.Base == id {
			p.Base = name
		}
		if p.Head == id {
			p.Head = name
		}
	}
	return p
}

// unknown is the id of no commit.
var unknown = strings.Repeat("1", 40)

const (
	// mainHere is the ref that main has in a checkout.
	mainHere = "refs/remotes/origin/main"
	noFit    = "the event %s and the checkout do not fit, so nothing was judged: "

	noCommits = "the payload does not name the commits before and after the change. " +
		"Leave GITHUB_EVENT_PATH to the runner, or give base-ref"
	otherCommit = "HEAD (%s) is neither GITHUB_SHA (%s) nor the head of the event (%s): " +
		"let actions/checkout choose the commit"
	otherMerge = "HEAD (%s) is not the merge of the head that the event names (%s); " +
		"GitHub's merge of an earlier head was checked out. Run it again"
	otherBase  = "HEAD merges onto %s, which does not contain the base that the event names (%s). Run it again"
	behindBase = "HEAD (%s) is behind its base: it does not contain %s. " +
		"Update the branch, or check out the merge commit (no ref in actions/checkout)"
	wasForced = "this push was forced, and the commit that it replaced is not before it any more. " +
		"Compare by hand, with base-ref"
)

// says is an error of Relate about an event, with these names of commits.
func says(event, text string, names ...string) string {
	for _, name := range names {
		text = strings.Replace(text, "%s", "{"+name+"}", 1)
	}
	return strings.Replace(noFit, "%s", event, 1) + text
}

// lacks is the error about a commit that is not in the checkout.
func lacks(revision string) string {
	return "the checkout does not hold commit " + revision + ": check out with fetch-depth: 0, or give base-ref"
}

func pullRequest(base, head, sha string) gitrepo.Event {
	return gitrepo.Event{Name: "pull_request", Base: base, Head: head, SHA: sha}
}

func mergeGroup(base, head, sha string) gitrepo.Event {
	return gitrepo.Event{Name: "merge_group", Base: base, Head: head, SHA: sha}
}

func push(before, after, sha string) gitrepo.Event {
	return gitrepo.Event{Name: "push", Base: before, Head: after, SHA: sha}
}

func withTip(e gitrepo.Event) gitrepo.Event {
	e.Tip = mainHere
	return e
}

func created(e gitrepo.Event) gitrepo.Event {
	e.Created = true
	return e
}

func forced(e gitrepo.Event) gitrepo.Event {
	e.Forced = true
	return e
}

func pair(base, head string) gitrepo.Pair { return gitrepo.Pair{Base: base, Head: head} }

// relation is a row: what is checked out, what the runner says, and what is
// compared (or what the error says).
type relation struct {
	name     string
	checkout string
	event    gitrepo.Event
	want     gitrepo.Pair
	says     string
	// prepare changes the repository before the checkout.
	prepare func(repo, ids)
}

// related runs Relate for every row, with names of commits for ids. Rows that change
// the repository have one of their own.
func related(t *testing.T, rows []relation) {
	t.Helper()
	common := newRepo(t)
	commonIDs := common.commits(history)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, made := repo{t, common.dir}, commonIDs
			if row.prepare != nil {
				r = newRepo(t)
				made = r.commits(history)
				row.prepare(r, made)
			}
			r.git("checkout", "--quiet", "--detach", made[row.checkout], "--")
			got, err := gitrepo.Relate(context.Background(), r.dir, made.event(row.event))
			made.check(t, got, row.want, err, row.says)
		})
	}
}

// check wants this pair of names, or an error that says this.
func (made ids) check(t *testing.T, got, want gitrepo.Pair, err error, says string) {
	t.Helper()
	if got != made.pair(want) {
		t.Errorf("got %+v, want %+v", made.names(got), want)
	}
	if says != "" {
		refused(t, err, made.text(says))
	} else if err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

func TestRelatePullRequest(t *testing.T) {
	mainIs := func(name string) func(repo, ids) {
		return func(r repo, made ids) { r.git("update-ref", mainHere, made[name]) }
	}
	related(t, []relation{
		// GitHub's merge is checked out.
		{name: "merge of the head", checkout: "merge", event: pullRequest("base", "head", "merge"),
			want: pair("base", "merge")},
		{name: "merge, no GITHUB_SHA", checkout: "merge", event: pullRequest("base", "head", ""),
			want: pair("base", "merge")},
		{name: "merge, main has moved on since the payload", checkout: "mergeTip",
			event: pullRequest("base", "head", "mergeTip"),
			want:  pair("tip", "mergeTip")},
		{name: "merge, the branch lacks the base", checkout: "mergeBehind",
			event: pullRequest("base", "behind", "mergeBehind"),
			want:  pair("base", "mergeBehind")},
		{name: "merge, main of the checkout is newer", checkout: "merge",
			event: withTip(pullRequest("base", "head", "merge")), prepare: mainIs("tip"),
			want: pair("base", "merge")},
		{name: "merge of an earlier head", checkout: "mergeEarly", event: pullRequest("base", "head", "mergeEarly"),
			says: says("pull_request", otherMerge, "mergeEarly", "head")},
		{name: "merge onto a commit that lacks the base", checkout: "mergeStart",
			event: pullRequest("base", "head", "mergeStart"),
			says:  says("pull_request", otherBase, "start", "base")},
		{name: "merge of the base into the head", checkout: "turned", event: pullRequest("base", "head", "turned"),
			says: says("pull_request", otherMerge, "turned", "head")},
		{name: "merge of two heads", checkout: "octopus", event: pullRequest("base", "head", "octopus"),
			says: says("pull_request", otherMerge, "octopus", "head")},
		{name: "no merge", checkout: "squashed", event: pullRequest("base", "head", "squashed"),
			says: says("pull_request", otherMerge, "squashed", "head")},
		{name: "the first commit of a history", checkout: "unrelated", event: pullRequest("base", "head", "unrelated"),
			says: says("pull_request", otherMerge, "unrelated", "head")},
		{name: "merge, the base is not in the checkout", checkout: "merge",
			event: pullRequest(unknown, "head", "merge"),
			says:  lacks(unknown)},

		// The head itself is checked out.
		{name: "head", checkout: "head", event: pullRequest("base", "head", "merge"), want: pair("base", "head")},
		{name: "head, no GITHUB_SHA", checkout: "head", event: pullRequest("base", "head", ""),
			want: pair("base", "head")},
		{name: "head, with main of the checkout", checkout: "head", event: withTip(pullRequest("base", "head", "merge")),
			prepare: mainIs("base"),
			want:    pair("base", "head")},
		{name: "head, main of the checkout is older", checkout: "head", event: withTip(pullRequest("base", "head", "merge")),
			prepare: mainIs("start"),
			want:    pair("base", "head")},
		{name: "head behind its base", checkout: "behind", event: pullRequest("base", "behind", "mergeBehind"),
			says: says("pull_request", behindBase, "behind", "base")},
		{name: "head behind main of the checkout", checkout: "head", event: withTip(pullRequest("base", "head", "merge")),
			prepare: mainIs("tip"),
			says:    says("pull_request", behindBase, "head", "tip")},
		{name: "head, main is not in the checkout", checkout: "head",
			event: withTip(pullRequest("base", "head", "merge")),
			says:  lacks(mainHere)},
		{name: "head, the base is not in the checkout", checkout: "head", event: pullRequest(unknown, "head", "merge"),
			says: lacks(unknown)},
		{name: "head of another history", checkout: "unrelated", event: pullRequest("base", "unrelated", "merge"),
			says: says("pull_request", behindBase, "unrelated", "base")},

		// The pull request's head is a merge. Its author has chosen the first parent.
		{name: "own merge as head", checkout: "own", event: pullRequest("base", "own", "mergeOwn"),
			want: pair("base", "own")},
		{name: "own merge as head, which GITHUB_SHA names", checkout: "own", event: pullRequest("base", "own", "own"),
			want: pair("base", "own")},
		{name: "GitHub's merge of an own merge", checkout: "mergeOwn", event: pullRequest("base", "own", "mergeOwn"),
			want: pair("base", "mergeOwn")},
		{name: "own merge that lacks the base", checkout: "ownBehind", event: pullRequest("base", "ownBehind", "merge"),
			says: says("pull_request", behindBase, "ownBehind", "base")},
		{name: "own merge in the place of GitHub's", checkout: "own", event: pullRequest("base", "head", "merge"),
			says: says("pull_request", otherCommit, "own", "merge", "head")},

		// HEAD is something else.
		{name: "an earlier head", checkout: "early", event: pullRequest("base", "head", "merge"),
			says: says("pull_request", otherCommit, "early", "merge", "head")},
		{name: "an earlier head, no GITHUB_SHA", checkout: "early", event: pullRequest("base", "head", ""),
			says: says("pull_request", otherMerge, "early", "head")},
		{name: "the base", checkout: "base", event: pullRequest("base", "head", "merge"),
			says: says("pull_request", otherCommit, "base", "merge", "head")},
	})
}

func TestRelatePayload(t *testing.T) {
	related(t, []relation{
		{name: "without base", checkout: "merge", event: pullRequest("", "head", "merge"),
			says: says("pull_request", noCommits)},
		{name: "without head", checkout: "merge", event: pullRequest("base", "", "merge"),
			says: says("pull_request", noCommits)},
		{name: "without either", checkout: "merge", event: pullRequest("", "", "merge"),
			says: says("pull_request", noCommits)},
		{name: "merge group without base", checkout: "merge", event: mergeGroup("", "merge", "merge"),
			says: says("merge_group", noCommits)},
		{name: "push without before", checkout: "base", event: push("", "base", "base"), says: says("push", noCommits)},
		{name: "head that is a branch", checkout: "merge", event: pullRequest("base", "main", "merge"),
			says: says("pull_request", noCommits)},
		{name: "head that is HEAD", checkout: "merge", event: pullRequest("base", "HEAD", "merge"),
			says: says("pull_request", noCommits)},
		{name: "base that is a branch", checkout: "merge", event: pullRequest("main", "head", "merge"),
			says: says("pull_request", `the payload names the base "main", which is no commit id`)},
		{name: "base that is an option", checkout: "merge", event: pullRequest("--all", "head", "merge"),
			says: says("pull_request", `the payload names the base "--all", which is no commit id`)},
		{name: "base that is a short id", checkout: "merge", event: pullRequest("0123456789ab", "head", "merge"),
			says: says("pull_request", `the payload names the base "0123456789ab", which is no commit id`)},
		{name: "base in capitals", checkout: "merge", event: pullRequest(strings.Repeat("A", 40), "head", "merge"),
			says: says("pull_request", `the payload names the base "AAAAAAAA`)},
		{name: "base of two lines", checkout: "merge", event: pullRequest(unknown+"\n", "head", "merge"),
			says: says("pull_request", `the payload names the base "`+unknown+`\n", which is no commit id`)},
	})
}

func TestRelatePushAndMergeGroup(t *testing.T) {
	notPushed := "HEAD (%s) is not the commit that was pushed (%s)"
	otherHead := "HEAD (%s) is not the head that the event names (%s)"
	related(t, []relation{
		{name: "push", checkout: "base", event: push("start", "base", "base"), want: pair("start", "base")},
		{name: "push of several commits", checkout: "mergeTip", event: push("start", "mergeTip", "mergeTip"),
			want: pair("start", "mergeTip")},
		{name: "push of a merge: its first parent is not the base", checkout: "merge",
			event: push("start", "merge", "merge"),
			want:  pair("start", "merge")},
		{name: "push, no GITHUB_SHA", checkout: "base", event: push("start", "base", ""), want: pair("start", "base")},
		{name: "push of nothing", checkout: "base", event: push("base", "base", "base"), want: pair("base", "base")},
		{name: "forced push", checkout: "head", event: forced(push("start", "head", "head")),
			says: says("push", wasForced)},
		{name: "forced push that creates its branch", checkout: "head", event: forced(created(push("", "head", "head"))),
			says: says("push", wasForced)},
		{name: "push that creates its branch", checkout: "head", event: created(push("", "head", "head")),
			want: pair("", "head")},
		{name: "push that creates its branch, HEAD is another commit", checkout: "base",
			event: created(push("", "head", "head")),
			says:  says("push", notPushed, "base", "head")},
		{name: "push that creates its branch, HEAD is GITHUB_SHA", checkout: "base",
			event: created(push("", "head", "base")),
			says:  says("push", notPushed, "base", "head")},
		{name: "push that removes its branch", checkout: "base", event: push("base", strings.Repeat("0", 40), ""),
			says: says("push", "HEAD (%s) is not the head that the event names (000000000000)", "base")},
		{name: "what is created is no push", checkout: "head", event: created(pullRequest("", "head", "head")),
			says: says("pull_request", notPushed, "head", "head")},
		{name: "push, before is no ancestor", checkout: "tip", event: push("head", "tip", "tip"),
			says: says("push", behindBase, "tip", "head")},
		{name: "push, before is newer", checkout: "base", event: push("tip", "base", "base"),
			says: says("push", behindBase, "base", "tip")},
		{name: "push, before is not in the checkout", checkout: "tip", event: push(unknown, "tip", "tip"),
			says: lacks(unknown)},
		{name: "push, HEAD is another commit", checkout: "base", event: push("start", "tip", "tip"),
			says: says("push", otherCommit, "base", "tip", "tip")},
		{name: "push, HEAD is another commit, which GITHUB_SHA names", checkout: "tip",
			event: push("start", "base", "tip"),
			says:  says("push", otherHead, "tip", "base")},
		{name: "push, HEAD is a merge of what was pushed", checkout: "merge", event: push("base", "head", "merge"),
			says: says("push", otherHead, "merge", "head")},
		{name: "merge group", checkout: "merge", event: mergeGroup("base", "merge", "merge"),
			want: pair("base", "merge")},
		{name: "merge group, its head is a squashed commit", checkout: "squashed",
			event: mergeGroup("base", "squashed", "squashed"),
			want:  pair("base", "squashed")},
		{name: "merge group, not onto its base", checkout: "merge", event: mergeGroup("tip", "merge", "merge"),
			says: says("merge_group", behindBase, "merge", "tip")},
		{name: "merge group, HEAD is a merge of its head", checkout: "merge",
			event: mergeGroup("base", "head", "merge"),
			says:  says("merge_group", otherHead, "merge", "head")},
		{name: "merge group, HEAD is another commit", checkout: "base", event: mergeGroup("start", "merge", "merge"),
			says: says("merge_group", otherCommit, "base", "merge", "merge")},
	})
}

// What is in a repository by a name that git could take for a commit, or for the
// parents of one, has no effect.
func TestRelateConfusingRepository(t *testing.T) {
	merge, head := pullRequest("base", "head", "merge"), pullRequest("base", "head", "mergeTip")
	// shadow makes refs of a name, all of which are a commit that passes.
	shadow := func(names ...string) func(repo, ids) {
		return func(r repo, made ids) {
			r.git("update-ref", mainHere, made["tip"])
			for _, name := range names {
				r.git("update-ref", name, made["base"])
			}
		}
	}
	// inTree adds files to the commit that is checked out, and so to the working tree.
	// One called like that commit is in the working tree only.
	inTree := func(checkout string, parents []string, names ...string) func(repo, ids) {
		return func(r repo, made ids) {
			r.git("checkout", "--quiet", "--detach", made["base"], "--")
			for _, name := range made.of(names...) {
				r.write(name, made["start"]+"\n")
			}
			r.git("add", "-A")
			made[checkout] = r.commitTree(r.git("write-tree"), checkout, made.of(parents...)...)
			r.git("reset", "--quiet", "--hard")
			r.write(made[checkout], made["start"]+"\n")
		}
	}
	files := []string{"HEAD", "head", "base", "start", "main", "origin"}
	related(t, []relation{
		{name: "files with names of commits, merge", checkout: "merge", event: merge,
			prepare: inTree("merge", []string{"base", "head"}, files...),
			want:    pair("base", "merge")},
		{name: "files with names of commits, head", checkout: "head", event: merge,
			prepare: inTree("head", []string{"early"}, files...),
			want:    pair("base", "head")},
		{name: "files with names of commits, head behind", checkout: "behind",
			event:   pullRequest("base", "behind", "mergeBehind"),
			prepare: inTree("behind", []string{"start"}, files...), says: says("pull_request", behindBase, "behind", "base")},

		{name: "tags and branches that shadow main of the checkout", checkout: "head", event: withTip(head),
			prepare: shadow("refs/tags/main", "refs/tags/origin/main", "refs/tags/"+mainHere,
				"refs/heads/origin/main", "refs/heads/"+mainHere),
			says: says("pull_request", behindBase, "head", "tip")},
		{name: "tags and branches called HEAD", checkout: "head", event: merge,
			prepare: shadow("refs/tags/HEAD", "refs/heads/HEAD", "refs/remotes/origin/HEAD"),
			want:    pair("base", "head")},
		{name: "a tag and a branch called like the base's id", checkout: "behind",
			event: pullRequest("base", "behind", "mergeBehind"),
			prepare: func(r repo, made ids) {
				r.git("update-ref", "refs/tags/"+made["base"], made["start"])
				r.git("update-ref", "refs/heads/"+made["base"], made["start"])
			}, says: says("pull_request", behindBase, "behind", "base")},
		{name: "a tag and a branch called like the id of no commit", checkout: "head",
			event: pullRequest(unknown, "head", "merge"),
			prepare: func(r repo, made ids) {
				r.git("update-ref", "refs/tags/"+unknown, made["start"])
				r.git("update-ref", "refs/heads/"+unknown, made["start"])
			}, says: "commit " + unknown},

		{name: "grafts with another base", checkout: "merge", event: merge, want: pair("base", "merge"),
			prepare: func(r repo, made ids) {
				r.write(".git/info/grafts", made.text("{{merge}} {{tip}} {{head}}\n"))
				r.wantParents(made["merge"], made.of("tip", "head")...)
			}},
		{name: "grafts with another head", checkout: "mergeEarly", event: pullRequest("base", "head", "mergeEarly"),
			says: says("pull_request", otherMerge, "mergeEarly", "head"), prepare: func(r repo, made ids) {
				r.write(".git/info/grafts", made.text("{{mergeEarly}} {{base}} {{head}}\n"))
				r.wantParents(made["mergeEarly"], made.of("base", "head")...)
			}},
		{name: "grafts that add the base", checkout: "behind", event: pullRequest("base", "behind", "mergeBehind"),
			says: says("pull_request", behindBase, "behind", "base"), prepare: func(r repo, made ids) {
				r.write(".git/info/grafts", made.text("{{behind}} {{base}}\n"))
				r.wantParents(made["behind"], made["base"])
			}},
		{name: "grafts that take the base away", checkout: "head", event: merge, want: pair("base", "head"),
			prepare: func(r repo, made ids) {
				r.write(".git/info/grafts", made.text("{{early}} {{start}}\n"))
				r.wantParents(made["early"], made["start"])
			}},
		{name: "a replaced merge with another base", checkout: "merge", event: merge, want: pair("base", "merge"),
			prepare: func(r repo, made ids) {
				r.git("replace", "--graft", made["merge"], made["tip"], made["head"])
				r.wantParents(made["merge"], made.of("tip", "head")...)
			}},
		{name: "a replaced merge with another head", checkout: "mergeEarly",
			event: pullRequest("base", "head", "mergeEarly"),
			says:  says("pull_request", otherMerge, "mergeEarly", "head"), prepare: func(r repo, made ids) {
				r.git("replace", made["mergeEarly"], made["merge"])
				r.wantParents(made["mergeEarly"], made.of("base", "head")...)
			}},
		{name: "a replaced head that adds the base", checkout: "behind",
			event: pullRequest("base", "behind", "mergeBehind"),
			says:  says("pull_request", behindBase, "behind", "base"), prepare: func(r repo, made ids) {
				r.git("replace", "--graft", made["behind"], made["base"])
				r.wantParents(made["behind"], made["base"])
			}},
		{name: "a replaced commit that takes the base away", checkout: "head", event: merge, want: pair("base", "head"),
			prepare: func(r repo, made ids) {
				r.git("replace", "--graft", made["early"], made["start"])
				r.wantParents(made["early"], made["start"])
			}},
	})
}

// The environment cannot bring grafts and replaced commits back.
func TestRelateHostileEnvironment(t *testing.T) {
	r := newRepo(t)
	made := r.commits(history)
	r.write("grafts", made.text("{{behind}} {{base}}\n"))
	r.git("update-ref", "refs/other/"+made["behind"], made["head"])
	r.git("checkout", "--quiet", "--detach", made["behind"])
	t.Setenv("GIT_GRAFT_FILE", filepath.Join(r.dir, "grafts"))
	r.wantParents(made["behind"], made["base"])
	t.Setenv("GIT_REPLACE_REF_BASE", "refs/other/")
	_, err := gitrepo.Relate(context.Background(), r.dir, made.event(pullRequest("base", "behind", "mergeBehind")))
	refused(t, err, made.text(says("pull_request", behindBase, "behind", "base")))
}

// From a folder of the checkout, the same commits are compared.
func TestRelateInFolder(t *testing.T) {
	r := newRepo(t)
	made := r.commits(history)
	r.git("checkout", "--quiet", "--detach", made["merge"])
	event := made.event(pullRequest("base", "head", "merge"))
	got, err := gitrepo.Relate(context.Background(), filepath.Join(r.dir, "kernel/tools"), event)
	made.check(t, got, pair("base", "merge"), err, "")
}

// shallowCheckout fetches one commit and checks it out, as actions/checkout does with
// a fetch-depth.
func (r repo) shallowCheckout(commit, depth string) repo {
	r.t.Helper()
	r.git("update-ref", "refs/pull/7/merge", commit)
	clone := repo{r.t, r.t.TempDir()}
	clone.git("init", "--quiet")
	clone.git("fetch", "--quiet", "--depth="+depth, "file://"+r.dir, "refs/pull/7/merge")
	clone.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
	return clone
}

func TestRelateShallow(t *testing.T) {
	r := newRepo(t)
	made := r.commits(history)
	for _, tc := range []struct {
		name, checkout, depth string
		event                 gitrepo.Event
		want                  gitrepo.Pair
		says                  string
	}{
		{"merge and its parents", "merge", "2", pullRequest("base", "head", "merge"), pair("base", "merge"), ""},
		{"merge, the payload's base is older", "mergeTip", "2", pullRequest("start", "head", "mergeTip"), gitrepo.Pair{}, "fetch-depth: 0"},
		{"head", "head", "1", pullRequest("base", "head", "merge"), gitrepo.Pair{}, "fetch-depth: 0"},
		{"head and what leads to its base", "head", "3", pullRequest("base", "head", "merge"), pair("base", "head"), ""},
		{"push", "base", "1", push("start", "base", "base"), gitrepo.Pair{}, "fetch-depth: 0"},
		{"push and the commit before it", "base", "2", push("start", "base", "base"), pair("start", "base"), ""},
		{"push that creates its branch", "base", "1", created(push("", "base", "base")), pair("", "base"), ""},
		{"merge group", "merge", "1", mergeGroup("base", "merge", "merge"), gitrepo.Pair{}, "fetch-depth: 0"},
	} {
		t.Run(tc.name+", depth "+tc.depth, func(t *testing.T) {
			clone := r.shallowCheckout(made[tc.checkout], tc.depth)
			got, err := gitrepo.Relate(context.Background(), clone.dir, made.event(tc.event))
			made.check(t, got, tc.want, err, tc.says)
		})
	}
}

func TestAncestor(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	made := r.commits(history)
	for _, tc := range []struct {
		old, commit string
		want        bool
	}{
		{"base", "base", true},
		{"base", "tip", true},
		{"start", "mergeTip", true},
		{"early", "mergeTip", true}, // by a second parent
		{"tip", "base", false},
		{"tip", "head", false},
		{"head", "mergeEarly", false},
		{"start", "unrelated", false},
		{"unrelated", "start", false},
	} {
		if got, err := gitrepo.Ancestor(ctx, r.dir, made[tc.old], made[tc.commit]); err != nil || got != tc.want {
			t.Errorf("%s in the history of %s: got %v, %v, want %v", tc.old, tc.commit, got, err, tc.want)
		}
	}
	tree := r.git("rev-parse", "HEAD^{tree}")
	for _, tc := range []struct{ name, old, commit, says string }{
		{"the older one is unknown", unknown, made["base"], lacks(unknown)},
		{"the newer one is unknown", made["base"], unknown,
			made.text("git cannot relate the commits {base} and 111111111111: fatal: bad object")},
		{"the older one is a tree", tree, made["base"], "commit " + tree},
		{"the older one is no revision", "--all", made["base"], `"--all" is no commit`},
	} {
		got, err := gitrepo.Ancestor(ctx, r.dir, tc.old, tc.commit)
		if refused(t, err, tc.says); got {
			t.Errorf("%s: got true, want false", tc.name)
		}
	}
}

func TestFullRevision(t *testing.T) {
	id := strings.Repeat("a", 40)
	for revision, want := range map[string]bool{
		id: true, strings.Repeat("0", 64): true,
		"refs/heads/main": true, mainHere: true, "refs/tags/v1": true, "refs/pull/7/merge": true,
		"HEAD": true, "HEAD~1": true, "HEAD^1~2": true,
		"": false, "main": false, "HEAD:a": false, "HEAD@{1}": false, "HEAD..HEAD": false, "head": false, "v1": false, "origin/main": false, "heads/main": false, "refs": false,
		"tags/refs/heads/main": false, "Refs/heads/main": false, " " + mainHere: false,
		id[1:]: false, id + "a": false, strings.ToUpper(id): false, id + "\n": false, id + "~1": false,
	} {
		if got := gitrepo.FullRevision(revision); got != want {
			t.Errorf("%q: got %v, want %v", revision, got, want)
		}
	}
}

// A short name is what the repository makes of it; a full one is one ref.
func TestShadowedNames(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	made := r.commits(history)
	for ref, name := range map[string]string{
		"refs/heads/release": "base", mainHere: "base",
		"refs/tags/release": "forged", "refs/tags/origin/main": "forged", "refs/heads/origin/main": "forged",
		"refs/tags/refs/heads/release": "forged", "refs/heads/" + mainHere: "forged", "refs/tags/" + mainHere: "forged",
	} {
		r.git("update-ref", ref, made[name])
	}
	for revision, want := range map[string]string{
		"release": "forged", "refs/heads/release": "base", "refs/tags/release": "forged",
		"origin/main": "forged", mainHere: "base",
	} {
		if got, err := gitrepo.Commit(ctx, r.dir, revision); err != nil || got != made[want] {
			t.Errorf("%s: got %s, %v, want %s (%s)", revision, got, err, made[want], want)
		}
	}
}

func TestHas(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	made := r.commits(history)
	r.git("update-ref", mainHere, made["base"])
	r.git("update-ref", "refs/remotes/origin/release/1.x", made["base"])
	r.git("update-ref", "refs/tags/v1", made["base"])
	r.git("update-ref", "refs/tags/packed", made["base"])
	r.git("pack-refs", "--all")
	for _, name := range []string{"topic", "next"} {
		r.git("update-ref", "refs/tags/origin/"+name, made["base"])
		r.git("update-ref", "refs/tags/refs/remotes/origin/"+name, made["base"])
	}
	for ref, want := range map[string]bool{
		mainHere: true, "refs/heads/main": true, "refs/remotes/origin/release/1.x": true,
		"refs/tags/v1": true, "refs/tags/packed": true, "refs/tags/origin/topic": true,
		"main": false, "origin/main": false, "v1": false, "HEAD": false, made["base"]: false,
		"refs/remotes/origin/none": false, "refs/remotes/origin/topic": false, "refs/remotes/origin/next": false,
		"refs/remotes/origin": false, "refs/remotes/origin/": false, "refs/remotes/origin/release": false,
		"refs/remotes/origin/*": false, "refs/heads/m*": false, "refs/remotes/origin/mai?": false,
		"refs/remotes/origin/[m]ain": false, "--all": false, "--format=refs/heads/main": false,
	} {
		for _, dir := range []string{r.dir, filepath.Join(r.dir, "kernel")} {
			if got, err := gitrepo.Has(ctx, dir, ref); err != nil || got != want {
				t.Errorf("%q, in %s: got %v, %v, want %v", ref, dir, got, err, want)
			}
		}
	}
	_, err := gitrepo.Has(ctx, t.TempDir(), mainHere)
	refused(t, err, "git cannot look for "+mainHere+": fatal: not a git repository")
}

// A repository that git cannot read is an error of git. It never means that there is
// no such commit or no such relation.
func TestRelateBrokenRepository(t *testing.T) {
	merge := pullRequest("base", "head", "merge")
	for _, tc := range []struct {
		name, checkout  string
		event           gitrepo.Event
		removed, spoilt string // a commit
		says            string
	}{
		{"the commit of HEAD is spoilt", "merge", merge, "", "merge", "git cannot look up commit HEAD: error: inflate"},
		{"the commit of HEAD is missing", "merge", merge, "merge", "", lacks("HEAD")},
		{"the first parent of the merge is spoilt", "merge", merge, "", "base", "{{base}}"},
		{"the first parent of the merge is missing", "merge", merge, "base", "", "{{base}}"},
		{"the second parent of the merge is spoilt", "merge", merge, "", "head", "{{head}}"},
		{"the second parent of the merge is missing", "merge", merge, "head", "", "{{head}}"},
		{"the base is spoilt", "head", merge, "", "base", "git cannot look up commit {{base}}: error: inflate"},
		{"the base is missing", "head", merge, "base", "", lacks("{{base}}")},
		{"a commit between base and head is spoilt", "head", merge, "", "early",
			"git cannot relate the commits {base} and {head}"},
		{"the base of a push is spoilt", "base", push("start", "base", "base"), "", "start",
			"git cannot look up commit {{start}}: error: inflate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRepo(t)
			made := r.commits(history)
			r.git("checkout", "--quiet", "--detach", made[tc.checkout])
			if tc.removed != "" {
				r.remove(made[tc.removed])
			}
			if tc.spoilt != "" {
				r.spoil(made[tc.spoilt])
			}
			got, err := gitrepo.Relate(context.Background(), r.dir, made.event(tc.event))
			made.check(t, got, gitrepo.Pair{}, err, tc.says)
		})
	}
	// It is no repository.
	r := newRepo(t)
	made := r.commits(history)
	r.write(".git/HEAD", "spoilt")
	got, err := gitrepo.Relate(context.Background(), r.dir, made.event(merge))
	made.check(t, got, gitrepo.Pair{}, err, "not a git repository")
}

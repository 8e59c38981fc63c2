package published_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// The runs of these tests: this one, an earlier one, and those of another repository
// and of another server.
const (
	thisRun    = "https://github.example/acme/kernel/actions/runs/7"
	earlierRun = "https://github.example/acme/kernel/actions/runs/5"
	otherRun   = "https://github.example/mallory/kernel/actions/runs/5"
	otherHost  = "https://evil.example/acme/kernel/actions/runs/5"
)

var judgedAt = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// made says that a run made a move some time ago.
func made(ago time.Duration, run string) record.By {
	return record.By{At: judgedAt.Add(-ago), Actor: "ann", Reason: "the yearly rotation", RunURL: run}
}

// publishes is the move that publishes signer b, which is to replace a. change, if
// set, makes it another one.
func publishes(by record.By, change func(m *record.Open)) *record.Open {
	m := &record.Open{
		By: by, Signer: keyed("b", 2), Replaces: pointer(keyed("a", 1)),
		Policy:     record.Policy{Overlap: record.Duration(48 * time.Hour)},
		Possession: &pubkey.Possession{Challenge: "c", Digest: "d", Signature: "s"},
	}
	m.Signer.KMSKeyARN, m.Replaces.KMSKeyARN = "arn:aws:kms:eu-west-1:111122223333:key/b", "arn:aws:kms:eu-west-1:111122223333:key/a"
	if change != nil {
		change(m)
	}
	return m
}

// archives is the move that archives signer a.
func archives(by record.By, change func(m *record.Retire)) *record.Retire {
	m := &record.Retire{
		By: by, Signer: keyed("a", 1), Boundary: record.Mark{Position: 1216, Digest: chain.Digest{1}},
		Cutover: record.Cutover{Position: 1190}, PublishedIn: 3,
		Gates: []record.Gate{{ID: "G1", Name: "the overlap has passed", State: record.Passed, Detail: "48h0m0s"}},
		Evidence: record.Evidence{Events: 1236, Head: strings.Repeat("ab", 32), RegistrySHA256: strings.Repeat("cd", 32),
			ArchiveSHA256: strings.Repeat("ef", 32), Checkpoint: "1200:" + strings.Repeat("ab", 32)},
	}
	if change != nil {
		change(m)
	}
	return m
}

// Of the move that an earlier run has put into the branch, this run takes over the time,
// and the link of that run, if it is the same move; and nothing else, whatever the
// branch holds, which is anybody's to write.
func TestEarlier(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	open, retire := publishes(made(0, thisRun), nil), archives(made(0, thisRun), nil)
	merged := publishes(made(90*day, earlierRun), nil) // the move before a retirement
	for name, tc := range map[string]struct {
		mine   record.Move   // of this run
		branch []record.Move // of the record in the branch; the last one counts
		age    time.Duration
		taken  time.Duration // how long ago this run's move is said to be made; 0 where nothing is taken over
		link   string        // of this run's move afterwards; thisRun unless set
	}{
		"the same move":                    {open, []record.Move{publishes(made(hour, earlierRun), nil)}, 0, hour, earlierRun},
		"the same move, by the same run":   {open, []record.Move{publishes(made(hour, thisRun), nil)}, 0, hour, thisRun},
		"the same move, years ago":         {open, []record.Move{publishes(made(1000*day, earlierRun), nil)}, 0, 1000 * day, earlierRun},
		"the same move, as old as it may":  {retire, []record.Move{merged, archives(made(day, earlierRun), nil)}, day, day, earlierRun},
		"the same move, older than it may": {retire, []record.Move{merged, archives(made(day+time.Second, earlierRun), nil)}, day, 0, ""},
		"the same move, in the future":     {open, []record.Move{publishes(made(-time.Second, earlierRun), nil)}, 0, 0, ""},

		"another actor":   {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) { m.Actor = "mallory" })}, 0, 0, ""},
		"another reason":  {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) { m.Reason = "why not" })}, 0, 0, ""},
		"another subject": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) { m.Signer = keyed("c", 3) })}, 0, 0, ""},
		"another key of the subject": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Signer.Fingerprint = key(3).Fingerprint()
		})}, 0, 0, ""},
		"another KMS key of the subject": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Signer.KMSKeyARN = "arn:aws:kms:eu-west-1:999999999999:key/b"
		})}, 0, 0, ""},
		"another kind of move": {open, []record.Move{&record.Promote{By: made(hour, earlierRun), Signer: open.Signer,
			Replaces: *open.Replaces, Policy: open.Policy}}, 0, 0, ""},
		"a move that follows the same one": {open, []record.Move{publishes(made(2*hour, earlierRun), nil),
			&record.RollBack{By: made(hour, earlierRun), Signer: *open.Replaces}}, 0, 0, ""},
		"the same move, and not the last one": {retire, []record.Move{merged, archives(made(2*hour, earlierRun), nil),
			&record.RollBack{By: made(hour, earlierRun), Signer: retire.Signer}}, 0, 0, ""},

		"a run of another repository": {open, []record.Move{publishes(made(hour, otherRun), nil)}, 0, hour, thisRun},
		"a run of another server":     {open, []record.Move{publishes(made(hour, otherHost), nil)}, 0, hour, thisRun},
		"a link that is no run":       {open, []record.Move{publishes(made(hour, earlierRun+"/../../evil"), nil)}, 0, 0, ""},
		"a link with more behind it":  {open, []record.Move{publishes(made(hour, earlierRun+"?x"), nil)}, 0, 0, ""},
		"a run without a number":      {open, []record.Move{publishes(made(hour, strings.TrimSuffix(earlierRun, "5")), nil)}, 0, 0, ""},
		"no link":                     {open, []record.Move{publishes(made(hour, ""), nil)}, 0, hour, thisRun},
		"a link with a script":        {open, []record.Move{publishes(made(hour, "javascript:alert(1)"), nil)}, 0, 0, ""},

		"another policy": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Policy = record.Policy{Overlap: record.Duration(hour), ShortAllowed: true}
		})}, 0, hour, earlierRun},
		"another proof": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Possession = &pubkey.Possession{Challenge: "x", Digest: "y", Signature: "z"}
		})}, 0, hour, earlierRun},
		"another signer to replace": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Replaces = pointer(keyed("z", 9))
		})}, 0, hour, earlierRun},
		"another KMS key to replace": {open, []record.Move{publishes(made(hour, earlierRun), func(m *record.Open) {
			m.Replaces.KMSKeyARN = "arn:aws:kms:eu-west-1:999999999999:key/a"
		})}, 0, hour, earlierRun},
		"other gate texts": {retire, []record.Move{merged, archives(made(hour, earlierRun), func(m *record.Retire) {
			m.Gates = []record.Gate{{ID: "G1", Name: "all is well", State: record.Passed, Detail: "trust me"}}
		})}, day, hour, earlierRun},
		"another boundary": {retire, []record.Move{merged, archives(made(hour, earlierRun), func(m *record.Retire) {
			m.Boundary = record.Mark{Position: 9999, Digest: chain.Digest{9}}
		})}, day, hour, earlierRun},
		"another cut-over": {retire, []record.Move{merged, archives(made(hour, earlierRun), func(m *record.Retire) {
			m.Cutover.Position, m.PublishedIn = 1, 99
		})}, day, hour, earlierRun},
		"other evidence": {retire, []record.Move{merged, archives(made(hour, earlierRun), func(m *record.Retire) {
			m.Evidence = record.Evidence{Events: 1, Head: strings.Repeat("0", 64), RegistrySHA256: strings.Repeat("1", 64),
				Checkpoint: "1:" + strings.Repeat("0", 64), ReportSHA256: strings.Repeat("2", 64)}
		})}, day, hour, earlierRun},
	} {
		t.Run(name, func(t *testing.T) {
			g, repo := serve(t, map[string]string{"kernel/tools/signers.json": registryOf(entry("a", 1))})
			s, err := published.Base(ctx, repo, "", paths, false)
			if err != nil {
				t.Fatal(err)
			}
			branch := record.Record{ID: "rotate-b", Moves: tc.branch}
			c := proposed(t, g, repo, "one", map[string][]byte{paths.Record("rotate-b"): branch.JSON()})
			mine := again(t, tc.mine)
			was, err := s.Earlier(ctx, repo, &c, "rotate-b", mine, tc.age, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := again(t, tc.mine)
			if tc.taken != 0 {
				want.Made().At, want.Made().RunURL = judgedAt.Add(-tc.taken), tc.link
			}
			if got, want := text(mine), text(want); got != want {
				t.Errorf("got the move %s, want %s", got, want)
			}
			switch {
			case tc.taken == 0 && was != nil:
				t.Errorf("got the branch's move %s, want none", text(was))
			case tc.taken != 0 && (was == nil || text(was) != text(tc.branch[len(tc.branch)-1])):
				t.Errorf("got the branch's move %v, want %s", was, text(tc.branch[len(tc.branch)-1]))
			}
			if tip := g.Head(c.Branch()).ID; c.Tip != tip {
				t.Errorf("got tip %q, want %q", c.Tip, tip)
			}
		})
	}
}

// text is a move as a file has it.
func text(m record.Move) string { return string(record.Record{Moves: []record.Move{m}}.JSON()) }

// again is a copy of a move.
func again(t *testing.T, m record.Move) record.Move {
	t.Helper()
	var r record.Record
	if err := r.UnmarshalJSON([]byte(text(m))); err != nil {
		t.Fatal(err)
	}
	return r.Moves[0]
}

// proposed brings about the pull request of an earlier run, and returns the change as
// the next run begins it.
func proposed(t *testing.T, g *githubtest.Server, repo *pullrequest.Repo, key string, files map[string][]byte) pullrequest.Change {
	t.Helper()
	c := pullrequest.Change{Operation: "add-signer", Key: key, Base: "main", BaseCommit: g.Head("main").ID}
	full := c
	full.Title, full.Message, full.Body, full.Files = "t", "m", "b", files
	if _, err := repo.Ensure(ctx, full); err != nil {
		t.Fatal(err)
	}
	return c
}

// What is in the branch counts where it is a commit of this tool that changes its own
// files alone; and where the record in it can be read.
func TestEarlierReadsWhatThisToolHasWritten(t *testing.T) {
	move := publishes(made(time.Hour, earlierRun), nil)
	good := record.Record{ID: "rotate-b", Moves: []record.Move{move}}.JSON()
	path := paths.Record("rotate-b")
	for name, tc := range map[string]struct {
		files map[string][]byte // of the branch; nil: there is none
		push  func(g *githubtest.Server, branch string) error
		taken bool
	}{
		"no branch":                 {nil, nil, false},
		"the record":                {map[string][]byte{path: good}, nil, true},
		"record and registry":       {map[string][]byte{path: good, paths.Registry: []byte("[]")}, nil, true},
		"record and archive":        {map[string][]byte{path: good, paths.Archive: []byte("{}")}, nil, true},
		"a file of others":          {map[string][]byte{path: good, "README.md": []byte("x")}, nil, false},
		"the record of another one": {map[string][]byte{path: good, paths.Record("rotate-c"): good}, nil, false},
		"no record":                 {map[string][]byte{paths.Registry: []byte("[]")}, nil, false},
		"no JSON":                   {map[string][]byte{path: []byte("{")}, nil, false},
		"no move":                   {map[string][]byte{path: []byte(`{"version": 1, "id": "rotate-b", "moves": []}`)}, nil, false},
		"another layout":            {map[string][]byte{path: []byte(strings.ReplaceAll(string(good), "\n", ""))}, nil, false},
		"a person's commit on it": {map[string][]byte{path: good}, func(g *githubtest.Server, branch string) error {
			_, err := g.CommitFile(branch, "README.md", "x", "mallory")
			return err
		}, false},
		"a link in the record's place": {map[string][]byte{path: good}, func(g *githubtest.Server, branch string) error {
			_, err := g.CommitLink(branch, path, "../../README.md", "mallory")
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, repo := serve(t, map[string]string{"kernel/tools/signers.json": registryOf(entry("a", 1)), "README.md": "#"})
			s, err := published.Base(ctx, repo, "", paths, false)
			if err != nil {
				t.Fatal(err)
			}
			c := pullrequest.Change{Operation: "add-signer", Key: "one", Base: "main", BaseCommit: s.Commit}
			if tc.files != nil {
				c = proposed(t, g, repo, "one", tc.files)
			}
			if tc.push != nil {
				if err := tc.push(g, c.Branch()); err != nil {
					t.Fatal(err)
				}
			}
			mine := publishes(made(0, thisRun), nil)
			was, err := s.Earlier(ctx, repo, &c, "rotate-b", mine, 0, nil)
			if taken := mine.At.Equal(move.At); err != nil || taken != tc.taken || (was != nil) != tc.taken {
				t.Errorf("got %v, a move of %s, %v; want it taken over: %v", was, mine.At, err, tc.taken)
			}
			if tip := g.Head(c.Branch()).ID; c.Tip != tip {
				t.Errorf("got tip %q, want %q", c.Tip, tip)
			}
		})
	}
}

// A branch that cannot be read is an error, and the move stays as it is.
func TestEarlierWithoutGitHub(t *testing.T) {
	g, repo := serve(t, map[string]string{"kernel/tools/signers.json": registryOf(entry("a", 1))})
	s, err := published.Base(ctx, repo, "", paths, false)
	if err != nil {
		t.Fatal(err)
	}
	branch := record.Record{ID: "rotate-b", Moves: []record.Move{publishes(made(time.Hour, earlierRun), nil)}}
	c := proposed(t, g, repo, "one", map[string][]byte{paths.Record("rotate-b"): branch.JSON()})
	g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
	})
	mine := publishes(made(0, thisRun), nil)
	was, err := s.Earlier(ctx, repo, &c, "rotate-b", mine, 0, nil)
	if got, want := text(mine), text(publishes(made(0, thisRun), nil)); err == nil || exit(err) != 3 || was != nil || got != want {
		t.Errorf("got %v, %v and the move %s; want an error and %s", was, err, got, want)
	}
}

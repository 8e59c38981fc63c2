package actions_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// moment is what can be seen of a history from outside after a step, and what
// people remember.
type moment struct {
	at         time.Time
	main       string // commit
	signers    []entry
	archived   []retired
	rotations  []rotationRecord
	events     []written
	report     report // verify-chain's, of the events with what main publishes
	checkpoint mark
	open       []string          // operations with an open pull request
	keys       map[string]string // KMS key → state
	uses       map[string][]time.Time
	declared   map[string][]int // signer id → positions up to which people said that it is trusted
	trusted    map[string]int   // key → the last position at which it must verify
}

type entry struct {
	ID                             string `json:"signerId"`
	Algorithm, PublicKey, KMSKeyID string
}

type retired struct {
	Entry     entry
	RetiredAt time.Time
	State     string
	Boundary  struct{ Position int }
}

type rotationRecord struct {
	ID    string
	Moves []struct {
		Move     string
		Signer   struct{ ID string }
		Replaces *struct{ ID string }
	}
}

// replacing reports whether a signer replaces another one, and nothing has ended that.
func (r rotationRecord) replacing() bool {
	return len(r.Moves) > 0 && r.Moves[len(r.Moves)-1].Replaces != nil
}

// retired reports whether the last move has archived the signer that was replaced.
func (r rotationRecord) retired() bool {
	n := len(r.Moves)
	return n > 1 && r.Moves[n-1].Move == "retire" && r.Moves[n-2].Replaces != nil
}

type written struct{ key, digest string }

type mark struct {
	Count int
	Head  string
}

type report struct {
	Verdict       string
	Events        int
	FindingsTotal int
	Findings      []struct {
		Rule     string
		Position int
	}
}

// all are the signers of registry and archive.
func (m moment) all() []entry {
	all := slices.Clone(m.signers)
	for _, r := range m.archived {
		all = append(all, r.Entry)
	}
	return all
}

func (m moment) active(arn string) bool {
	return slices.ContainsFunc(m.signers, func(s entry) bool { return s.KMSKeyID == arn })
}

// ledger says up to which position each key must verify: while its signer is
// registered, all that it has signed; afterwards, what it had signed by then,
// unless people declared less.
func (m moment) ledger(was moment) map[string]int {
	trusted := maps.Clone(was.trusted)
	for _, s := range m.signers {
		trusted[s.KMSKeyID] = len(m.events)
	}
	for _, r := range m.archived[len(was.archived):] {
		if r.State == "compromised" {
			trusted[r.Entry.KMSKeyID] = r.Boundary.Position
		}
	}
	return trusted
}

// laws are what a user relies on at every moment. Each says how the step from
// one moment to the next has broken it, "" if it has not.
var laws = []struct {
	name   string
	broken func(was, is moment) string
}{
	{"every genuine event verifies, and nothing else", verifies},
	{"never zero signers", someSigner},
	{"no key returns under another id", oneIdentity},
	{"a declared boundary is the declared one, for ever", declaredBoundary},
	{"a key is disabled only after its removal merged and it is quiet", disabledLast},
	{"checkpoints never fall", checkpointsGrow},
	{"at most one open pull request an operation", oneProposal},
}

// verifies: verify-chain names exactly the events that a signer has signed after
// it left, or beyond what was declared.
func verifies(_, is moment) string {
	var want, got []int
	for i, e := range is.events {
		if !is.active(e.key) && i+1 > is.trusted[e.key] {
			want = append(want, i+1)
		}
	}
	for _, f := range is.report.Findings {
		switch f.Rule {
		case "retired-signer-used":
			got = append(got, f.Position)
		case "timestamp-order":
		default:
			return fmt.Sprintf("finding %s at position %d", f.Rule, f.Position)
		}
	}
	slices.Sort(got)
	verdict := "verified"
	if len(want) > 0 {
		verdict = "failed"
	}
	if !slices.Equal(got, want) || is.report.Verdict != verdict || is.report.Events != len(is.events) {
		return fmt.Sprintf("verify-chain says %s of %d events and finds alarms at %v; there are %d events, and alarms are due at %v", is.report.Verdict, is.report.Events, got, len(is.events), want)
	}
	return ""
}

func someSigner(was, is moment) string {
	if len(is.signers) == 0 {
		return "main publishes no signer"
	}
	return ""
}

// oneIdentity: an id stands for one key for ever, a key for one id.
func oneIdentity(was, is moment) string {
	ids, keys := map[string]string{}, map[string]string{}
	for _, s := range append(was.all(), is.all()...) {
		name := s.KMSKeyID + s.PublicKey
		if s.PublicKey != "" {
			name = s.PublicKey
		}
		if id, known := ids[name]; known && id != s.ID {
			return fmt.Sprintf("the key of %s is the key of %s, too", s.ID, id)
		}
		if key, known := keys[s.ID]; known && key != name {
			return fmt.Sprintf("%s has another key than it had", s.ID)
		}
		ids[name], keys[s.ID] = s.ID, name
	}
	for _, s := range was.all() {
		if !slices.ContainsFunc(is.all(), func(e entry) bool { return e.ID == s.ID }) {
			return s.ID + " is forgotten"
		}
	}
	return ""
}

// declaredBoundary: a compromised signer counts up to what a person has said,
// and never comes back.
func declaredBoundary(_, is moment) string {
	for _, r := range is.archived {
		if r.State != "compromised" {
			continue
		}
		if is.active(r.Entry.KMSKeyID) {
			return r.Entry.ID + " is compromised, and registered"
		}
		if !slices.Contains(is.declared[r.Entry.ID], r.Boundary.Position) {
			return fmt.Sprintf("%s counts up to %d, people said %v", r.Entry.ID, r.Boundary.Position, is.declared[r.Entry.ID])
		}
	}
	return ""
}

// trailDelay is how late CloudTrail may know of a use.
const trailDelay = 20 * time.Minute

func disabledLast(was, is moment) string {
	for arn, state := range is.keys {
		if state != "Disabled" || was.keys[arn] == "Disabled" {
			continue
		}
		var last retired
		for _, r := range is.archived {
			if r.Entry.KMSKeyID == arn {
				last = r
			}
		}
		switch {
		case last.State == "" || was.active(arn):
			return arn + " is disabled, and its signer is not archived"
		case last.Entry.Algorithm == "hmac-sha256":
			return arn + " is disabled, and without it nothing that it signed can be verified"
		case last.State == "compromised":
			continue
		}
		for _, used := range is.uses[arn] {
			if used.After(last.RetiredAt.Add(time.Minute)) && used.Before(was.at.Add(-trailDelay)) {
				return fmt.Sprintf("%s is disabled at %s, and was used at %s, after its signer was retired", arn, is.at, used)
			}
		}
	}
	return ""
}

// checkpointsGrow: the count never falls, the same count has the same head, and
// the chain passes through it.
func checkpointsGrow(was, is moment) string {
	before, now := was.checkpoint, is.checkpoint
	switch {
	case now.Count < before.Count || now.Count == before.Count && now.Head != before.Head:
		return fmt.Sprintf("%v follows %v", now, before)
	case now.Count > len(is.events) || now.Count > 0 && is.events[now.Count-1].digest != now.Head:
		return fmt.Sprintf("%v is not in the chain", now)
	}
	return ""
}

func oneProposal(_, is moment) string {
	for i, what := range is.open {
		if slices.Contains(is.open[:i], what) {
			return "two are open that " + what
		}
	}
	return ""
}

// record finds the rotation that a commit is about.
var record = regexp.MustCompile(`rotations/([^ ]+)\.json|Rotation ([^ :]+):`)

// operation is what a pull request does: to which signer, of which rotation, and
// with which key, if it publishes one. One id proposed with two keys are two.
func operation(branch, title, message, body string) string {
	kind := strings.Split(branch, "/")[1]
	what := kind + ": " + title
	if m := record.FindStringSubmatch(message); m != nil {
		what += " of rotation " + m[1] + m[2]
	}
	if kind == "add-signer" {
		what += " with " + kmsKey.FindString(body)
	}
	return what
}

var kmsKey = regexp.MustCompile(`arn:aws:kms:[a-z0-9:/-]+`)

// TestLaws breaks each law on purpose: it says so, and none is broken before.
func TestLaws(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	world := func() (was, is *moment) {
		m := func() *moment {
			return &moment{
				at:         noon,
				signers:    []entry{{"s1", "ed25519", "PEM 1", "key/1"}, {"s2", "hmac-sha256", "", "key/2"}},
				archived:   []retired{{Entry: entry{"s0", "ed25519", "PEM 0", "key/0"}, RetiredAt: noon.Add(-time.Hour), State: "retired"}},
				events:     []written{{"key/0", "d1"}, {"key/0", "d2"}, {"key/1", "d3"}, {"key/2", "d4"}},
				report:     report{Verdict: "verified", Events: 4},
				checkpoint: mark{3, "d3"},
				open:       []string{"finalize: Archive audit signer s1", "rollback: Go back to audit signer s1"},
				keys:       map[string]string{"key/0": "Enabled", "key/1": "Enabled", "key/2": "Enabled"},
				uses:       map[string][]time.Time{"key/0": {noon.Add(-50 * time.Hour), noon.Add(-10 * time.Minute)}},
				declared:   map[string][]int{"s0": {2}},
				trusted:    map[string]int{"key/0": 2, "key/1": 4, "key/2": 4},
			}
		}
		return m(), m()
	}
	alarm := func(rule string, position int) report {
		r := report{Verdict: "failed", Events: 4}
		r.Findings = append(r.Findings, struct {
			Rule     string
			Position int
		}{rule, position})
		return r
	}
	for name, c := range map[string]struct {
		law func(was, is moment) string
		do  func(was, is *moment)
	}{
		"a genuine event is an alarm":          {verifies, func(_, is *moment) { is.report = alarm("retired-signer-used", 2) }},
		"a genuine event does not verify":      {verifies, func(_, is *moment) { is.report = alarm("bad-signature", 3) }},
		"an event is not read":                 {verifies, func(_, is *moment) { is.report.Events = 3 }},
		"an event beyond the boundary is none": {verifies, func(_, is *moment) { is.trusted["key/0"] = 1 }},
		"a failure that names nothing":         {verifies, func(_, is *moment) { is.report.Verdict = "failed" }},
		"no verdict":                           {verifies, func(_, is *moment) { is.report.Verdict = "undetermined" }},
		"a registry without a signer":          {someSigner, func(_, is *moment) { is.signers = nil }},
		"a key under another id":               {oneIdentity, func(_, is *moment) { is.signers = append(is.signers, entry{"s3", "ed25519", "PEM 1", "key/3"}) }},
		"a retired key under another id":       {oneIdentity, func(_, is *moment) { is.signers = append(is.signers, entry{"s3", "ed25519", "PEM 0", "key/3"}) }},
		"an HMAC key under another id":         {oneIdentity, func(_, is *moment) { is.signers = append(is.signers, entry{"s3", "hmac-sha256", "", "key/2"}) }},
		"an id with another key":               {oneIdentity, func(_, is *moment) { is.signers[0].PublicKey = "PEM 3" }},
		"a signer leaves without a trace":      {oneIdentity, func(_, is *moment) { is.signers = is.signers[1:] }},
		"an archived one, too":                 {oneIdentity, func(_, is *moment) { is.archived = nil }},
		"a boundary that nobody has declared":  {declaredBoundary, func(_, is *moment) { is.archived[0].State, is.archived[0].Boundary.Position = "compromised", 1 }},
		"a compromised signer comes back": {declaredBoundary, func(_, is *moment) {
			is.archived[0].State, is.archived[0].Boundary.Position = "compromised", 2
			is.signers = append(is.signers, is.archived[0].Entry)
		}},
		"a registered signer's key is disabled": {disabledLast, func(_, is *moment) { is.keys["key/1"] = "Disabled" }},
		"one that was registered a moment ago": {disabledLast, func(was, is *moment) {
			was.signers, is.keys["key/0"] = append(was.signers, is.archived[0].Entry), "Disabled"
		}},
		"a key of nobody is disabled": {disabledLast, func(_, is *moment) { is.keys["key/9"] = "Disabled" }},
		"an HMAC key is disabled":     {disabledLast, func(_, is *moment) { is.archived[0].Entry.Algorithm, is.keys["key/0"] = "hmac-sha256", "Disabled" }},
		"a key in use is disabled": {disabledLast, func(_, is *moment) {
			is.uses["key/0"], is.keys["key/0"] = []time.Time{noon.Add(-30 * time.Minute)}, "Disabled"
		}},
		"a checkpoint counts less":             {checkpointsGrow, func(_, is *moment) { is.checkpoint = mark{2, "d2"} }},
		"as much, under another head":          {checkpointsGrow, func(_, is *moment) { is.checkpoint.Head = "d4" }},
		"more, under a head that is not there": {checkpointsGrow, func(_, is *moment) { is.checkpoint = mark{4, "d3"} }},
		"more than there is":                   {checkpointsGrow, func(_, is *moment) { is.checkpoint = mark{5, "d5"} }},
		"a pull request twice":                 {oneProposal, func(_, is *moment) { is.open = append(is.open, is.open[0]) }},
	} {
		was, is := world()
		for _, l := range laws {
			if why := l.broken(*was, *is); why != "" {
				t.Fatalf("nothing is wrong, and %s: %s", l.name, why)
			}
		}
		if c.do(was, is); c.law(*was, *is) == "" {
			t.Errorf("%s: the law is silent", name)
		}
	}
	// What nobody could know, and what must be done at once, is allowed.
	for name, do := range map[string]func(was, is *moment){
		"used too lately for CloudTrail": func(_, is *moment) { is.keys["key/0"] = "Disabled" },
		"compromised, and in use": func(_, is *moment) {
			again := is.archived[0] // it had retired before
			again.State, again.Boundary.Position = "compromised", 2
			is.archived, is.keys["key/0"] = append(is.archived, again), "Disabled"
			is.uses["key/0"] = []time.Time{noon.Add(-30 * time.Minute)}
		},
		"a late event, and its alarm": func(_, is *moment) {
			is.events = append(is.events, written{"key/0", "d5"})
			is.report = alarm("retired-signer-used", 5)
			is.report.Events = 5
		},
	} {
		was, is := world()
		do(was, is)
		for _, l := range laws {
			if why := l.broken(*was, *is); why != "" {
				t.Errorf("%s: %s: %s", name, l.name, why)
			}
		}
	}
}

// TestLedger: what must verify is what was signed while the signer was
// registered, and of a compromised one what people say.
func TestLedger(t *testing.T) {
	s := []entry{{ID: "s0", KMSKeyID: "key/0"}, {ID: "s1", KMSKeyID: "key/1"}}
	was := moment{signers: s, events: make([]written, 3), trusted: map[string]int{"key/0": 3}}
	is := moment{signers: s[1:], archived: []retired{{Entry: s[0], State: "retired"}}, events: make([]written, 5)}
	if got := is.ledger(was); got["key/0"] != 3 || got["key/1"] != 5 {
		t.Errorf("retired: %v", got)
	}
	is.archived[0].State, is.archived[0].Boundary.Position = "compromised", 2
	if got := is.ledger(was); got["key/0"] != 2 {
		t.Errorf("compromised: %v", got)
	}
	if was.trusted["key/0"] != 3 {
		t.Error("the past has changed")
	}
}

package audit_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

var sequences = flag.Int("sequences", 2000, "how many random histories TestModel plays")

// steps is the length of a history.
const steps = 50

// TestModel plays random histories of a repository, its chain and its keys:
// people add, merge, close, deploy (where guard-deploy lets them), write, wait,
// finalize, roll back, declare keys stolen and disable them, in any order, each
// step perhaps twice or broken off half-way. After each step what a user relies
// on must hold; see invariants.
func TestModel(t *testing.T) {
	did := map[string]int{}
	for seed := range uint64(*sequences) {
		m := newModel(t, seed)
		for m.step = range steps {
			m.act()
			m.invariants()
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, strings.Join(m.log, "\n"))
			}
		}
		for what, n := range m.did {
			did[what] += n
		}
	}
	for _, what := range slices.Sorted(maps.Keys(did)) {
		t.Logf("%6d %s", did[what], what)
	}
	for _, what := range []string{"merged add", "merged finalize", "merged rollback", "merged compromise", "archived what a rollback left behind", "withdrawn", "disabled a key", "refused by guard-deploy", "refused to merge", "an alarm"} {
		if did[what] == 0 && *sequences >= 500 {
			t.Errorf("it never came to: %s", what)
		}
	}
}

// model is the world of one history.
type model struct {
	*testing.T
	*rand.Rand
	now   time.Time
	step  int
	log   []string
	did   map[string]int
	files rotation.Files // on the default branch
	open  map[string]proposal
	keys  map[string]*secretKey // by signer id
	// writers are the signers that the audited service is deployed with, two
	// while a deployment rolls.
	writers []string
	events  []chain.Event
	signers []string // of the events
	head    []byte
	report  *chain.Report // of the chain as it is, nil after a change
	mark    *checkpoint.Checkpoint
	ids     map[string]string // of every key ever registered, by fingerprint
}

type secretKey struct {
	id       string
	private  ed25519.PrivateKey // nil for an HMAC key
	secret   []byte
	stolen   bool
	disabled bool
}

// proposal is an open pull request: files that it changes, and the base that it
// was made from.
type proposal struct {
	kind         string
	base         rotation.Files
	reg, arch    []byte
	rec          rotation.Record
	compromised  string
	leavesBehind bool
	withdraws    bool
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{T: t, Rand: rand.New(rand.NewPCG(seed, 41)), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		did: map[string]int{}, open: map[string]proposal{}, keys: map[string]*secretKey{}, ids: map[string]string{}}
	k := m.key("s0", seed%3 == 0)
	empty, err := registry.Load("signers.json", []byte(registry.New), "signers.archive.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.files = m.load(empty.Registry.Add(k.entry("initial", m.now)), nil, nil)
	m.writers = []string{"s0"}
	m.write(2)
	return m
}

// key makes a key of its own, the same in each run.
func (m *model) key(id string, hmacKey bool) *secretKey {
	k := &secretKey{id: id}
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", id, m.Uint64()))
	if hmacKey {
		k.secret = seed[:]
	} else {
		k.private = ed25519.NewKeyFromSeed(seed[:])
	}
	m.keys[id] = k
	return k
}

func (k *secretKey) entry(rotationID string, at time.Time) registry.Entry {
	e := registry.Entry{ID: k.id, Algorithm: pubkey.HMACSHA256, KMSKeyID: "arn:aws:kms:eu-west-1:111122223333:key/" + k.id, DeployedAt: at, Rotation: rotationID}
	if k.private != nil {
		e.Algorithm = pubkey.Ed25519
		var err error
		if e.Key, err = pubkey.Parse(base64.StdEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))); err != nil {
			panic(err)
		}
	}
	e.Aliases = []string{e.KMSKeyID}
	return e
}

func (k *secretKey) sign(digest chain.Digest) string {
	var signature []byte
	if k.private != nil {
		signature = ed25519.Sign(k.private, digest[:])
	} else {
		mac := hmac.New(sha256.New, k.secret)
		mac.Write(digest[:])
		signature = mac.Sum(nil)
	}
	return base64.StdEncoding.EncodeToString(signature)
}

func (m *model) load(reg, arch []byte, records []rotation.Record) rotation.Files {
	f, err := registry.Load("signers.json", reg, "signers.archive.json", arch)
	if err != nil {
		m.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
	}
	return rotation.Files{Registry: f.Registry, Archive: f.Archive, Records: records, Dir: "rotations"}
}

func (m *model) say(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%2d ", m.step)+fmt.Sprintf(format, args...))
}

func (m *model) count(what string) { m.did[what]++ }

// write lets the writers append events.
func (m *model) write(n int) {
	for range n {
		m.append(m.writers[m.IntN(len(m.writers))])
	}
}

func (m *model) append(id string) {
	k := m.keys[id]
	if k.disabled {
		return // KMS refuses: the service stores nothing that it cannot sign
	}
	n := len(m.events)
	payload := fmt.Appendf(nil, `{"n":%d}`, n)
	digest := chain.Digest(sha256.Sum256(append(slices.Clone(payload), m.head...)))
	m.now = m.now.Add(time.Second)
	e := chain.Event{Row: int64(n + 1), ID: fmt.Appendf(nil, "e%d", n+1), Payload: payload, Signature: []byte(k.sign(digest)),
		Signer: []byte("arn:aws:kms:eu-west-1:111122223333:key/" + id), CreatedAt: m.now}
	if n > 0 {
		e.Prev = []byte(chain.Digest(m.head).String())
	}
	m.events, m.signers, m.head, m.report = append(m.events, e), append(m.signers, id), digest[:], nil
}

// verify judges the chain under some files.
func (m *model) verify(f rotation.Files) *chain.Report {
	secrets := map[string][]byte{}
	for id, k := range m.keys {
		if k.secret != nil {
			if _, ok := f.Registry.Find(id); ok {
				secrets[id] = k.secret
			} else if _, ok := f.Archive.Find(id); ok {
				secrets[id] = k.secret
			}
		}
	}
	events := func(yield func(chain.Event, error) bool) {
		for _, e := range m.events {
			if !yield(e, nil) {
				return
			}
		}
	}
	r, err := chain.Verify(context.Background(), iter.Seq2[chain.Event, error](events), chain.Options{
		Verifier: trust.New(f.Registry, f.Archive, trust.Options{Secrets: secrets}), Anchors: trust.Anchors(f.Archive), Workers: 1,
	})
	if err != nil {
		m.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
	}
	return r
}

func (m *model) act() {
	switch m.IntN(16) {
	case 0, 1:
		m.add()
	case 2, 3, 4:
		m.merge()
	case 5:
		m.closeOne()
	case 6, 7:
		m.deploy()
	case 8, 9:
		m.say("%v write", m.writers)
		m.write(1 + m.IntN(3))
		for _, id := range slices.Sorted(maps.Keys(m.keys)) {
			if m.keys[id].stolen && m.IntN(4) == 0 {
				m.say("the thief of %s writes", id)
				m.append(id)
			}
		}
	case 10:
		hours := []int{1, 49, 49, 80}[m.IntN(4)]
		m.say("%d hours pass", hours)
		m.now = m.now.Add(time.Duration(hours) * time.Hour)
	case 11, 12:
		for range 1 + m.IntN(2) {
			m.finalize()
		}
	case 13:
		if m.IntN(3) == 0 {
			m.rollback()
		}
	case 14:
		if m.IntN(4) == 0 {
			m.compromise()
		}
	case 15:
		m.disable()
	}
}

// propose opens a pull request under the name of what it does: a second run
// finds the first one's, and one that was broken off has left nothing else.
func (m *model) propose(name string, p proposal) {
	if _, there := m.open[name]; there || m.IntN(8) == 0 { // there already, or killed before it was
		return
	}
	p.base = m.files
	head := m.merged(p)
	for _, f := range rotation.Judge(m.files, head, m.now, rotation.EvidenceAge) {
		if f.Severity == finding.Error {
			return // the action would refuse to propose it
		}
	}
	m.open[name] = p
	m.say("proposed: %s", name)
}

// merged is what the default branch would be with a pull request merged.
func (m *model) merged(p proposal) rotation.Files {
	reg, arch := m.files.Registry.Bytes(), m.files.Archive.Bytes()
	if p.reg != nil {
		reg = p.reg
	}
	if p.arch != nil {
		arch = p.arch
	}
	if len(arch) == 0 {
		arch = nil
	}
	records := slices.Clone(m.files.Records)
	if i := slices.IndexFunc(records, func(r rotation.Record) bool { return r.ID == p.rec.ID }); i >= 0 {
		records[i] = p.rec
	} else {
		records = append(records, p.rec)
	}
	return m.load(reg, arch, records)
}

func (m *model) add() {
	if len(m.keys) > 12 || len(m.files.Open()) > 0 && m.IntN(8) > 0 {
		return // add-signer refuses a second rotation; people get around it
	}
	id := fmt.Sprintf("s%d", len(m.keys))
	if m.IntN(4) == 0 && len(m.keys) > 1 {
		id = fmt.Sprintf("s%d", m.IntN(len(m.keys))) // an id that was used before
	}
	current := m.files.Registry.Signers
	out := rotation.SignerOf(current[m.IntN(len(current))])
	var outgoing *rotation.Signer
	if m.IntN(5) > 0 {
		outgoing = &out
	}
	rotationID := rotation.IDFor(id)
	k, known := m.keys[id]
	if !known {
		k = m.key(id, m.IntN(3) > 0)
	}
	e := k.entry(rotationID, m.now)
	reg := m.files.Registry.Add(e)
	f, err := registry.Load("signers.json", reg, "signers.archive.json", nil)
	if err != nil || len(f.Findings) > 0 || len(registry.Validate(f.Registry, m.files.Archive, m.now)) > 0 {
		return // what add-signer refuses
	}
	s, _ := f.Registry.Find(id)
	m.propose("add "+id, proposal{kind: "add", reg: reg, rec: rotation.Record{
		Version: 1, ID: rotationID, CreatedAt: m.now, Actor: "a", Reason: "r", Outgoing: outgoing, Incoming: rotation.SignerOf(s),
		Policy: rotation.Policy{Overlap: rotation.Duration(48 * time.Hour)},
	}})
}

// merge merges an open pull request, unless git or the gate refuses it.
func (m *model) merge() {
	name := m.anyOpen()
	if name == "" {
		return
	}
	p := m.open[name]
	delete(m.open, name)
	moved := p.base.Registry.SHA256() != m.files.Registry.SHA256() || p.base.Archive.SHA256() != m.files.Archive.SHA256() || len(p.base.Records) != len(m.files.Records)
	head := m.merged(p)
	fs := append(registry.Validate(head.Registry, head.Archive, m.now), rotation.Judge(m.files, head, m.now, rotation.EvidenceAge)...)
	if moved || finding.Count(fs, finding.Error) > 0 {
		m.count("refused to merge")
		m.say("not merged: %s (moved %v, %v)", name, moved, fs)
		return
	}
	m.files, m.report = head, nil
	m.count("merged " + p.kind)
	m.say("merged: %s", name)
	switch {
	case p.compromised != "":
		m.keys[p.compromised].stolen = true
	case p.leavesBehind:
		m.count("archived what a rollback left behind")
	case p.withdraws:
		m.count("withdrawn")
	}
}

func (m *model) anyOpen() string {
	names := slices.Sorted(maps.Keys(m.open))
	if len(names) == 0 {
		return ""
	}
	return names[m.IntN(len(names))]
}

func (m *model) closeOne() {
	if name := m.anyOpen(); name != "" {
		delete(m.open, name)
		m.say("closed: %s", name)
	}
}

// deploy configures a signer that guard-deploy lets pass; sometimes the old one
// writes on for a while.
func (m *model) deploy() {
	ids := slices.Sorted(maps.Keys(m.keys))
	k := m.keys[ids[m.IntN(len(ids))]]
	if n := len(m.files.Registry.Signers); m.IntN(3) > 0 { // mostly what was published last
		k = m.keys[m.files.Registry.Signers[n-1].ID]
	}
	e := k.entry("", m.now)
	d := rotation.Deployment{SignerID: k.id, KMSKeyID: e.KMSKeyID, KMSKeyARN: e.KMSKeyID, Key: e.Key, Algorithm: e.Algorithm}
	if why := rotation.Guard(d, m.files.Registry, m.files.Archive); len(why) > 0 || k.disabled {
		m.count("refused by guard-deploy")
		return
	}
	if m.IntN(3) == 0 {
		m.writers = []string{m.writers[len(m.writers)-1], k.id}
	} else {
		m.writers = []string{k.id}
	}
	m.say("deployed: %v", m.writers)
}

// finalize looks at every rotation and takes at most one step.
func (m *model) finalize() {
	for _, rec := range m.files.Records {
		over := rotation.PhaseWithoutChain(rec, m.files.Registry, m.files.Archive).Over()
		if over && !rec.LeftBehind(m.files.Registry) {
			continue
		}
		f := rotation.Facts{
			Record: rec, Registry: m.files.Registry, Archive: m.files.Archive, Report: m.current(), Now: m.now, CheckpointGiven: true,
			Trail: rotation.Trail{Off: "the model has none"},
		}
		f.Report.TruncationExcluded = true
		for _, id := range m.files.Open() {
			if id != rec.ID {
				f.InFlight = append(f.InFlight, id)
			}
		}
		a := rotation.Evaluate(f)
		if !a.Ready() {
			continue
		}
		move, err := rotation.Retire(f, a, rotation.Retirement{EvaluatedAt: m.now, Boundary: a.Boundary, Cutover: a.Cutover,
			Evidence: rotation.Evidence{Events: f.Report.Events, Head: f.Report.Head, RegistrySHA256: m.files.Registry.SHA256(), ArchiveSHA256: m.files.Archive.SHA256()}})
		if err != nil {
			continue
		}
		a.Prove(m.verify(m.merged(proposal{reg: move.Registry, arch: move.Archive, rec: move.Record})))
		if a.Phase != rotation.Finalizable {
			m.Errorf("the chain would not verify after the merge: %v", a.Gates[2])
		}
		move.Record.Judged().Gates = a.Gates
		m.propose(fmt.Sprintf("finalize %s %d", rec.ID, a.Boundary.Position), proposal{kind: "finalize", reg: move.Registry, arch: move.Archive, rec: move.Record, leavesBehind: rec.Rollback != nil})
		return
	}
}

func (m *model) rollback() {
	if len(m.files.Records) == 0 {
		return
	}
	rec := m.files.Records[m.IntN(len(m.files.Records))]
	if rec.Rollback != nil {
		return
	}
	var seen *chain.Report
	if m.IntN(2) == 0 {
		seen = m.current()
	}
	move, err := rotation.Undo(rec, m.files.Registry, m.files.Archive, rotation.Rollback{At: m.now, Actor: "a", Reason: "r", Mode: rotation.ModeRollback}, seen)
	if err != nil {
		return
	}
	m.propose("rollback "+rec.ID, proposal{kind: "rollback", reg: move.Registry, arch: move.Archive, rec: move.Record, withdraws: move.Archive != nil})
}

func (m *model) compromise() {
	s := m.files.Registry.Signers[m.IntN(len(m.files.Registry.Signers))]
	boundary := rotation.Mark{Position: int64(len(m.events)), Digest: chain.Digest(m.head)}
	move, err := rotation.Compromise(s.ID, boundary, rotation.Rollback{At: m.now, Actor: "a", Reason: "stolen"}, m.files)
	if err != nil {
		return
	}
	m.propose("compromise "+s.ID, proposal{kind: "compromise", reg: move.Registry, arch: move.Archive, rec: move.Record, compromised: s.ID})
}

// disable is finalize's disable-kms-key.
func (m *model) disable() {
	for _, item := range m.files.Archive.Retired {
		k := m.keys[item.ID]
		_, back := m.files.Registry.Find(item.ID)
		if back || k.disabled || k.secret != nil {
			continue
		}
		if item.State != registry.StateCompromised && (m.current().Verdict != chain.Verified || slices.Contains(m.writers, k.id)) {
			continue // evidence against, from the chain or from CloudTrail
		}
		k.disabled = true
		m.count("disabled a key")
		m.say("disabled: %s", k.id)
		return
	}
}

func (m *model) current() *chain.Report {
	if m.report == nil {
		m.report = m.verify(m.files)
	}
	return m.report
}

// invariants are what a user relies on at every moment.
func (m *model) invariants() {
	// Never zero signers.
	if len(m.files.Registry.Signers) == 0 {
		m.Error("no signer is left")
	}
	// No key returns under another id, and no id under another key.
	for _, s := range m.files.Registry.Signers {
		name := s.Key.Fingerprint()
		if s.Key.IsZero() {
			name = s.KMSKeyID
		}
		if was, ok := m.ids[name]; ok && was != s.ID {
			m.Errorf("the key of %s returns as %s", was, s.ID)
		}
		m.ids[name] = s.ID
	}
	// Every event verifies with registry and archive, but those that their
	// signer signed behind its boundary: exactly these are alarms.
	r := m.current()
	want := 0
	for i, id := range m.signers {
		was, archived := m.files.Archive.Find(id)
		if _, active := m.files.Registry.Find(id); !active && archived && int64(i+1) > was.Boundary.Position {
			want++
		} else if !active && !archived {
			m.Errorf("event %d is by %s, which is nowhere", i+1, id)
		}
	}
	if got := r.ByRule[chain.RuleRetiredSignerUsed]; got != int64(want) || r.FindingsTotal-r.ByRule[chain.RuleTimestampOrder] != int64(want) || (r.Verdict == chain.Verified) != (want == 0) {
		m.Errorf("%d events are behind their signer's boundary, found: %v", want, r.Findings)
	}
	if want > 0 {
		m.count("an alarm")
	}
	// A key is disabled only when it speaks no more: archived, and nobody's.
	for id, k := range m.keys {
		if _, archived := m.files.Archive.Find(id); k.disabled && !archived {
			m.Errorf("the key of %s is disabled, and it is not archived", id)
		}
	}
	// Checkpoints never shrink.
	if r.Verdict == chain.Verified && m.IntN(4) == 0 {
		next, err := checkpoint.Next(m.mark, checkpoint.Table{}, r, m.now)
		if err != nil {
			m.Error(err)
			return
		}
		m.mark = next
	}
}

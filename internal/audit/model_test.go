package audit_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

var sequences = flag.Int("sequences", 2000, "how many random histories TestModel plays")

// steps is the length of a history.
const steps = 50

// TestModel plays random histories of a repository, its chain and its keys:
// people add, promote, merge, close, deploy (where guard-deploy lets them), write,
// wait, finalize, roll back, declare keys stolen and disable them, in any order,
// each step perhaps twice or broken off half-way. After each step what a user
// relies on must hold; see invariants.
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
	for _, what := range []string{
		"merged open", "merged promote", "merged retire", "merged withdraw", "merged roll back", "merged compromise",
		"archived what a rollback left behind", "disabled a key", "refused by guard-deploy", "refused to merge", "an alarm",
	} {
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
	files record.Files // on the default branch
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

// proposal is an open pull request: a move in the record with this id, the files
// that it changes, and the base that it was made from.
type proposal struct {
	id    string
	move  record.Move
	base  record.Files
	files map[string][]byte
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{T: t, Rand: rand.New(rand.NewPCG(seed, 41)), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		did: map[string]int{}, open: map[string]proposal{}, keys: map[string]*secretKey{}, ids: map[string]string{}}
	k := m.key("s0", seed%3 == 0)
	empty, err := registry.Load("signers.json", []byte(registry.New), "signers.archive.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.files = m.load(map[string][]byte{"signers.json": empty.Registry.Add(k.entry("initial", m.now))})
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

// arnOf is the KMS key of a signer.
func arnOf(id string) string {
	return "arn:aws:kms:eu-west-1:111122223333:key/" + hex.EncodeToString([]byte(id))
}

func (k *secretKey) entry(rotationID string, at time.Time) registry.Entry {
	e := registry.Entry{
		ID: k.id, Algorithm: pubkey.HMACSHA256, KMSKeyID: arnOf(k.id), DeployedAt: at, Rotation: rotationID,
	}
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

// signer is the key as a move names it.
func (k *secretKey) signer() record.Signer {
	e := k.entry("", time.Time{})
	s := record.Signer{ID: e.ID, Algorithm: e.Algorithm, KMSKeyARN: e.KMSKeyID}
	if !e.Key.IsZero() {
		s.Fingerprint = e.Key.Fingerprint()
	}
	return s
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

// load reads files, by path, as a reader of the repository does.
func (m *model) load(texts map[string][]byte) record.Files {
	f, err := registry.Load("signers.json", texts["signers.json"], "signers.archive.json", texts["signers.archive.json"])
	if err != nil {
		m.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
	}
	files := record.Files{Registry: f.Registry, Archive: f.Archive, Dir: "rotations"}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		if !strings.HasPrefix(path, files.Dir+"/") {
			continue
		}
		r, err := record.Parse(path, texts[path])
		if err != nil || files.Path(r.ID) != path {
			m.Fatalf("%s: %v\n%s", path, err, strings.Join(m.log, "\n"))
		}
		files.Records = append(files.Records, r)
	}
	return files
}

// textsOf are the files by path.
func textsOf(f record.Files) map[string][]byte {
	texts := map[string][]byte{"signers.json": f.Registry.Bytes()}
	if text := f.Archive.Bytes(); len(text) > 0 {
		texts["signers.archive.json"] = text
	}
	for _, r := range f.Records {
		texts[f.Path(r.ID)] = r.JSON()
	}
	return texts
}

// by is who makes a move, and when.
func (m *model) by() record.By { return record.By{At: m.now, Actor: "a", Reason: "r"} }

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
		Signer: []byte(arnOf(id)), CreatedAt: m.now}
	if n > 0 {
		e.Prev = []byte(chain.Digest(m.head).String())
	}
	m.events, m.signers, m.head, m.report = append(m.events, e), append(m.signers, id), digest[:], nil
}

// verify judges the chain under some files.
func (m *model) verify(f record.Files) *chain.Report {
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
	switch m.IntN(17) {
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
	case 16:
		m.promote()
	}
}

// propose opens a pull request under the name of what it does: a second run
// finds the first one's, and one that was broken off has left nothing else.
func (m *model) propose(name, id string, move record.Move) {
	if _, there := m.open[name]; there || m.IntN(8) == 0 { // there already, or killed before it was
		return
	}
	after, err := m.files.Apply(id, move)
	if err != nil || len(m.judge(after)) > 0 {
		return // the action would refuse to propose it
	}
	m.open[name] = proposal{id, move, m.files, after.Changed(m.files)}
	m.say("proposed: %s", name)
}

// judge is the gate: it returns what is wrong with files that are to replace those
// of the default branch.
func (m *model) judge(head record.Files) (wrong []finding.Finding) {
	change := rotation.Change{Base: m.files, Head: head, Now: m.now, Age: rotation.EvidenceAge}
	found, err := change.Judge()
	if err != nil {
		m.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
	}
	for _, f := range append(registry.Validate(head.Registry, head.Archive, m.now), found...) {
		if f.Severity == finding.Error {
			wrong = append(wrong, f)
		}
	}
	return wrong
}

// merged is what the default branch would be with a pull request merged. Git refuses
// it where somebody else has changed one of its files since.
func (m *model) merged(p proposal) (head record.Files, conflict string) {
	was, texts := textsOf(p.base), textsOf(m.files)
	for path, text := range p.files {
		if string(was[path]) != string(texts[path]) {
			return head, path
		}
		texts[path] = text
	}
	return m.load(texts), ""
}

// add is add-signer with a signer that is not published.
func (m *model) add() {
	if len(m.keys) > 12 || len(m.files.InFlight()) > 0 && m.IntN(8) > 0 {
		return // a rotation is under way, and few people try another one
	}
	id := fmt.Sprintf("s%d", len(m.keys))
	if m.IntN(4) == 0 && len(m.keys) > 1 {
		id = fmt.Sprintf("s%d", m.IntN(len(m.keys))) // an id that was used before
	}
	k, known := m.keys[id]
	if !known {
		k = m.key(id, m.IntN(3) > 0)
	}
	open := &record.Open{By: m.by(), Signer: k.signer(), Policy: policy, Key: k.entry("", m.now).Key}
	if m.IntN(5) > 0 {
		open.Replaces = m.anySigner()
	}
	m.propose("add "+id, record.IDFor(id), open)
}

// promote is add-signer with a signer that is published already.
func (m *model) promote() {
	in, out := m.anySigner(), m.anySigner()
	id := record.IDFor(in.ID)
	if r := m.files.Publishing(in.ID); r != nil {
		id = r.ID
	}
	move := &record.Promote{By: m.by(), Signer: *in, Replaces: *out, Policy: policy}
	m.propose("promote "+in.ID+" for "+out.ID, id, move)
}

var policy = record.Policy{Overlap: record.Duration(48 * time.Hour)}

func (m *model) anySigner() *record.Signer {
	list := m.files.Registry.Signers
	s := record.SignerOf(list[m.IntN(len(list))])
	return &s
}

// merge merges an open pull request, unless git or the gate refuses it.
func (m *model) merge() {
	name := m.anyOpen()
	if name == "" {
		return
	}
	p := m.open[name]
	delete(m.open, name)
	head, conflict := m.merged(p)
	var wrong []finding.Finding
	if conflict == "" {
		wrong = m.judge(head)
	}
	if conflict != "" || len(wrong) > 0 {
		m.count("refused to merge")
		m.say("not merged: %s (conflict in %q, %v)", name, conflict, wrong)
		return
	}
	if was := m.files.Record(p.id); was != nil && was.State().Stage == record.Back {
		m.count("archived what a rollback left behind")
	}
	m.files, m.report = head, nil
	m.count("merged " + string(p.move.Kind()))
	m.say("merged: %s", name)
	if p.move.Kind() == record.Compromised {
		m.keys[p.move.Subject().ID].stolen = true
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
		f := rotation.Facts{
			Record: rec, Files: m.files, Report: m.current(), Now: m.now, CheckpointGiven: true,
			Trail: rotation.Trail{Off: "the model has none"},
		}
		f.Report.TruncationExcluded = true
		a := rotation.Evaluate(f)
		if !a.Ready() {
			continue
		}
		ret := &record.Retire{By: m.by(), Signer: *rec.State().Leaving, Boundary: a.Boundary, Cutover: a.Cutover}
		ret.Evidence = record.Evidence{
			Events: f.Report.Events, Head: f.Report.Head,
			RegistrySHA256: m.files.Registry.SHA256(), ArchiveSHA256: m.files.Archive.SHA256(),
		}
		after, err := m.files.Apply(rec.ID, ret)
		if err != nil {
			continue
		}
		if a.Prove(m.verify(after), false); a.Phase != rotation.Finalizable {
			m.Errorf("the chain would not verify after the merge: %v", a.Gates[2])
		}
		ret.Gates = a.Gates
		m.propose(fmt.Sprintf("finalize %s %d", rec.ID, a.Boundary.Position), rec.ID, ret)
		return
	}
}

func (m *model) rollback() {
	if len(m.files.Records) == 0 {
		return
	}
	rec := m.files.Records[m.IntN(len(m.files.Records))]
	var seen *chain.Report
	if m.IntN(2) == 0 {
		seen = m.current()
	}
	move, _, err := rotation.GoBack(m.files, rec, m.by(), seen)
	if err != nil {
		return
	}
	m.propose("rollback "+rec.ID, rec.ID, move)
}

func (m *model) compromise() {
	s := m.anySigner()
	boundary := record.Mark{Position: int64(len(m.events)), Digest: chain.Digest(m.head)}
	move := &record.Compromise{By: m.by(), Signer: *s, Boundary: boundary}
	m.propose("compromise "+s.ID, record.CompromiseID(s.ID), move)
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
	// At most one signer is being replaced.
	if list := m.files.InFlight(); len(list) > 1 {
		m.Errorf("rotations in flight: got %v, want one at most", list)
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

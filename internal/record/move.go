package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Kind is the name of a move, as files write it.
type Kind string

// The moves. No other one exists.
const (
	Opened      Kind = "open"       // a signer is published: the first one, a standby or a replacement
	Promoted    Kind = "promote"    // a published signer is to replace another one
	Retired     Kind = "retire"     // the signer that leaves goes into the archive, on evidence
	Withdrawn   Kind = "withdraw"   // the new signer, which signed nothing, goes into the archive
	RolledBack  Kind = "roll back"  // the old signer comes back; the new one is to leave
	Compromised Kind = "compromise" // a signer whose key is in the wrong hands goes into the archive
)

// kinds makes an empty move of each kind.
var kinds = map[Kind]func() Move{
	Opened:      func() Move { return new(Open) },
	Promoted:    func() Move { return new(Promote) },
	Retired:     func() Move { return new(Retire) },
	Withdrawn:   func() Move { return new(Withdraw) },
	RolledBack:  func() Move { return new(RollBack) },
	Compromised: func() Move { return new(Compromise) },
}

// Stage is how far a record has come.
type Stage string

// The stages.
const (
	New       Stage = ""                              // no move was made
	Standing  Stage = "after a signer that stands by" // published, replaces nobody
	Replacing Stage = "while one signer replaces another"
	Replaced  Stage = "after the old signer was archived"
	Back      Stage = "after the rotation was rolled back"
	Ended     Stage = "after the end of the rotation"
)

// allowed are the moves that can be made in each stage. This table decides alone
// what a record may become: what it does not list is refused.
var allowed = map[Stage][]Kind{
	New:       {Opened, Promoted, Compromised},
	Standing:  {Promoted},
	Replacing: {Retired, Withdrawn, RolledBack},
	Replaced:  {RolledBack},
	Back:      {Retired},
	Ended:     nil,
}

// State is what the moves of a record come to.
type State struct {
	Stage Stage
	// Incoming is the signer that was published or promoted, Outgoing the one that
	// it was to replace; nil where there is none.
	Incoming, Outgoing *Signer
	// Leaving is the signer that leaves, or has left, and Staying the one that
	// stays, both nil where no signer leaves. A rollback exchanges them. Since says
	// since when it is so.
	Leaving, Staying *Signer
	Since            time.Time
	Policy           Policy
}

// State follows from the moves.
func (r Record) State() (s State) {
	for _, m := range r.Moves {
		m.step(&s)
	}
	return s
}

// Last is the newest move.
func (r Record) Last() Move { return r.Moves[len(r.Moves)-1] }

// Find returns the newest move of a type, nil if the record has none.
func Find[M Move](r Record) (m M) {
	for _, x := range r.Moves {
		if is, ok := x.(M); ok {
			m = is
		}
	}
	return m
}

// Opening is the move that started the rotation, or declared the compromise: it
// is the last one that chose a signer.
func (r Record) Opening() (m Move) {
	for _, x := range r.Moves {
		if k := x.Kind(); k == Opened || k == Promoted || k == Compromised {
			m = x
		}
	}
	return m
}

// Move is one step in the life of a signer.
type Move interface {
	Kind() Kind
	// Made says who made it, when and why.
	Made() *By
	// Subject is the signer that it publishes, promotes, archives or brings back.
	Subject() Signer

	step(s *State)
	edit(e *editor) error
}

// By says when a move was made, by whom, why, and in which run. Times are in
// whole seconds of UTC.
type By struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	RunURL string    `json:"runUrl,omitempty"`
}

// Made is the move's own.
func (b *By) Made() *By { return b }

// Open publishes a signer.
type Open struct {
	By
	Signer     Signer             `json:"signer"`
	Replaces   *Signer            `json:"replaces,omitempty"`
	Policy     Policy             `json:"policy"`
	Possession *pubkey.Possession `json:"possession,omitempty"`
	// Key is what the registry gains; the record remembers its fingerprint. It is
	// zero for an HMAC signer.
	Key pubkey.Key `json:"-"`
}

// Promote lets a published signer replace another one.
type Promote struct {
	By
	Signer   Signer `json:"signer"`
	Replaces Signer `json:"replaces"`
	Policy   Policy `json:"policy"`
}

// Retire archives the signer that leaves.
type Retire struct {
	By
	Signer   Signer   `json:"signer"`
	Boundary Mark     `json:"boundary"`
	Cutover  Cutover  `json:"cutover"`
	Gates    []Gate   `json:"gates"`
	Evidence Evidence `json:"evidence"`
	// PublishedIn is the number of the pull request that published the incoming
	// signer, 0 where GitHub does not tell.
	PublishedIn int `json:"publishedIn,omitzero"`
}

// Withdraw gives a new signer up that has signed nothing: the old one goes on.
type Withdraw struct {
	By
	Signer Signer `json:"signer"`
}

// RollBack goes back to the old signer.
type RollBack struct {
	By
	Signer Signer `json:"signer"`
	// Window is what the other signer had signed by then, where the chain was
	// read.
	Window *Window `json:"window,omitempty"`
}

// Compromise archives a signer at once.
type Compromise struct {
	By
	Signer Signer `json:"signer"`
	// Boundary is the last event up to which the signer stays trusted.
	Boundary Mark `json:"boundary"`
}

// Mark is an event by position, counted from 1, and digest. Position 0 is none.
type Mark struct {
	Position int64        `json:"position"`
	Digest   chain.Digest `json:"digest"`
}

// Cutover is the first event of the signer that stays.
type Cutover struct {
	Position int64 `json:"position"`
}

// Window is a signer's part of the chain.
type Window struct {
	Events        int64 `json:"events"`
	FirstPosition int64 `json:"firstPosition"`
	LastPosition  int64 `json:"lastPosition"`
}

// GateState is what the evidence says about a gate. Missing evidence is Unproven,
// never Passed. An Off gate was switched off by an input that its detail names.
type GateState string

// The states of a gate.
const (
	Passed   GateState = "passed"
	Waiting  GateState = "waiting"
	Against  GateState = "against"
	Unproven GateState = "unproven"
	Off      GateState = "off"
)

// Gate is one condition of a retirement and what the evidence says about it.
type Gate struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	State  GateState `json:"state"`
	Detail string    `json:"detail"`
}

// Evidence names the states that the gates were computed from: the files, and the
// chain with so many events and this head.
type Evidence struct {
	Events         int64  `json:"events"`
	Head           string `json:"head"`
	RegistrySHA256 string `json:"registrySha256"`
	ArchiveSHA256  string `json:"archiveSha256,omitempty"`
	// Checkpoint is the one that the chain passed through, "<count>:<head>".
	Checkpoint string `json:"checkpoint,omitempty"`
	// ReportSHA256 is the digest of the report that the chain was judged by, where
	// it was read elsewhere.
	ReportSHA256 string `json:"reportSha256,omitempty"`
}

// Marks are the events that the evidence names, "<count>:<head>"; nil where one of
// them is before the boundary: it could be any.
func (e Evidence) Marks(boundary int64) []string {
	marks := []string{fmt.Sprintf("%d:%s", e.Events, e.Head)}
	if e.Checkpoint != "" {
		marks = append(marks, e.Checkpoint)
	}
	for _, m := range marks {
		count, _, _ := strings.Cut(m, ":")
		if n, err := strconv.ParseInt(count, 10, 64); err != nil || n < boundary {
			return nil
		}
	}
	return marks
}

// The kinds of the moves.

func (*Open) Kind() Kind       { return Opened }
func (*Promote) Kind() Kind    { return Promoted }
func (*Retire) Kind() Kind     { return Retired }
func (*Withdraw) Kind() Kind   { return Withdrawn }
func (*RollBack) Kind() Kind   { return RolledBack }
func (*Compromise) Kind() Kind { return Compromised }

// Their signers.

func (m *Open) Subject() Signer       { return m.Signer }
func (m *Promote) Subject() Signer    { return m.Signer }
func (m *Retire) Subject() Signer     { return m.Signer }
func (m *Withdraw) Subject() Signer   { return m.Signer }
func (m *RollBack) Subject() Signer   { return m.Signer }
func (m *Compromise) Subject() Signer { return m.Signer }

// What they make of the state.

func (m *Open) step(s *State) {
	*s = State{Stage: Standing, Incoming: &m.Signer, Policy: m.Policy}
	if m.Replaces != nil {
		s.replace(m.Replaces, m.At)
	}
}

func (m *Promote) step(s *State) {
	*s = State{Incoming: &m.Signer, Policy: m.Policy}
	s.replace(&m.Replaces, m.At)
}

func (s *State) replace(old *Signer, at time.Time) {
	s.Stage, s.Outgoing, s.Leaving, s.Staying, s.Since = Replacing, old, old, s.Incoming, at
}

func (m *Retire) step(s *State) {
	if s.Stage == Replacing {
		s.Stage = Replaced
	} else {
		s.Stage = Ended
	}
}

func (m *Withdraw) step(s *State) { s.reverse(Ended, m.At) }
func (m *RollBack) step(s *State) { s.reverse(Back, m.At) }

func (s *State) reverse(to Stage, at time.Time) {
	s.Stage, s.Leaving, s.Staying, s.Since = to, s.Incoming, s.Outgoing, at
}

func (m *Compromise) step(s *State) { *s = State{Stage: Ended, Leaving: &m.Signer, Since: m.At} }

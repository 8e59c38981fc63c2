// Package rotation is the state machine of a signer's replacement. What phase
// a rotation is in follows from evidence: the registry, the archive and the
// rotation record on the default branch, and what the chain says about who
// signed last. Nothing is stored that could be derived, so a lost, repeated or
// killed run changes nothing.
//
// It refuses to take a missing piece of evidence for a good one: a gate is
// passed, waiting, contradicted or unproven, and only when all are passed (or
// were switched off by name) may a signer be retired. Time is an argument,
// positions decide before times do.
package rotation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// Record is the file rotations/<id>.json: who replaced what, when, why, and at
// the end on which evidence.
type Record struct {
	Version    int                `json:"version"`
	ID         string             `json:"id"`
	CreatedAt  time.Time          `json:"createdAt"`
	Actor      string             `json:"actor"`
	Reason     string             `json:"reason"`
	RunURL     string             `json:"runUrl,omitempty"`
	Outgoing   *Signer            `json:"outgoing,omitempty"`
	Incoming   Signer             `json:"incoming"`
	Possession *pubkey.Possession `json:"possession,omitempty"`
	Policy     Policy             `json:"policy"`
	// PullRequest published the incoming signer; finalize fills it in, and it is 0
	// where GitHub does not tell.
	PullRequest int         `json:"pullRequest,omitzero"`
	Retirement  *Retirement `json:"retirement,omitempty"`
	Rollback    *Rollback   `json:"rollback,omitempty"`
}

// Signer is a signer as the record remembers it.
type Signer struct {
	ID          string           `json:"id"`
	Algorithm   pubkey.Algorithm `json:"algorithm"`
	Fingerprint string           `json:"fingerprint,omitempty"`
	KMSKeyARN   string           `json:"kmsKeyArn,omitempty"`
}

// Policy is the timing that the rotation was opened under. A record that lacks
// one of the two waits is older than they are, and waits for nothing there.
type Policy struct {
	// Overlap is how long both signers are trusted, from the last event of the
	// outgoing one.
	Overlap Duration `json:"overlap"`
	// Propagation is how long it takes from the merge until every verifier
	// serves the registry.
	Propagation Duration `json:"propagation,omitzero"`
	// Drain is how long writers that still use the outgoing signer may deliver
	// after the switch: rolling deployments, queues.
	Drain        Duration `json:"drain,omitzero"`
	ShortAllowed bool     `json:"shortOverlapAllowed,omitempty"`
}

// Duration is written as Go and people write it: "48h0m0s".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the form of String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// MinOverlap is the runbook's shortest overlap, MaxOverlap the longest that
// makes sense for a step that people wait for, and Safety the margin on top of
// what the waits add up to: BIND 9's default for publish-safety and
// retire-safety.
const (
	MinOverlap = 24 * time.Hour
	MaxOverlap = 90 * 24 * time.Hour
	Safety     = time.Hour
)

// Least is the shortest overlap that needs no extra permission: longer than the
// time in which an old event may still arrive and a verifier may still not know
// the new signer (Iret of RFC 7583).
func (p Policy) Least() time.Duration {
	return max(MinOverlap, time.Duration(p.Drain+p.Propagation)+Safety)
}

// Check refuses timings that the runbook does not allow.
func (p Policy) Check() error {
	overlap, propagation, drain := time.Duration(p.Overlap), time.Duration(p.Propagation), time.Duration(p.Drain)
	switch {
	case overlap <= 0 || overlap > MaxOverlap:
		return fmt.Errorf("overlap %s is out of range; 24h to 72h is usual, %s the most: give such a one", overlap, MaxOverlap)
	case propagation < 0 || propagation > MaxOverlap:
		return fmt.Errorf("propagation %s is out of range; it is the time from the merge until every verifier serves the registry, minutes as a rule: give such a one", propagation)
	case drain < 0 || drain > MaxOverlap:
		return fmt.Errorf("drain %s is out of range; it is the time in which old writers still deliver after the switch, an hour as a rule: give such a one", drain)
	case p.ShortAllowed || overlap >= p.Least():
		return nil
	case overlap < MinOverlap:
		return fmt.Errorf("overlap %s is shorter than %s: verifiers that cache the registry and queues that drain late would see gaps. Use a longer one, or allow-short-overlap: true for a rehearsal", overlap, MinOverlap)
	}
	return fmt.Errorf("overlap %s is shorter than drain %s, propagation %s and a safety margin of %s together: the old signer could be archived while its events still arrive. Use an overlap of at least %s, or allow-short-overlap: true for a rehearsal", overlap, drain, propagation, Safety, p.Least())
}

// Roles gives the signer that leaves, the one that stays, and since when it is
// so: a rollback exchanges them. A rotation that replaces nobody has no signer
// that leaves.
func (r Record) Roles() (leaving, staying *Signer, since time.Time) {
	if r.Rollback != nil {
		return &r.Incoming, r.Outgoing, r.Rollback.At
	}
	return r.Outgoing, &r.Incoming, r.CreatedAt
}

// Judged is the evidence on which the signer that leaves was archived, nil
// before that.
func (r Record) Judged() *Retirement {
	if r.Rollback != nil {
		return r.Rollback.Retirement
	}
	return r.Retirement
}

// LeftBehind tells whether the rotation was rolled back and its incoming signer
// is still to be archived.
func (r Record) LeftBehind(reg *registry.Registry) bool {
	if r.Rollback == nil || r.Rollback.Mode != ModeRollback || r.Outgoing == nil {
		return false
	}
	s, ok := reg.Find(r.Incoming.ID)
	return ok && s.ID == r.Incoming.ID
}

// Settled tells whether no signer of the rotation is left to be archived.
func (r Record) Settled(reg *registry.Registry, arch *registry.Archive) bool {
	return PhaseWithoutChain(r, reg, arch).Over() && !r.LeftBehind(reg)
}

// Retirement is the evidence on which the outgoing signer was archived.
type Retirement struct {
	EvaluatedAt time.Time `json:"evaluatedAt"`
	RunURL      string    `json:"runUrl,omitempty"`
	Cutover     Cutover   `json:"cutover,omitzero"`
	Boundary    Mark      `json:"boundary"`
	Gates       []Gate    `json:"gates"`
	Evidence    Evidence  `json:"evidence"`
}

// Cutover is the incoming signer's first event.
type Cutover struct {
	Position int64 `json:"position"`
}

// Mark is an event by position and digest.
type Mark struct {
	Position int64        `json:"position"`
	Digest   chain.Digest `json:"digest"`
}

// Evidence names the states that the gates were computed from.
type Evidence struct {
	Events         int64  `json:"events"`
	Head           string `json:"head"`
	RegistrySHA256 string `json:"registrySha256"`
	ArchiveSHA256  string `json:"archiveSha256,omitempty"`
	Checkpoint     string `json:"checkpoint,omitempty"`
	Snapshot       string `json:"snapshot,omitempty"`
	// ReportSHA256 is the digest of the report that the chain was judged by,
	// where it was read elsewhere.
	ReportSHA256 string `json:"reportSha256,omitempty"`
}

// Rollback says that and why the rotation was undone.
type Rollback struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	RunURL string    `json:"runUrl,omitempty"`
	Mode   string    `json:"mode"`
	// Window is what the incoming signer had signed by then, where the chain
	// was read.
	Window *Window `json:"window,omitempty"`
	// Compromised is the signer whose key is in the wrong hands, in mode
	// compromise; Boundary is the last event up to which it stays trusted.
	Compromised *Signer `json:"compromised,omitempty"`
	Boundary    *Mark   `json:"boundary,omitempty"`
	// Retirement is the evidence on which the incoming signer was archived
	// after a rollback.
	Retirement *Retirement `json:"retirement,omitempty"`
}

// The modes of a rollback.
const (
	ModeRollback   = "rollback"
	ModeCompromise = "compromise"
)

// Window is a signer's stretch of the chain.
type Window struct {
	Events        int64 `json:"events"`
	FirstPosition int64 `json:"firstPosition"`
	LastPosition  int64 `json:"lastPosition"`
}

var unsafeInID = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// IDFor derives a rotation's id from the incoming signer's: fit for a file
// name and a key alias whatever the signer id holds, and the same on every run.
func IDFor(signerID string) string {
	slug := strings.Trim(unsafeInID.ReplaceAllString(signerID, "-"), "-")
	if len(slug) > 60 {
		slug = slug[len(slug)-60:]
	}
	sum := sha256.Sum256([]byte(signerID))
	return "rotate-" + slug + "-" + hex.EncodeToString(sum[:4])
}

// PromotionOf derives the id of the rotation that lets a standby replace another
// signer.
func PromotionOf(signerID string) string {
	return "promote-" + strings.TrimPrefix(IDFor(signerID), "rotate-")
}

// SignerOf is how the record remembers a registry entry.
func SignerOf(s registry.Signer) Signer {
	out := Signer{ID: s.ID, Algorithm: s.Algorithm, KMSKeyARN: s.KMSKeyID}
	if !s.Key.IsZero() {
		out.Fingerprint = s.Key.Fingerprint()
	}
	return out
}

var recordForm = schemas.Form{Schema: schemas.Rotation, Is: "a rotation record", Else: schemas.Restore}

// ParseRecord reads a record strictly; name is its path.
func ParseRecord(name string, src []byte) (Record, error) {
	var r Record
	if err := recordForm.Decode(name, src, &r); err != nil {
		return r, err
	}
	if err := r.Policy.Check(); err != nil {
		return r, recordForm.Refuse(name, err.Error())
	}
	return r, nil
}

// JSON is the record's file.
func (r Record) JSON() []byte {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // plain values only
	}
	return append(text, '\n')
}

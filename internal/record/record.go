// Package record is the log of what happens to signers: which moves there are,
// what each does to registry and archive, and what a record comes to.
//
// A rotation record (rotations/<id>.json) is a list of moves. State, direction and
// phase follow from that list and are stored nowhere. There is one function that
// makes a move, [Files.Apply]; the actions propose what it returns, and the gate
// wants a pull request to be what it returns. What the table of stages does not
// list is refused, so a move, an order of moves or a combination that nobody
// thought of cannot pass.
package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// Record is the file rotations/<id>.json.
type Record struct {
	ID    string
	Moves []Move
}

// Signer is a signer as a record remembers it.
type Signer struct {
	ID          string           `json:"id"`
	Algorithm   pubkey.Algorithm `json:"algorithm"`
	Fingerprint string           `json:"fingerprint,omitempty"`
	KMSKeyARN   string           `json:"kmsKeyArn,omitempty"`
}

// SignerOf is how a record remembers a registry entry.
func SignerOf(s registry.Signer) Signer {
	out := Signer{ID: s.ID, Algorithm: s.Algorithm, KMSKeyARN: s.KMSKeyID}
	if !s.Key.IsZero() {
		out.Fingerprint = s.Key.Fingerprint()
	}
	return out
}

// SameKey reports whether two descriptions are of one signer with one key. An
// HMAC key has no fingerprint, so its KMS key tells it apart. The KMS key of the
// others may have been named later than the record was written.
func (s Signer) SameKey(t Signer) bool {
	return s.ID == t.ID && s.Algorithm == t.Algorithm && s.Fingerprint == t.Fingerprint &&
		(s.Algorithm != pubkey.HMACSHA256 || s.KMSKeyARN == t.KMSKeyARN)
}

// Policy is the timing of a rotation.
type Policy struct {
	// Overlap is how long both signers are trusted, from the last event of the
	// signer that leaves.
	Overlap Duration `json:"overlap"`
	// Propagation is how long it takes from the merge until every verifier
	// serves the registry.
	Propagation Duration `json:"propagation,omitzero"`
	// Drain is how long writers that still use the old signer may deliver after
	// the switch: rolling deployments, queues.
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
		return fmt.Errorf("overlap %s is out of range; 24h to 72h is usual, %s the most: choose one in that range", overlap, MaxOverlap)
	case propagation < 0 || propagation > MaxOverlap:
		return fmt.Errorf("propagation %s is out of range; it is the time from the merge until every verifier serves the registry, usually minutes: give a time in that range", propagation)
	case drain < 0 || drain > MaxOverlap:
		return fmt.Errorf("drain %s is out of range; it is the time in which old writers still deliver after the switch, usually an hour: give a time in that range", drain)
	case p.ShortAllowed || overlap >= p.Least():
		return nil
	case overlap < MinOverlap:
		return fmt.Errorf("overlap %s is shorter than %s: verifiers that cache the registry and queues that drain late would see gaps. Use a longer one, or allow-short-overlap: true for a rehearsal", overlap, MinOverlap)
	}
	return fmt.Errorf("overlap %s is shorter than drain %s, propagation %s and a safety margin of %s together: the old signer could be archived while its events still arrive. Use an overlap of at least %s, or allow-short-overlap: true for a rehearsal", overlap, drain, propagation, Safety, p.Least())
}

var unsafeInID = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// IDFor derives the id of the record that publishes a signer: fit for a file name
// and a key alias whatever the signer id contains, and the same on every run.
func IDFor(signerID string) string { return rotations + slug(signerID) }

// CompromiseID is the id of the record that declares a signer compromised.
func CompromiseID(signerID string) string { return compromises + slug(signerID) }

// What record ids begin with: no rotation can take the name that an emergency
// needs.
const (
	rotations   = "rotate-"
	compromises = "compromise-"
)

func slug(signerID string) string {
	s := strings.Trim(unsafeInID.ReplaceAllString(signerID, "-"), "-")
	if len(s) > 60 {
		s = s[len(s)-60:]
	}
	sum := sha256.Sum256([]byte(signerID))
	return s + "-" + hex.EncodeToString(sum[:4])
}

var form = schemas.Form{Schema: schemas.Rotation, Is: "a rotation record", Else: schemas.Restore}

// Parse reads a record strictly; name is its path. A record is written by this
// tool alone, so its text must be exactly what [Record.JSON] writes. Errors are
// *jsondoc.Error.
func Parse(name string, src []byte) (Record, error) {
	var r Record
	if err := form.Decode(name, src, &r); err != nil {
		return r, err
	}
	if err := r.check(); err != nil {
		return r, form.Refuse(name, err.Error())
	}
	if !bytes.Equal(bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n")), r.JSON()) {
		return r, form.Refuse(name, "its text is not as this tool writes it (layout, order of members, forms of times and numbers)")
	}
	return r, nil
}

// wire is the file's form.
type wire struct {
	Version int               `json:"version"`
	ID      string            `json:"id"`
	Moves   []json.RawMessage `json:"moves"`
}

// UnmarshalJSON reads the file's form. A move that is not in the table is an
// error.
func (r *Record) UnmarshalJSON(src []byte) error {
	var w wire
	if err := json.Unmarshal(src, &w); err != nil {
		return err
	}
	*r = Record{ID: w.ID}
	for _, text := range w.Moves {
		var named struct{ Move Kind }
		if err := json.Unmarshal(text, &named); err != nil {
			return err
		}
		make, known := kinds[named.Move]
		if !known {
			return fmt.Errorf("move %.40q is not known", named.Move)
		}
		m := make()
		if err := json.Unmarshal(text, m); err != nil {
			return err
		}
		r.Moves = append(r.Moves, m)
	}
	return nil
}

// MarshalJSON writes the file's form: each move begins with its name.
func (r Record) MarshalJSON() ([]byte, error) {
	w := wire{Version: 1, ID: r.ID, Moves: []json.RawMessage{}}
	for _, m := range r.Moves {
		text, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		w.Moves = append(w.Moves, append([]byte(fmt.Sprintf(`{"move":%q,`, m.Kind())), text[1:]...))
	}
	return json.Marshal(w)
}

// JSON is the record's file.
func (r Record) JSON() []byte {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // plain values only
	}
	return append(text, '\n')
}

// with is the record with one move more.
func (r Record) with(m Move) Record {
	return Record{r.ID, append(slices.Clip(slices.Clone(r.Moves)), m)}
}

// check refuses a list of moves that could not have been made one after another.
func (r Record) check() error {
	if len(r.Moves) == 0 {
		return errors.New("it has no move")
	}
	var s State
	for i, m := range r.Moves {
		by := m.Made()
		switch {
		case !slices.Contains(allowed[s.Stage], m.Kind()):
			return fmt.Errorf("move %d, %q, cannot be made %s", i+1, m.Kind(), s.Stage)
		case by.At.IsZero() || by.Actor == "" || by.Reason == "":
			return fmt.Errorf("move %d, %q, does not say when, by whom and why it was made", i+1, m.Kind())
		case by.At.Nanosecond() != 0 || by.At.Location() != time.UTC:
			return fmt.Errorf("the time of move %d, %q, is not in whole seconds of UTC", i+1, m.Kind())
		case i > 0 && by.At.Before(r.Moves[i-1].Made().At):
			return fmt.Errorf("move %d, %q, was made before the move that it follows", i+1, m.Kind())
		}
		prefix := rotations
		if m.Kind() == Compromised {
			prefix = compromises
		}
		if !strings.HasPrefix(r.ID, prefix) {
			return fmt.Errorf("the id of a record with the move %q begins with %q", m.Kind(), prefix)
		}
		m.step(&s)
		if p := s.Policy; p != (Policy{}) {
			if err := p.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}

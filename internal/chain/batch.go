package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Verifier decides whose signatures count. trust.Set is one.
type Verifier interface {
	// Judge sets out[i] for each claims[i]. An error means that some claim
	// could not be judged at all; nothing of the batch counts then.
	Judge(ctx context.Context, claims []Claim, out []Judgement) error
}

// Claim is a signature over a digest by whom the row names as its signer.
type Claim struct {
	Signer    []byte
	Signature []byte // as stored: base64 or hex text
	Digest    Digest
}

// Judgement is a Verifier's answer.
type Judgement struct {
	// Rule is the broken rule, "" if the signature counts; Message says why.
	Rule    string
	Message string
	// Signer is the id of the entry that speaks for the claim's signer, ""
	// if there is none; State is active, retired, compromised or unknown.
	Signer string
	State  string
	// Until is the last position at which that signer counts, 0 if there is
	// no such bound. It is the same for all claims of one signer id.
	Until int64
}

// SourceError says that the events cannot be read as such.
type SourceError struct{ Message string }

func (e *SourceError) Error() string { return e.Message }

// ExitCode is 2: unreadable or oversized input.
func (e *SourceError) ExitCode() int { return 2 }

// batchRows and batchBytes bound a batch: enough to hide the hand-over
// between goroutines, small enough to stay in the cache.
const (
	batchRows  = 256
	batchBytes = 1 << 18
)

// batch carries rows from the reader to a worker and on to the joiner.
type batch struct {
	arena    []byte
	events   []Event
	outcomes []outcome
	claims   []Claim
	claimOf  []int
	judged   []Judgement
	err      error
	done     chan struct{}
}

// outcome is what a worker found out about one event.
type outcome struct {
	digest, prev Digest
	genesis      bool
	// resumed marks the event that a verification goes on from.
	resumed bool
	// unlinked events have no digest: their payload or prev_hash is malformed.
	unlinked  bool
	createdAt int64 // Unix microseconds, 0 unknown
	notObject bool
	// excepted events are in the chain by review: their signature counts for nobody.
	excepted bool
	judged   Judgement
	findings []finding.Finding
}

// hold copies an event, whose bytes belong to the source, into the batch.
func (b *batch) hold(e Event) {
	for _, field := range []*[]byte{&e.ID, &e.Payload, &e.Prev, &e.Signature, &e.Signer, &e.Hash} {
		if *field != nil {
			from := len(b.arena)
			b.arena = append(b.arena, *field...)
			*field = b.arena[from:len(b.arena):len(b.arena)]
		}
	}
	b.events = append(b.events, e)
}

func (b *batch) full() bool { return len(b.events) == batchRows || len(b.arena) >= batchBytes }

// scan reads all events, lets workers examine them in parallel and hands them
// to place one by one in the order in which they came. Memory is that of a
// fixed number of batches.
func scan(ctx context.Context, events iter.Seq2[Event, error], workers int, examine func(context.Context, *hasher, *batch) error, place func(*batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	depth := 2*workers + 2
	free, work, ordered := make(chan *batch, depth), make(chan *batch, depth), make(chan *batch, depth)
	for range depth {
		free <- &batch{arena: []byte{}} // not nil: nil is SQL NULL
	}
	for range workers {
		go func() {
			var h hasher
			for b := range work {
				b.err = examine(ctx, &h, b)
				close(b.done)
			}
		}()
	}
	var readErr error // written before ordered is closed, read after
	go func() {
		defer close(ordered)
		defer close(work)
		readErr = read(ctx, events, free, work, ordered)
	}()
	for b := range ordered {
		<-b.done
		err := b.err
		if err == nil {
			err = place(b)
		}
		if err != nil {
			cancel(err)
			for b := range ordered { // let the reader and the workers end
				<-b.done
			}
			return err
		}
		free <- b
	}
	return readErr
}

// read fills batches from events.
func read(ctx context.Context, events iter.Seq2[Event, error], free, work, ordered chan *batch) error {
	var b *batch
	send := func() {
		b.done = make(chan struct{})
		ordered <- b
		work <- b
		b = nil
	}
	for e, err := range events {
		if err != nil {
			return err
		}
		if b == nil {
			select {
			case b = <-free:
				b.arena, b.events = b.arena[:0], b.events[:0]
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		b.hold(e)
		if b.full() {
			send()
		}
	}
	if b != nil {
		send()
	}
	return ctx.Err()
}

// hasher is the space that one worker hashes in.
type hasher struct {
	canonical canonical.Encoder
	text      []byte
}

// digest fills in the event's place in the chain or, if that is impossible,
// the finding that says why.
func (h *hasher) digest(e *Event, o *outcome) error {
	*o = outcome{genesis: len(e.Prev) == 0}
	if !e.CreatedAt.IsZero() {
		o.createdAt = e.CreatedAt.UnixMicro()
	}
	if !o.genesis {
		var ok bool
		if o.prev, ok = ParseDigest(e.Prev); !ok {
			o.unlinked = true
			o.find(RuleMalformedPrevHash, e, "prev_hash must be 64 lower-case hex digits, or NULL for the first event of the chain; this row has %.80q", e.Prev)
			return nil
		}
	}
	payload := e.Payload
	if payload == nil {
		payload = []byte("null")
	}
	text, notes, err := h.canonical.Append(h.text[:0], payload)
	if err != nil {
		var bad *canonical.Error
		if errors.As(err, &bad) && bad.TooDeep {
			return &SourceError{Message: fmt.Sprintf("row %d (event %.80q): payload, %v", e.Row, e.ID, err)}
		}
		o.unlinked = true
		o.find(RuleMalformedEvent, e, "the payload has no canonical form (%v), so the row has no digest; the audited service cannot have written it", err)
		return nil
	}
	o.notObject = notes&canonical.NotObject != 0
	if notes&canonical.OutOfRange != 0 {
		o.find(RuleNumberOutOfRange, e, "the payload holds a number beyond the double range; the digest covers it as null, so an edit of it would go unseen")
	}
	if notes&canonical.Lossy != 0 {
		o.find(RuleLossyNumber, e, "the payload holds a number that doubles cannot keep apart from its neighbours; an edit of its last digits would go unseen")
	}
	if !o.genesis {
		text = append(text, o.prev[:]...)
	}
	h.text, o.digest = text, sha256.Sum256(text)
	return nil
}

// clip gives a name from a row for reports and messages: whole up to 256 bytes,
// the longest that a signer id can have, cut beyond.
func clip(name []byte) string {
	const most = 256
	if len(name) <= most {
		return string(name)
	}
	cut := most
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return string(name[:cut]) + "…"
}

// find notes a broken rule; its severity and position are settled later.
func (o *outcome) find(rule string, e *Event, format string, args ...any) {
	o.findings = append(o.findings, finding.Finding{
		Rule: rule, Severity: finding.Error, EventID: clip(e.ID), Message: fmt.Sprintf(format, args...),
	})
}

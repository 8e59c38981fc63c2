// Package audit makes one verification from end to end: it opens the source of
// the events, sets up whom to trust, lets package chain judge every event, and
// holds the outcome against the checkpoint.
//
// It refuses to mix sources and to go on without a key service when an HMAC
// signer needs one. Nothing is written anywhere; the caller keeps the report.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// Source is where the events are: a table, or, with Open, an export, or, with
// Files, an export in several files.
type Source struct {
	DatabaseURL string
	Table       string
	// Pause is waited before a second attempt at the database; 0 means
	// auditdb's own.
	Pause time.Duration

	Name string // of the export, for messages
	Open func() (io.ReadCloser, error)
	// Files are the files of the folder Name, in order of their names.
	Files []ExportFile
}

// Terms are what the events are held against.
type Terms struct {
	Registry   *registry.Registry
	Archive    *registry.Archive
	Secrets    map[string][]byte // HMAC secrets by signer id
	Checkpoint *checkpoint.Checkpoint
	Exceptions []chain.Exception
	// Looked are events, "<position>:<digest>", of which the report shall tell whether
	// the chain passes through them.
	Looked []string

	AllowEmpty    bool
	StrictNumbers bool
	// Resume goes on from the checkpoint where that can be done; else, and
	// whenever anything is not as it should be, the whole chain is read.
	Resume bool
	// Unknown, if set, keeps the rows by signers that nobody knows.
	Unknown *trust.Claims
	// Without names the fast paths of signature verification not to take.
	Without sigverify.Paths
	// Progress, if set, is told now and then how many events are done, and how
	// many there are as far as that is known, else 0.
	Progress func(events, of int64)
	// Logf, if set, is told why the whole chain is read.
	Logf func(format string, args ...any)
}

// File is what a report says about an export.
type File struct {
	File string `json:"file"`
}

// Database is what a report says about a table: auditdb.Source, member for
// member, in the report's spelling.
type Database struct {
	Table            string          `json:"table"`
	Dialect          auditdb.Dialect `json:"dialect"`
	Columns          []string        `json:"columns"`
	EstimatedRows    int64           `json:"estimatedRows"`
	SystemIdentifier string          `json:"systemIdentifier,omitempty"`
	Timeline         int64           `json:"timeline,omitempty"`
	InRecovery       bool            `json:"inRecovery"`
	SnapshotID       string          `json:"snapshotId"`
	ServerVersion    string          `json:"serverVersion"`
	ServerTime       time.Time       `json:"serverTime"`
	ClockAheadMS     int64           `json:"clockAheadMs"`
}

// Verify reads every event and judges it, or, with Resume, every new one. The
// table is what a checkpoint is bound to.
func Verify(ctx context.Context, s Source, t Terms) (*chain.Report, checkpoint.Table, error) {
	set, err := speakers(ctx, t)
	if err != nil {
		return nil, checkpoint.Table{}, err
	}
	o := t.options()
	o.Verifier = set
	var r *chain.Report
	var table checkpoint.Table
	if s.Files != nil {
		events := eventsOf(s.Files)
		r, err = t.read(ctx, o, set, rows{
			all:  events,
			tail: func(time.Time) (iter.Seq2[chain.Event, error], int64, error) { return events, 0, nil },
		})
		if err == nil {
			r.Source = File{s.Name}
		}
	} else if s.Open != nil {
		f := &file{open: s.Open}
		o.Progress = t.progress(f.estimate)
		events := chain.NDJSON(s.Name, f.Open)
		r, err = t.read(ctx, o, set, rows{
			all:  events,
			tail: func(time.Time) (iter.Seq2[chain.Event, error], int64, error) { return events, 0, nil },
		})
		if err == nil {
			r.Source = File{s.Name}
		}
	} else {
		err = auditdb.Read(ctx, auditdb.Options{URL: s.DatabaseURL, Table: s.Table, Pause: s.Pause}, func(ctx context.Context, snapshot *auditdb.Snapshot) (err error) {
			source := snapshot.Source()
			o.Progress = t.progress(func(int64) int64 { return source.EstimatedRows })
			r, err = t.read(ctx, o, set, rows{
				all: snapshot.Events(ctx),
				tail: func(since time.Time) (iter.Seq2[chain.Event, error], int64, error) {
					n, err := snapshot.Count(ctx)
					return snapshot.EventsSince(ctx, since.Add(-lateness)), n, err
				},
			})
			if err == nil {
				r.Source, table = Database(source), checkpoint.Table{SystemIdentifier: source.SystemIdentifier, Table: source.Table}
			}
			return err
		})
	}
	if err != nil {
		return nil, table, err
	}
	r.Signatures = chain.SignatureChecks(set.Signatures())
	t.conclude(r, table)
	return r, table, nil
}

// options are the terms in the words of package chain.
func (t Terms) options() chain.Options {
	o := chain.Options{
		Anchors: trust.Anchors(t.Archive), Exceptions: t.Exceptions,
		AllowEmpty: t.AllowEmpty, StrictNumbers: t.StrictNumbers,
		Workers: runtime.GOMAXPROCS(0),
	}
	if t.Checkpoint != nil {
		o.Anchors = append(o.Anchors, t.Checkpoint.Anchors()...)
	}
	for _, text := range t.Looked {
		if c := checkpoint.Recorded("", text); c != nil {
			o.Looked = append(o.Looked, c.Anchor())
		}
	}
	return o
}

// conclude says what the report rests on, and holds it against the checkpoint.
func (t Terms) conclude(r *chain.Report, table checkpoint.Table) {
	r.ToolVersion = gha.Version
	r.RegistrySHA256, r.ArchiveSHA256, r.TermsSHA256 = t.Registry.SHA256(), t.Archive.SHA256(), t.sum()
	if t.Checkpoint != nil {
		r.Checkpoint.From = t.Checkpoint.String()
		for _, f := range t.Checkpoint.Check(table, r) {
			Fail(r, f)
		}
		if f, reset := t.Checkpoint.Finding(); reset {
			Note(r, f)
		}
	}
}

// lateness is how much earlier than the last event's a new row's created_at may
// be: the column is set when a transaction begins, and the row is there when it
// ends. Rows that are later still make the whole chain be read.
const lateness = time.Hour

// rows are a source's events; tail gives those from a time on, and the number
// of all, 0 if that is not known.
type rows struct {
	all  iter.Seq2[chain.Event, error]
	tail func(since time.Time) (iter.Seq2[chain.Event, error], int64, error)
}

func (t Terms) read(ctx context.Context, o chain.Options, set *trust.Set, from rows) (*chain.Report, error) {
	if !t.Resume {
		return chain.Verify(ctx, from.all, o)
	}
	why := t.whole()
	if why == "" {
		events, n, err := from.tail(t.Checkpoint.HeadCreatedAt)
		if err != nil {
			return nil, err
		}
		r, err := chain.Resume(ctx, events, n, t.Checkpoint.Anchor(), o)
		if err != nil {
			return nil, err
		}
		if r != nil {
			t.Checkpoint.Continue(r, set.Speaker)
			return r, nil
		}
		why = "what follows the checkpoint is not in order, or the number of rows before it has changed"
	}
	if t.Logf != nil {
		t.Logf("reading the whole chain: %s", why)
	}
	return chain.Verify(ctx, from.all, o)
}

// whole says why the whole chain must be read, "" if what is new is enough.
func (t Terms) whole() string {
	switch {
	case t.Checkpoint == nil:
		return "there is no checkpoint yet"
	case len(t.Exceptions) > 0:
		return "exceptions are held against every event"
	case t.Checkpoint.HeadCreatedAt.IsZero():
		return "the checkpoint does not tell when its last event was written"
	case t.Checkpoint.HeadCreatedAt.Add(-lateness).Year() < 1:
		return "the checkpoint's last event claims a time before all others"
	}
	return t.Checkpoint.Resumable(t.Registry.SHA256(), t.Archive.SHA256(), t.sum())
}

// sum is a digest of the terms beside registry and archive, and of the release that
// has its own rules. Of the secrets it has the ids alone.
func (t Terms) sum() string {
	return digestOf(append([]chain.Exception{}, t.Exceptions...), t.StrictNumbers, slices.Sorted(maps.Keys(t.Secrets)), gha.Version)
}

// digestOf is the SHA-256 of values as JSON.
func digestOf(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // plain values only
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (t Terms) progress(estimate func(events int64) int64) func(int64) {
	if t.Progress == nil {
		return nil
	}
	return func(events int64) { t.Progress(events, estimate(events)) }
}

// Fail adds to a report what was found beside the chain, and makes it failed.
func Fail(r *chain.Report, f finding.Finding) {
	r.Verdict = chain.Failed
	Note(r, f)
}

// Note adds to a report what was found beside the chain, and leaves its verdict.
func Note(r *chain.Report, f finding.Finding) {
	if r.ByRule == nil {
		r.ByRule = map[string]int64{}
	}
	r.Findings = append(r.Findings, f)
	r.FindingsTotal++
	r.ByRule[f.Rule]++
}

// speakers sets up whom to trust; KMS is called only where an HMAC signer's
// secret is not at hand.
func speakers(ctx context.Context, t Terms) (*trust.Set, error) {
	o := trust.Options{Secrets: t.Secrets, Unknown: t.Unknown, Without: t.Without}
	for _, s := range registry.HMACSigners(t.Registry, t.Archive) {
		if _, ok := t.Secrets[s.ID]; ok || s.KMSKeyID == "" {
			continue
		}
		// Of a million MACs many may be throttled once: each has its few attempts,
		// and they do not add up to a limit of the run's.
		client, err := awskms.New(patience.With(ctx, nil), awskms.Options{})
		if err != nil {
			return nil, err
		}
		o.MAC = client.VerifyMAC
		break
	}
	return trust.New(t.Registry, t.Archive, o), nil
}

// DatabaseOf is the table that a report is about, also where the report was read
// from a file; false if it is about an export.
func DatabaseOf(r *chain.Report) (db Database, ok bool) {
	if db, ok = r.Source.(Database); ok {
		return db, true
	}
	text, err := json.Marshal(r.Source)
	return db, err == nil && json.Unmarshal(text, &db) == nil && db.Table != ""
}

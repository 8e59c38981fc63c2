package chain

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Verdict is what a verification came to.
type Verdict string

// Undetermined never means verified: something could not be read or asked.
const (
	Verified     Verdict = "verified"
	Failed       Verdict = "failed"
	Undetermined Verdict = "undetermined"
)

// UnauthenticatedColumns are covered by no digest: whoever can write to the
// table can change them without a trace, and no verifier can notice.
var UnauthenticatedColumns = []string{"id", "actor_id", "event_type", "created_at", "signer_kid"}

// SignerUse is what the chain says about one signer id as the rows write it.
// Positions and times are those of its first and last event in chain order; a
// time is the row's own claim.
type SignerUse struct {
	Events         int64      `json:"events"`
	FirstPosition  int64      `json:"firstPosition"`
	LastPosition   int64      `json:"lastPosition"`
	FirstCreatedAt *time.Time `json:"firstCreatedAt,omitempty"`
	LastCreatedAt  *time.Time `json:"lastCreatedAt,omitempty"`
	// LastNotBefore is the latest time that any event up to its last one claims.
	// Its last event was written no earlier, whatever that one claims itself.
	LastNotBefore *time.Time `json:"lastNotBefore,omitempty"`
	LastDigest    Digest     `json:"lastDigest,omitzero"`
	// Entry is the id of the registry or archive entry that speaks for this
	// signer id, "" if none does; State is active, retired, compromised or
	// unknown.
	Entry string `json:"entry,omitempty"`
	State string `json:"state"`
}

// Report is the outcome of a verification, as report-path writes it
// (schemas/report.schema.json).
type Report struct {
	Version int     `json:"version"`
	Verdict Verdict `json:"verdict"`
	// TruncationExcluded is true only if the chain passed through a checkpoint.
	TruncationExcluded bool   `json:"truncationExcluded"`
	Events             int64  `json:"events"`
	Genesis            string `json:"genesis,omitempty"`
	// Head is the digest of the last event of the longest branch; Length is its
	// position. Tips lists all ends when there are several.
	Head    string               `json:"head,omitempty"`
	Length  int64                `json:"length"`
	Tips    []string             `json:"tips,omitempty"`
	Signers map[string]SignerUse `json:"signers"`

	Findings      []finding.Finding `json:"findings"`
	FindingsTotal int64             `json:"findingsTotal"`
	// ByRule counts findings beyond those that are listed.
	ByRule map[string]int64 `json:"byRule,omitempty"`
	// ExceptionsUsed counts the findings that a reviewed exception turned into notes.
	ExceptionsUsed int `json:"exceptionsUsed,omitempty"`
	// NonObjectPayloads counts payloads that are a scalar or an array: genuine,
	// but unusual.
	NonObjectPayloads int64 `json:"nonObjectPayloads,omitempty"`

	UnauthenticatedColumns []string `json:"unauthenticatedColumns"`
	RegistrySHA256         string   `json:"registrySha256,omitempty"`
	ArchiveSHA256          string   `json:"archiveSha256,omitempty"`
	// TermsSHA256 is a digest of what else the rows were held against: exceptions,
	// strict-numbers, and for which signers an HMAC secret was given.
	TermsSHA256 string          `json:"termsSha256,omitempty"`
	Checkpoint  CheckpointRange `json:"checkpoint,omitzero"`
	// Passed are those of Options.Looked that the chain passes through.
	Passed []Anchor `json:"-"`
	// Resumed says that only what is new since the checkpoint was read.
	Resumed *Resumption `json:"resumed,omitempty"`
	// Signatures says how the signatures were checked; those that KMS was asked
	// about are not counted.
	Signatures  SignatureChecks `json:"signatures,omitzero"`
	Source      any             `json:"source,omitempty"`
	ToolVersion string          `json:"toolVersion,omitempty"`
	StartedAt   time.Time       `json:"startedAt,omitzero"`
	Duration    string          `json:"duration,omitempty"`
}

// SignatureChecks counts who decided about signatures. Accepted ones may have
// been found valid by a fast path, of which the standard library has checked a
// sample again and agreed each time; all others it decided alone.
type SignatureChecks struct {
	Fast      int64 `json:"fast"`
	Rechecked int64 `json:"rechecked"`
	Library   int64 `json:"library"`
}

// CheckpointRange names the checkpoint that was passed through and the next
// one, each as "<count>:<head>".
type CheckpointRange struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Use sums up what the chain says about all signer ids of one registry entry.
func (r *Report) Use(entry string) SignerUse {
	var sum SignerUse
	for _, id := range slices.Sorted(maps.Keys(r.Signers)) {
		u := r.Signers[id]
		if u.Entry != entry || u.Events == 0 {
			continue
		}
		if u.FirstPosition > 0 && (sum.FirstPosition == 0 || u.FirstPosition < sum.FirstPosition) {
			sum.FirstPosition, sum.FirstCreatedAt = u.FirstPosition, u.FirstCreatedAt
		}
		if u.LastPosition > sum.LastPosition {
			sum.LastPosition, sum.LastCreatedAt, sum.LastNotBefore, sum.LastDigest = u.LastPosition, u.LastCreatedAt, u.LastNotBefore, u.LastDigest
		}
		sum.Events += u.Events
		sum.Entry, sum.State = u.Entry, u.State
	}
	return sum
}

// tally collects findings with a bound on what is kept.
type tally struct {
	kept   map[string][]finding.Finding // by rule
	byRule map[string]int64
	total  int64
	failed bool
}

// keepPerRule bounds the findings that are listed for one rule, the first in
// order; the rest is counted.
const keepPerRule = 1000

func (t *tally) add(f finding.Finding) {
	if t.byRule == nil {
		t.byRule, t.kept = map[string]int64{}, map[string][]finding.Finding{}
	}
	t.total++
	t.byRule[f.Rule]++
	t.failed = t.failed || f.Severity == finding.Error
	kept := append(t.kept[f.Rule], f)
	if len(kept) == 2*keepPerRule {
		kept = foremost(kept)
	}
	t.kept[f.Rule] = kept
}

// list gives what is kept, in order.
func (t *tally) list() []finding.Finding {
	all := []finding.Finding{}
	for _, rule := range slices.Sorted(maps.Keys(t.kept)) {
		all = append(all, foremost(t.kept[rule])...)
	}
	finding.Sort(all)
	return all
}

// foremost sorts findings of one rule so that no two orders of the rows give
// two orders of findings, and cuts them off.
func foremost(fs []finding.Finding) []finding.Finding {
	slices.SortFunc(fs, func(a, b finding.Finding) int { return strings.Compare(a.Message, b.Message) })
	finding.Sort(fs)
	return fs[:min(len(fs), keepPerRule)]
}

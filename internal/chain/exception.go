package chain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Exception is a finding about a genuine row that people have reviewed: the
// audited service itself writes forks and unsigned rows (see docs/rules.md).
// It counts only for the very row whose digest it pins. A fork needs one for
// each of its rival events.
type Exception struct {
	Rule       string    `json:"rule"`
	EventID    string    `json:"eventId"`
	Digest     Digest    `json:"digest"`
	Reason     string    `json:"reason"`
	ApprovedBy string    `json:"approvedBy"`
	ApprovedAt time.Time `json:"approvedAt"`
}

// Exceptable are the rules that an exception may name. What speaks of deleted
// or forged history can never be excepted.
var Exceptable = []string{RuleFork, RuleUnsigned, RuleBadSignature, RuleMalformedEvent}

type exception struct {
	Exception
	used bool
}

type exceptionKey struct {
	rule, eventID string
	digest        Digest
}

func indexExceptions(list []Exception) map[exceptionKey]*exception {
	index := make(map[exceptionKey]*exception, len(list))
	for _, x := range list {
		index[exceptionKey{x.Rule, x.EventID, x.Digest}] = &exception{Exception: x}
	}
	return index
}

// except turns f into a note if an exception pins this very row.
func (v *verification) except(f *finding.Finding, digest func() Digest) {
	if len(v.exceptions) == 0 || !slices.Contains(Exceptable, f.Rule) {
		return
	}
	x := v.exceptions[exceptionKey{f.Rule, f.EventID, digest()}]
	if x == nil {
		return
	}
	x.used = true
	f.Severity = finding.Note
	f.Message = x.by() + f.Message
}

// by says who has excepted something, when and why.
func (x *exception) by() string {
	return fmt.Sprintf("excepted by %s on %s (%s): ", x.ApprovedBy, x.ApprovedAt.Format(time.DateOnly), x.Reason)
}

// judgeExceptions reports exceptions that match nothing: the row was changed
// or is gone, or no exception may name that rule.
func (v *verification) judgeExceptions() {
	for _, x := range v.exceptions {
		f := finding.Finding{Rule: x.Rule, Severity: finding.Error, EventID: x.EventID}
		switch {
		case x.used:
			continue
		case !slices.Contains(Exceptable, x.Rule):
			f.Message = fmt.Sprintf("there is an exception for this event, and none is possible for the rule %.80q: only %s can be excepted", x.Rule, strings.Join(Exceptable, ", "))
		default:
			f.Message = fmt.Sprintf("the exception for this event (digest %s) matches no such finding any more: the row was changed, repaired or removed. Review the row, then take the exception out of the file", x.Digest)
		}
		v.tally.add(f)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

package rotation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

var reportForm = schemas.Form{Schema: schemas.Report, Is: "a report of verify-chain", Else: "give the file that its report-path names"}

// ParseReport reads what verify-chain has written to its report-path.
func ParseReport(name string, src []byte) (*chain.Report, error) {
	r := new(chain.Report)
	if err := reportForm.Decode(name, src, r); err != nil {
		return nil, err
	}
	return r, nil
}

// Unfit says why a report that was made elsewhere cannot stand for reading the
// chain now, "" if it can: it must be of the whole chain, by this version of the
// tool, with the files that are published now, and no older than age from the
// moment in which its reading began. A chain that is not verified is evidence,
// too. That a report is genuine nobody can see from it: it is as good as the job
// that hands it over.
func Unfit(r *chain.Report, f record.Files, version string, now time.Time, age time.Duration) string {
	switch old := now.Sub(r.StartedAt); {
	case r.ToolVersion != version:
		return fmt.Sprintf("it was made by version %q, and this is %q: use one version in both places", r.ToolVersion, version)
	case r.Verdict == chain.Undetermined:
		return "its verdict is undetermined: look why, and run verify-chain again"
	case r.Resumed != nil:
		return "it covers only what was new since a checkpoint: run verify-chain in mode verify or join"
	case r.Verdict == chain.Verified && contradiction(r) != "":
		return "it contradicts itself (" + contradiction(r) + "): run verify-chain again"
	case r.RegistrySHA256 != f.Registry.SHA256() || r.ArchiveSHA256 != f.Archive.SHA256():
		return fmt.Sprintf("it was made with other files than those published now (registry %.12s, not %.12s): run verify-chain with these", r.RegistrySHA256, f.Registry.SHA256())
	case r.StartedAt.IsZero():
		return "it does not say when it was begun: run verify-chain again"
	case old < -MaxSkew:
		return fmt.Sprintf("it claims to be of %s, which is not yet: set the clock right, and run verify-chain again", stamp(r.StartedAt))
	case old > age:
		return fmt.Sprintf("it was begun at %s, more than %s ago: run verify-chain again", stamp(r.StartedAt), age)
	}
	return ""
}

// contradiction is what no report of a verified chain can say.
func contradiction(r *chain.Report) string {
	var signed, unknown int64
	for _, id := range slices.Sorted(maps.Keys(r.Signers)) {
		use := r.Signers[id]
		signed += use.Events
		if use.Entry == "" {
			unknown += use.Events
		}
		switch {
		case unknown > 0:
			return fmt.Sprintf("nobody knows signer %.80q", id)
		case use.LastPosition > r.Length || use.LastPosition > 0 && use.LastDigest == (chain.Digest{}):
			return fmt.Sprintf("the last event of signer %.80q is none", id)
		}
	}
	switch {
	case finding.Count(r.Findings, finding.Error) > 0:
		return "it is verified and lists errors"
	case r.Head == "":
		return "it is verified and has no head"
	case r.ExceptionsUsed > 0: // of forks and of rows that nobody signed
		return ""
	case r.Events != r.Length || len(r.Tips) > 1:
		return fmt.Sprintf("%d events do not end in one head at position %d", r.Events, r.Length)
	case signed != r.Events:
		return fmt.Sprintf("its signers have %d events, and there are %d", signed, r.Events)
	}
	return ""
}

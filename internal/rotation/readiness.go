package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Verifier is what a verifier answered when it was asked which registry it
// serves.
type Verifier struct {
	URL string
	// RegistrySHA256 and ArchiveSHA256 are digests of the files in lower-case
	// hex. A verifier need not tell the archive's.
	RegistrySHA256, ArchiveSHA256 string
	// Problem says why it could not be asked, "" if it answered.
	Problem string
}

// Publication is a signer's way from the default branch to the verifiers.
type Publication struct {
	// SignerID is the signer's own id, Files are what its branch holds.
	SignerID string
	Files    Files
	// MergedAt is when the pull request that publishes the signer was merged,
	// by GitHub's clock; zero if nobody knows.
	MergedAt time.Time
	// Verifiers are those that somebody listed.
	Verifiers []Verifier
}

// Readiness tells whether events by a published signer can be verified
// everywhere: Passed, Waiting or Unproven.
type Readiness struct {
	State  GateState
	Detail string
	// At is when the wait is over, zero where it is not a matter of time.
	At time.Time
}

// Reach judges a publication. What the listed verifiers serve decides alone;
// where none is listed, the propagation time since the merge does (Ipub of RFC
// 7583). It also does for a signer that is gone back to: no verifier stands in
// the way of a retreat.
func (p Publication) Reach(now time.Time) Readiness {
	aged := p.age(now)
	if len(p.Verifiers) == 0 || aged.State == Passed && p.Files.FallsBackTo(p.SignerID) {
		return aged
	}
	state, detail := served(p.Verifiers, p.Files.Registry, p.Files.Archive)
	return Readiness{State: state, Detail: detail}
}

// age tells whether a signer has been published for long enough. One that has
// no record, or whose rotation has come to its end, is older than any wait.
func (p Publication) age(now time.Time) Readiness {
	r := p.Files.Arrival(p.SignerID)
	if r == nil || r.Retirement != nil {
		return Readiness{State: Passed, Detail: "it was published before any rotation that is under way"}
	}
	wait := time.Duration(r.Policy.Propagation)
	at := p.MergedAt.Add(wait)
	switch {
	case wait <= 0:
		return Readiness{State: Passed, Detail: "it is published, and its rotation plans no propagation time"}
	case p.MergedAt.IsZero():
		return Readiness{State: Unproven, Detail: fmt.Sprintf("no pull request of rotation %s is found that was merged, so nobody knows since when the signer is published: list the verifiers in verifier-urls", r.ID)}
	case now.Before(at):
		return Readiness{Waiting, fmt.Sprintf("it was merged at %s and takes %s to reach every verifier: wait until %s", stamp(p.MergedAt), wait, stamp(at)), at}
	}
	return Readiness{State: Passed, Detail: fmt.Sprintf("it is published since %s, longer than the propagation of %s", stamp(p.MergedAt), wait)}
}

// Arrival is the record of the rotation that brought the signer with this own
// id, nil if it is older than any. A compromise may have made a later record
// that names it too.
func (f Files) Arrival(signerID string) (first *Record) {
	for i, r := range f.Records {
		if r.Incoming.ID == signerID && (first == nil || r.CreatedAt.Before(first.CreatedAt)) {
			first = &f.Records[i]
		}
	}
	return first
}

// FallsBackTo tells whether deploying the signer with this own id is a retreat:
// a rotation replaces it, or was to, or it takes over from a compromised one.
func (f Files) FallsBackTo(signerID string) bool {
	return slices.ContainsFunc(f.Records, func(r Record) bool {
		named := r.Outgoing != nil && r.Outgoing.ID == signerID
		return named || r.Incoming.ID == signerID && r.Rollback != nil && r.Rollback.Mode == ModeCompromise
	})
}

// behind gives the verifiers that serve none of these files, and those of which
// that is not known.
func behind(list []Verifier, good ...Files) (stale, silent []string) {
	registries, archives := map[string]bool{}, map[string]bool{}
	for _, f := range good {
		registries[f.Registry.SHA256()], archives[f.Archive.SHA256()] = true, true
	}
	for _, v := range list {
		switch {
		case v.Problem != "":
			silent = append(silent, fmt.Sprintf("%s (%s)", v.URL, v.Problem))
		case v.RegistrySHA256 == "":
			silent = append(silent, v.URL+" (it told no digest)")
		case !registries[v.RegistrySHA256]:
			stale = append(stale, fmt.Sprintf("%s (registry %.12s)", v.URL, v.RegistrySHA256))
		case v.ArchiveSHA256 != "" && !archives[v.ArchiveSHA256]:
			stale = append(stale, fmt.Sprintf("%s (archive %.12s)", v.URL, v.ArchiveSHA256))
		}
	}
	return stale, silent
}

// Compromised are the archived signers whose key is in the wrong hands.
func (f Files) Compromised() (list []registry.Retired) {
	for _, item := range f.Archive.Retired {
		if item.State == registry.StateCompromised {
			list = append(list, item)
		}
	}
	return list
}

// Declared is when a key was declared compromised last, zero if none was.
func (f Files) Declared() (at time.Time) {
	for _, item := range f.Compromised() {
		if item.RetiredAt.After(at) {
			at = item.RetiredAt
		}
	}
	return at
}

// bounds tells whether whoever serves these files trusts no compromised key of
// the present ones without its bound.
func (f Files) bounds(now Files) bool {
	return !slices.ContainsFunc(now.Compromised(), func(item registry.Retired) bool {
		_, back := f.Registry.Find(item.ID)
		return back || !slices.ContainsFunc(f.Archive.Retired, func(was registry.Retired) bool {
			return was.ID == item.ID && was.State == item.State && was.Boundary == item.Boundary
		})
	})
}

// Trusting names the verifiers that may trust a compromised key still, because
// they serve neither these files nor earlier ones that bound it: an error for
// each. That one is behind in another way is the business of gate G6. Of one that
// does not answer nobody knows: a warning, and once the declaration is older than
// anybody is reminded of it, a note. There is none where no key is compromised.
func (f Files) Trusting(list []Verifier, earlier []Files, now time.Time) (fs []finding.Finding) {
	var signers []string
	for _, item := range f.Compromised() {
		signers = append(signers, fmt.Sprintf("%s (up to position %d)", item.ID, item.Boundary.Position))
	}
	if len(signers) == 0 {
		return nil
	}
	good := []Files{f}
	for _, was := range earlier {
		if was.bounds(f) {
			good = append(good, was)
		}
	}
	stale, silent := behind(list, good...)
	for _, v := range stale {
		fs = append(fs, finding.Finding{Rule: RuleStaleVerifier, Severity: finding.Error,
			Message: fmt.Sprintf("verifier %s does not serve the published files (registry %.12s), which bound the compromised signer %s, nor earlier ones that do: until it does, it may take what a thief signs for genuine. Refresh it now", v, f.Registry.SHA256(), some(signers))})
	}
	unknown := finding.Warning
	if now.Sub(f.Declared()) > alertness {
		unknown = finding.Note
	}
	for _, v := range silent {
		fs = append(fs, finding.Finding{Rule: RuleStaleVerifier, Severity: unknown,
			Message: fmt.Sprintf("verifier %s does not say what it serves, so it may trust the compromised signer %s without a bound. Refresh it, and see that it answers; take it out of verifier-urls if it is gone", v, some(signers))})
	}
	return fs
}

// served compares what verifiers serve with the published files. One that
// serves others outweighs one that does not answer: it is evidence.
func served(list []Verifier, reg *registry.Registry, arch *registry.Archive) (GateState, string) {
	stale, silent := behind(list, Files{Registry: reg, Archive: arch})
	unasked := fmt.Sprintf("%d of %d verifiers could not be asked: %s", len(silent), len(list), some(silent))
	switch {
	case len(stale) > 0:
		detail := fmt.Sprintf("%d of %d verifiers serve other files than those published (registry %.12s): %s", len(stale), len(list), reg.SHA256(), some(stale))
		if len(silent) > 0 {
			detail += "; " + unasked
		}
		return Waiting, detail
	case len(silent) > 0:
		return Unproven, unasked
	}
	return Passed, fmt.Sprintf("%d verifier(s) serve registry %s", len(list), reg.SHA256())
}

// some names the first of a list that may be long.
func some(list []string) string {
	const shown = 8
	if len(list) > shown {
		return fmt.Sprintf("%s and %d more", join(list[:shown]), len(list)-shown)
	}
	return join(list)
}

// everywhere is gate G6.
func everywhere(f Facts) Gate {
	g := Gate{ID: "G6", Name: "verifiers serve the current registry", State: Off, Detail: "verifier-urls is not given"}
	if len(f.Verifiers) > 0 {
		g.State, g.Detail = served(f.Verifiers, f.Registry, f.Archive)
	}
	return g
}

// reach is how far the incoming signer's publication has come.
func (f Facts) reach() Readiness {
	files := Files{Registry: f.Registry, Archive: f.Archive, Records: []Record{f.Record}}
	return Publication{f.Record.Incoming.ID, files, f.MergedAt, f.Verifiers}.Reach(f.Now)
}

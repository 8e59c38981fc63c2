package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
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
	Files    record.Files
	// PublishedAt is since when the branch has the signer, by GitHub's clock; zero
	// if nobody knows.
	PublishedAt time.Time
	// Verifiers are those that somebody listed.
	Verifiers []Verifier
}

// Readiness tells whether events by a published signer can be verified
// everywhere: Passed, Waiting or Unproven.
type Readiness struct {
	State  record.GateState
	Detail string
	// At is when the wait is over, zero where it is not a matter of time.
	At time.Time
}

// Propagation is how long a signer without a record waits: add-signer's default.
const Propagation = 5 * time.Minute

// Wait is how long a signer must have been published before it signs: the
// propagation that its record plans.
func Wait(f record.Files, signerID string) time.Duration {
	if r := f.Publishing(signerID); r != nil {
		if open := record.Find[*record.Open](*r); open != nil {
			return time.Duration(open.Policy.Propagation)
		}
	}
	return Propagation
}

// Reach judges a publication. What the listed verifiers serve decides alone;
// where none is listed, the time since the branch has the signer does (Ipub of RFC
// 7583). It also does for a signer that is gone back to: no verifier holds up a
// retreat.
func (p Publication) Reach(now time.Time) Readiness {
	aged := p.age(now)
	if len(p.Verifiers) == 0 || aged.State == record.Passed && FallsBackTo(p.Files, p.SignerID) {
		return aged
	}
	state, detail := served(p.Verifiers, p.Files)
	return Readiness{State: state, Detail: detail}
}

// age tells whether a signer has been published for long enough.
func (p Publication) age(now time.Time) Readiness {
	wait := Wait(p.Files, p.SignerID)
	at := p.PublishedAt.Add(wait)
	switch {
	case replaced(p.Files, p.SignerID):
		return Readiness{State: record.Passed, Detail: "it was in use before, so going back to it waits for nothing"}
	case wait <= 0:
		return Readiness{State: record.Passed, Detail: "it is published, and its rotation plans no propagation time"}
	case p.PublishedAt.IsZero():
		return Readiness{State: record.Unproven, Detail: fmt.Sprintf("since when signer %s is published, the branch does not tell: list the verifiers in verifier-urls", p.SignerID)}
	case now.Before(at):
		return Readiness{record.Waiting, fmt.Sprintf("it was merged at %s and takes %s to reach every verifier: wait until %s", stamp(p.PublishedAt), wait, stamp(at)), at}
	}
	return Readiness{State: record.Passed, Detail: fmt.Sprintf("it is published since %s or earlier, longer than the propagation of %s", stamp(p.PublishedAt), wait)}
}

// FallsBackTo reports whether deploying the signer with this own id is a retreat:
// a rotation replaces it, or was to, or it takes over from a compromised one.
func FallsBackTo(f record.Files, signerID string) bool {
	return replaced(f, signerID) || slices.ContainsFunc(Compromised(f), func(was registry.Retired) bool {
		next := Successor(f, was.ID)
		return next != nil && next.ID == signerID
	})
}

// replaced reports whether a rotation replaces the signer, or was to.
func replaced(f record.Files, signerID string) bool {
	return slices.ContainsFunc(f.Records, func(r record.Record) bool {
		s := r.State()
		return s.Outgoing != nil && s.Outgoing.ID == signerID
	})
}

// behind gives the verifiers that serve none of these files, and those of which
// that is not known.
func behind(list []Verifier, good ...record.Files) (stale, silent []string) {
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
func Compromised(f record.Files) (list []registry.Retired) {
	for _, item := range f.Archive.Retired {
		if item.State == registry.StateCompromised {
			list = append(list, item)
		}
	}
	return list
}

// Declared is when a key was declared compromised last, zero if none was.
func Declared(f record.Files) (at time.Time) {
	for _, item := range Compromised(f) {
		if item.RetiredAt.After(at) {
			at = item.RetiredAt
		}
	}
	return at
}

// bounds tells whether whoever serves these files trusts no compromised key of
// the present ones without its bound.
func bounds(f, now record.Files) bool {
	return !slices.ContainsFunc(Compromised(now), func(item registry.Retired) bool {
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
func Trusting(f record.Files, list []Verifier, earlier []record.Files, now time.Time) (fs []finding.Finding) {
	var signers []string
	for _, item := range Compromised(f) {
		signers = append(signers, fmt.Sprintf("%s (up to position %d)", item.ID, item.Boundary.Position))
	}
	if len(signers) == 0 {
		return nil
	}
	good := []record.Files{f}
	for _, was := range earlier {
		if bounds(was, f) {
			good = append(good, was)
		}
	}
	stale, silent := behind(list, good...)
	for _, v := range stale {
		fs = append(fs, finding.Finding{Rule: RuleStaleVerifier, Severity: finding.Error,
			Message: fmt.Sprintf("verifier %s does not serve the published files (registry %.12s), which bound the compromised signer %s, nor earlier ones that do: until it does, it may take what a thief signs for genuine. Refresh it now", v, f.Registry.SHA256(), some(signers))})
	}
	unknown := finding.Warning
	if now.Sub(Declared(f)) > alertness {
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
func served(list []Verifier, f record.Files) (record.GateState, string) {
	stale, silent := behind(list, f)
	unasked := fmt.Sprintf("%d of %d verifiers could not be asked: %s", len(silent), len(list), some(silent))
	switch {
	case len(stale) > 0:
		detail := fmt.Sprintf("%d of %d verifiers serve other files than those published (registry %.12s): %s", len(stale), len(list), f.Registry.SHA256(), some(stale))
		if len(silent) > 0 {
			detail += "; " + unasked
		}
		return record.Waiting, detail
	case len(silent) > 0:
		return record.Unproven, unasked
	}
	return record.Passed, fmt.Sprintf("%d verifier(s) serve registry %s", len(list), f.Registry.SHA256())
}

// some names the first of a list that may be long.
func some(list []string) string {
	const shown = 8
	if len(list) > shown {
		return fmt.Sprintf("%s and %d more", join(list[:shown]), len(list)-shown)
	}
	return join(list)
}

func everywhere(f Facts, _ Assessment) (record.GateState, string) {
	if len(f.Verifiers) == 0 {
		return record.Off, "verifier-urls is not given"
	}
	return served(f.Verifiers, f.Files)
}

// reach is how far the incoming signer's publication has come.
func (f Facts) reach() Readiness {
	return Publication{f.Record.State().Incoming.ID, f.Files, f.MergedAt, f.Verifiers}.Reach(f.Now)
}

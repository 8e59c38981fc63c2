package registry

import (
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Validate judges registry and archive together: what no entry shows alone.
// Parse has judged the entries. now serves the warning about dates ahead.
func Validate(r *Registry, a *Archive, now time.Time) []finding.Finding {
	var fs []finding.Finding
	at := func(rule string, p place, message string) {
		if len(fs) == maxErrors {
			return
		}
		fs = append(fs, finding.Finding{Rule: rule, Severity: finding.Error, File: p.file, Line: p.Line, Col: p.Col, Message: message})
	}
	all := places(r, a)
	for _, p := range returns(a) {
		at(RuleArchiveItem, p, "signer "+Quote(p.ID)+" was retired before, and a later retirement must keep its entry byte for byte and have no earlier boundary")
	}
	for _, s := range r.Signers {
		if was, ok := a.Find(s.ID); ok && was.State == StateCompromised {
			at(RuleReturnedSigner, place{s, r.Name}, "signer "+Quote(s.ID)+" was archived as compromised by rotation "+Quote(was.Rotation)+"; such a key never comes back. Add a new signer")
		}
	}
	ids, keys := map[string]place{}, map[string]place{}
	for _, p := range all {
		for _, id := range p.IDs() {
			folded := strings.ToLower(id)
			if id == "" {
				continue
			}
			if first, taken := ids[folded]; taken {
				at(RuleDuplicateID, p, "signer id "+Quote(id)+" is taken by "+first.String()+" (ids must differ in more than letter case, and an archived id is never used again)")
				continue
			}
			ids[folded] = p
		}
		key := p.Key.Fingerprint()
		if p.Algorithm == pubkey.HMACSHA256 {
			key = KeyID(p.KMSKeyID)
		}
		if key == "" {
			continue
		}
		if first, taken := keys[key]; taken {
			at(RuleDuplicateKey, p, "the same key stands at "+first.String()+"; one key has one entry, further ids go into its \"aliases\"")
			continue
		}
		keys[key] = p
	}
	fs = append(fs, sharedPrimes(all)...)
	for _, s := range r.Signers {
		if t, err := time.Parse(time.RFC3339, s.DeployedAt); err == nil && t.After(now.Add(24*time.Hour)) {
			fs = append(fs, finding.Finding{Rule: RuleDateInFuture, Severity: finding.Warning, File: r.Name, Line: s.Line, Col: s.Col,
				Message: "deployedAt of " + Quote(s.ID) + " lies more than a day ahead"})
		}
	}
	return fs
}

// place is an entry and the file it stands in.
type place struct {
	Signer
	file string
}

func (p place) String() string {
	return finding.Finding{File: p.file, Line: p.Line, Col: p.Col}.Where()
}

// places lists every signer once. One that was rolled back stands in the
// registry and, byte for byte, in the archive, which never forgets; it is
// listed where it counts.
func places(r *Registry, a *Archive) []place {
	var all []place
	for i, s := range a.Retired {
		back, ok := r.own(s.ID)
		again := slices.ContainsFunc(a.Retired[i+1:], func(later Retired) bool { return later.ID == s.ID && later.Source == s.Source })
		if !again && !(ok && back.Source == s.Source) {
			all = append(all, place{s.Signer, a.Name})
		}
	}
	for _, s := range r.Signers {
		all = append(all, place{s, r.Name})
	}
	return all
}

// returns lists the items of signers that were retired before, where entry or
// boundary do not fit. The boundary stays where it was if the signer has signed
// nothing since it came back; only a compromise takes back what counted.
func returns(a *Archive) []place {
	var wrong []place
	for i, s := range a.Retired {
		for _, before := range a.Retired[:i] {
			was, is := before.Boundary, s.Boundary
			shrinks := is.Position < was.Position || is.Position == was.Position && is.Digest != was.Digest
			if before.ID == s.ID && (before.Source != s.Source || before.State == StateCompromised || shrinks && s.State != StateCompromised) {
				wrong = append(wrong, place{s.Signer, a.Name})
				break
			}
		}
	}
	return wrong
}

// sharedPrimes finds moduli with a common factor: both private keys follow
// from it by one division.
func sharedPrimes(all []place) []finding.Finding {
	all = slices.DeleteFunc(slices.Clone(all), func(p place) bool { return p.Key.RSA() == nil })
	keys := make([]pubkey.Key, len(all))
	for i, p := range all {
		keys[i] = p.Key
	}
	var fs []finding.Finding
	for _, pair := range pubkey.SharedPrimes(keys) {
		a, b := all[pair[0]], all[pair[1]]
		if a.Key.Fingerprint() == b.Key.Fingerprint() {
			continue // duplicate-key speaks of it
		}
		fs = append(fs, finding.Finding{Rule: RuleSharedPrime, Severity: finding.Error, File: b.file, Line: b.Line, Col: b.Col,
			Message: "the keys of " + Quote(b.ID) + " and of " + Quote(a.ID) + " (" + a.String() + ") share a prime: anybody can compute both private keys. Replace both"})
	}
	return fs
}

package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// The rules that a deployment must keep to; docs/rules.md explains each.
const (
	RuleDeployMismatch = "deploy-mismatch"
	RuleNotReady       = "not-ready"
	RuleExpectedSigner = "expected-signer"
	RuleStaleVerifier  = "stale-verifier"
)

// Deployment is what a deploy job is about to configure.
type Deployment struct {
	SignerID string
	// KMSKeyID is the setting's text; Key what KMS has under it (zero for an
	// HMAC key, which exports none), Algorithm what it signs with.
	KMSKeyID  string
	KMSKeyARN string
	Key       pubkey.Key
	Algorithm pubkey.Algorithm
	// Proposal says what is to be done with the pull request that would publish
	// the signer, "" where none is known.
	Proposal string
}

// Signer is the signer that the deployment would be if it were published.
func (d Deployment) Signer() record.Signer {
	s := record.Signer{ID: d.SignerID, Algorithm: d.Algorithm, KMSKeyARN: d.KMSKeyARN}
	if !d.Key.IsZero() {
		s.Fingerprint = d.Key.Fingerprint()
	}
	return s
}

// Guard says why a deployment must not go ahead, nothing if it may: the signer
// must be published, and the key that will sign must be the one published.
func Guard(d Deployment, reg *registry.Registry, arch *registry.Archive) []finding.Finding {
	s, ok := reg.Find(d.SignerID)
	if !ok {
		if _, retired := arch.Find(d.SignerID); retired {
			return mismatch("signer %s is retired: every event it signs from now on is an alarm. Deploy the current signer, or roll the rotation back", d.SignerID)
		}
		return []finding.Finding{NotReady("signer %s is not in %s on the default branch: its events could not be verified. %s first", d.SignerID, reg.Name, cmp.Or(d.Proposal, "Merge its add-signer pull request"))}
	}
	var why []finding.Finding
	if d.Algorithm != s.Algorithm {
		why = append(why, mismatch("signer %s is published for %s, the KMS key %s signs with %s", s.ID, s.Algorithm, d.KMSKeyID, d.Algorithm)...)
	}
	if !s.Key.IsZero() && !d.Key.IsZero() && s.Key.Fingerprint() != d.Key.Fingerprint() {
		why = append(why, mismatch("the KMS key %s (%s) has fingerprint %s, signer %s (%s) is published with %s%s%s",
			d.KMSKeyID, d.Key.Spec(), d.Key.Fingerprint(), s.ID, s.Key.Spec(), s.Key.Fingerprint(), owner(d.Key, reg, arch), apart(d.KMSKeyARN, s.KMSKeyID))...)
	}
	if s.Algorithm == pubkey.HMACSHA256 && s.KMSKeyID != d.KMSKeyARN {
		why = append(why, mismatch("HMAC signer %s is published for KMS key %s, the deployment uses %s%s", s.ID, s.KMSKeyID, d.KMSKeyARN, apart(d.KMSKeyARN, s.KMSKeyID))...)
	}
	if len(why) == 0 && !slices.Contains(s.IDs(), d.KMSKeyID) {
		why = mismatch("Agent Manager writes the KMS key id that it is configured with as signer_kid, and %s is neither the id nor an alias of signer %s%s: set AUDIT_SIGNING_KMS_KEY_ID to one of %s, or add the alias", d.KMSKeyID, s.ID, apart(d.KMSKeyARN, s.KMSKeyID), join(s.IDs()))
	}
	return why
}

// Elsewhere says that a key given by its ARN is in another account or Region
// than the published key of the signer, which no answer of KMS can put right;
// nothing where it is not, or where the registry knows that very ARN.
func Elsewhere(kmsKeyID string, s registry.Signer) []finding.Finding {
	where := apart(kmsKeyID, s.KMSKeyID)
	if where == "" || slices.Contains(s.IDs(), kmsKeyID) {
		return nil
	}
	return mismatch("the KMS key %s is not the one that signer %s is published with, %s%s", kmsKeyID, s.ID, s.KMSKeyID, where)
}

func mismatch(format string, args ...any) []finding.Finding {
	return []finding.Finding{{Rule: RuleDeployMismatch, Severity: finding.Error, Message: fmt.Sprintf(format, args...)}}
}

// NotReady is the finding that a signer may not sign yet.
func NotReady(format string, args ...any) finding.Finding {
	return finding.Finding{Rule: RuleNotReady, Severity: finding.Error, Message: fmt.Sprintf(format, args...)}
}

// owner names the other signer that a key belongs to.
func owner(k pubkey.Key, reg *registry.Registry, arch *registry.Archive) string {
	for _, s := range reg.Signers {
		if !s.Key.IsZero() && s.Key.Fingerprint() == k.Fingerprint() {
			return "; that is the key of signer " + s.ID
		}
	}
	for _, s := range arch.Retired {
		if !s.Key.IsZero() && s.Key.Fingerprint() == k.Fingerprint() {
			return "; that is the key of the retired signer " + s.ID
		}
	}
	return ""
}

// apart says in which account and Region two keys are, if their ARNs differ in
// that: arn:partition:kms:region:account:key/id.
func apart(deployed, published string) string {
	is, was := strings.SplitN(deployed, ":", 6), strings.SplitN(published, ":", 6)
	if len(is) != 6 || len(was) != 6 || is[0] != "arn" || was[0] != "arn" {
		return ""
	}
	text := ""
	if is[4] != was[4] {
		text += fmt.Sprintf("; it is in account %s, the published key in %s", is[4], was[4])
	}
	if is[3] != was[3] {
		text += fmt.Sprintf("; it is in Region %s, the published key in %s", is[3], was[3])
	}
	return text
}

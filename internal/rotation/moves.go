package rotation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

func join(list []string) string { return strings.Join(list, ", ") }

// SignersSeen lists the signer ids of a chain with their counts, the most
// recent last.
func SignersSeen(r *chain.Report) string {
	ids := slices.SortedFunc(maps.Keys(r.Signers), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Signers[a].LastPosition, r.Signers[b].LastPosition), cmp.Compare(a, b))
	})
	if len(ids) == 0 {
		return "none"
	}
	for i, id := range ids {
		ids[i] = fmt.Sprintf("%s (%d)", id, r.Signers[id].Events)
	}
	return join(ids)
}

// DeploySettings are the four settings that make the service sign with s, in
// the order in which the runbook names them.
func DeploySettings(s Signer) [][2]string {
	source := "kms"
	if s.KMSKeyARN == "" {
		source = "file"
	}
	return [][2]string{
		{"AUDIT_SIGNING_KEY_SOURCE", source},
		{"AUDIT_SIGNING_KMS_KEY_ID", s.KMSKeyARN},
		{"AUDIT_SIGNING_ALG", string(s.Algorithm)},
		{"AUDIT_SIGNER_KID", s.ID},
	}
}

// Deployment is what a deploy job is about to configure.
type Deployment struct {
	SignerID string
	// KMSKeyID is the setting's text; Key what KMS has under it (zero for an
	// HMAC key, which exports none), Algorithm what it signs with.
	KMSKeyID  string
	KMSKeyARN string
	Key       pubkey.Key
	Algorithm pubkey.Algorithm
}

// The rules that a deployment must keep to; docs/rules.md explains each.
const (
	RuleDeployMismatch = "deploy-mismatch"
	RuleExpectedSigner = "expected-signer"
)

// Guard says why a deployment must not go ahead, nothing if it may: the signer
// must be published, and the key that will sign must be the one published.
func Guard(d Deployment, reg *registry.Registry, arch *registry.Archive) []string {
	s, ok := reg.Find(d.SignerID)
	if !ok {
		if _, retired := arch.Find(d.SignerID); retired {
			return []string{fmt.Sprintf("signer %s is retired: every event it signs from now on is an alarm. Deploy the current signer, or roll the rotation back", d.SignerID)}
		}
		return []string{fmt.Sprintf("signer %s is not in %s on the default branch: its events could not be verified. Merge its add-signer pull request first", d.SignerID, reg.Name)}
	}
	var why []string
	if d.Algorithm != s.Algorithm {
		why = append(why, fmt.Sprintf("signer %s is published for %s, the KMS key %s signs with %s", s.ID, s.Algorithm, d.KMSKeyID, d.Algorithm))
	}
	if !s.Key.IsZero() && !d.Key.IsZero() && s.Key.Fingerprint() != d.Key.Fingerprint() {
		other := ""
		for _, o := range reg.Signers {
			if !o.Key.IsZero() && o.Key.Fingerprint() == d.Key.Fingerprint() {
				other = fmt.Sprintf("; that is the key of signer %s", o.ID)
			}
		}
		why = append(why, fmt.Sprintf("the KMS key %s has fingerprint %s, signer %s is published with %s%s", d.KMSKeyID, d.Key.Fingerprint(), s.ID, s.Key.Fingerprint(), other))
	}
	if s.Algorithm == pubkey.HMACSHA256 && s.KMSKeyID != d.KMSKeyARN {
		why = append(why, fmt.Sprintf("HMAC signer %s is published for KMS key %s, the deployment uses %s", s.ID, s.KMSKeyID, d.KMSKeyARN))
	}
	if !slices.Contains(s.IDs(), d.KMSKeyID) {
		why = append(why, fmt.Sprintf("Agent Manager writes the KMS key id that it is configured with as signer_kid, and %s is neither the id nor an alias of signer %s: set AUDIT_SIGNING_KMS_KEY_ID to one of %s, or add the alias", d.KMSKeyID, s.ID, join(s.IDs())))
	}
	return why
}

package rotation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
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

// Newest is the latest time that an event of a chain claims, zero if none does.
func Newest(r *chain.Report) (t time.Time) {
	for _, use := range r.Signers {
		t = latest(&t, use.LastCreatedAt, use.LastNotBefore)
	}
	return t
}

// DeploySettings are the four settings that make the service sign with s, in
// the order in which the runbook names them.
func DeploySettings(s record.Signer) [][2]string {
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

// SettingsBack are those of DeploySettings for a signer that was deployed before.
// Where its key is may be unknown; then the first two are left out, because
// nobody should deploy a guess.
func SettingsBack(s record.Signer) [][2]string {
	all := DeploySettings(s)
	if s.KMSKeyARN == "" {
		return all[2:]
	}
	return all
}

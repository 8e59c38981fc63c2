package rotation

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

func keyText(t *testing.T, seed byte) string {
	t.Helper()
	_, after, _ := strings.Cut(entryOf("x", seed), `"publicKey":"`)
	text, _, _ := strings.Cut(after, `"`)
	return text
}

func TestSignersSeenInOrderOfTheirLastEvent(t *testing.T) {
	r := &chain.Report{Signers: map[string]chain.SignerUse{"c": {Events: 1, LastPosition: 9}, "a": {Events: 5, LastPosition: 7}, "b": {Events: 2, LastPosition: 7}}}
	for range 20 {
		if got := SignersSeen(r); got != "a (5), b (2), c (1)" {
			t.Fatalf("got %q", got)
		}
	}
	if got := SignersSeen(&chain.Report{}); got != "none" {
		t.Errorf("got %q", got)
	}
}

func TestDeploySettings(t *testing.T) {
	kms := DeploySettings(record.Signer{ID: "new", Algorithm: pubkey.Ed25519, KMSKeyARN: "arn:new"})
	if kms[0][1] != "kms" || kms[1][1] != "arn:new" || kms[2][1] != "ed25519" || kms[3] != [2]string{"AUDIT_SIGNER_KID", "new"} {
		t.Errorf("%v", kms)
	}
	if back := SettingsBack(record.Signer{ID: "old", Algorithm: pubkey.Ed25519}); len(back) != 2 || back[1][1] != "old" {
		t.Errorf("the settings of a signer whose key is unknown: %v", back)
	}
	if local := DeploySettings(record.Signer{ID: "new", Algorithm: pubkey.Ed25519}); local[0][1] != "file" || local[1][1] != "" {
		t.Errorf("%v", local)
	}
}

package chain_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

func TestParseDigest(t *testing.T) {
	const good = "00ff0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
	d, ok := chain.ParseDigest([]byte(good))
	if !ok || d.String() != good || d[1] != 0xff || d[31] != 0xab {
		t.Errorf("%v %s", ok, d)
	}
	for _, bad := range []string{"", "00", good[:63], good + "0", strings.ToUpper(good), good[:63] + "g", good[:63] + "G", " " + good[:63], good[:62] + "\x00\x00", good[:62] + "é", good[:63] + "/", good[:63] + ":", good[:63] + "`"} {
		if d, ok := chain.ParseDigest([]byte(bad)); ok || d != (chain.Digest{}) {
			t.Errorf("%q was read as %s", bad, d)
		}
		if err := json.Unmarshal([]byte(`"`+strings.ReplaceAll(bad, "\x00", "")+`"`), &d); err == nil {
			t.Errorf("%q was read from JSON", bad)
		}
	}
	var again chain.Digest
	text, _ := json.Marshal(d)
	if err := json.Unmarshal(text, &again); err != nil || again != d || string(text) != `"`+good+`"` {
		t.Errorf("%s %v", text, err)
	}
}

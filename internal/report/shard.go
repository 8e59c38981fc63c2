package report

import (
	"fmt"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// Shard is the summary of one shard, which is no verdict on the chain.
func Shard(p *chain.Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Shard %s: %s read\n\n", code(p.Shard), count(p.Events, "event"))
	if p.Failed() {
		b.WriteString("Something in it is wrong, so the chain is not sound.\n\n")
	} else {
		fmt.Fprintf(&b, "Nothing in it is wrong. Whether its %s and those of the other shards are one chain, mode join tells.\n\n", count(int64(len(p.Segments)), "segment"))
	}
	all := p.List()
	findings(&b, all, max(int64(len(all)), p.FindingsTotal), p.ByRule)
	checks(&b, p.Signatures)
	return b.String()
}

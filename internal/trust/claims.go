package trust

import (
	"context"
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// Claims are rows by signers that nobody knew, and whose key was nobody's, kept
// so that a key that turns up later can be held against them: an id says nothing
// about who signed. A nil *Claims keeps none.
type Claims struct {
	mu   sync.Mutex
	byID map[string]map[kept]bool
	n    int
}

type kept struct {
	digest    chain.Digest
	signature string
}

// maxClaims are some megabytes, and more than a report lists.
const maxClaims = 10_000

func (c *Claims) add(claim *chain.Claim) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID = map[string]map[kept]bool{}
	}
	rows, row := c.byID[string(claim.Signer)], kept{claim.Digest, string(claim.Signature)}
	if rows[row] || c.n >= maxClaims { // a chain may be read twice
		return
	}
	if rows == nil {
		rows = map[kept]bool{}
		c.byID[string(claim.Signer)] = rows
	}
	rows[row] = true
	c.n++
}

// Signed counts the rows under an id that were kept, and those of them that the
// set accepts. An error means that it cannot tell, as of an HMAC signer.
func (c *Claims) Signed(ctx context.Context, id string, by *Set) (signed, rows int64, err error) {
	if c == nil {
		return 0, 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var claims []chain.Claim
	for row := range c.byID[id] {
		claims = append(claims, chain.Claim{Signer: []byte(id), Signature: []byte(row.signature), Digest: row.digest})
	}
	judged := make([]chain.Judgement, len(claims))
	if err := by.Judge(ctx, claims, judged); err != nil {
		return 0, int64(len(claims)), err
	}
	for _, j := range judged {
		if j.Rule == "" {
			signed++
		}
	}
	return signed, int64(len(claims)), nil
}

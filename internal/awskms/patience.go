package awskms

import (
	"context"
	"math/rand/v2"
	"time"
)

// What a Client waits for where its Options do not say. The fault tests of the
// actions replace this file by one in which time passes faster.
const (
	attempts     = 4
	longestPause = 5 * time.Second
	attemptTime  = 30 * time.Second
	settleTime   = time.Minute
)

// parting is a random pause before a key is made, none where KMS is on this
// machine: nobody else makes one there.
func (c *Client) parting() time.Duration {
	if c.local {
		return 0
	}
	return rand.N(10 * time.Second)
}

// sleep waits, or returns the context's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

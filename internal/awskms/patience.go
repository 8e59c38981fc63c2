package awskms

import (
	"context"
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

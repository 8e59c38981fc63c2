package awskms

import (
	"context"
	"time"
)

const (
	attempts     = 4
	longestPause = 5 * time.Millisecond
	attemptTime  = 800 * time.Millisecond
	settleTime   = 60 * time.Millisecond
)

func sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d)
	return ctx.Err()
}

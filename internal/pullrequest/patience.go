package pullrequest

import (
	"context"
	"time"
)

// What a run waits for, and how. The fault tests of the actions replace this
// file by one in which time passes faster.
const attemptTime = 30 * time.Second // ends one request

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

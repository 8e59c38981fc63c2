package pullrequest

import (
	"context"
	"time"
)

const attemptTime = 800 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d / 1000)
	return ctx.Err()
}

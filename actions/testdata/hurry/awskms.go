package awskms

import (
	"context"
	"math/rand/v2"
	"os"
	"time"
)

const (
	attempts     = 4
	longestPause = 5 * time.Millisecond
	attemptTime  = 800 * time.Millisecond
	settleTime   = 60 * time.Millisecond
)

// What a call takes is no thousandth of what it takes there: where runs race, they
// are given time to part.
func (*Client) parting() time.Duration {
	longest, err := time.ParseDuration(os.Getenv("HURRY_PARTING"))
	if err != nil {
		longest = time.Millisecond
	}
	return rand.N(longest)
}

func sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d)
	return ctx.Err()
}

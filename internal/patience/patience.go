// Package patience bounds what a run spends on being refused: the attempts that
// failed and the pauses before the next ones, over all services together.
//
// A budget travels in the context, as a deadline does, because every adapter
// draws on the same one. Unlike a deadline it leaves work that goes well alone:
// a long verification takes its time. Without a budget nothing is bounded here.
package patience

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Default is what suits most: GitHub's own documentation lets a client wait for
// minutes ("Rate limits for the REST API").
const Default = 10 * time.Minute

// Longest is the most that makes sense: a limit of GitHub's is lifted within the
// hour, and a job ends after six.
const Longest = 2 * time.Hour

// Budget is what is left for retries. A nil Budget never ends.
type Budget struct {
	total time.Duration

	mu    sync.Mutex
	spent time.Duration
}

// New makes a Budget.
func New(total time.Duration) *Budget { return &Budget{total: total} }

// Spent says that the next try is due beyond the budget. Err is what made it
// necessary, nil if nobody said.
type Spent struct {
	Total, Pause time.Duration
	Err          error
}

func (s *Spent) Error() string {
	if s.Err != nil {
		return s.Err.Error() + "; " + s.Due()
	}
	return s.Due()
}

// ExitCode is 3, whatever the cause's: more time might have helped.
func (*Spent) ExitCode() int { return 3 }

// Due says of the budget what the error says, without the cause.
func (s *Spent) Due() string {
	return fmt.Sprintf("the next try is due in %s, beyond the time budget of %s for retries (retry-budget)", s.Pause.Round(time.Second), s.Total)
}

// Unwrap gives the cause.
func (s *Spent) Unwrap() error { return s.Err }

// Took counts what a failed attempt took.
func (b *Budget) Took(d time.Duration) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent += d
}

// Pause takes a pause out of the budget before it is made, or is a *Spent that
// wraps cause.
func (b *Budget) Pause(d time.Duration, cause error) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent+d > b.total {
		return &Spent{b.total, d, cause}
	}
	b.spent += d
	return nil
}

type key struct{}

// With lets calls under a context draw on a budget.
func With(ctx context.Context, b *Budget) context.Context { return context.WithValue(ctx, key{}, b) }

// From is the context's budget, nil if it has none.
func From(ctx context.Context) *Budget {
	b, _ := ctx.Value(key{}).(*Budget)
	return b
}

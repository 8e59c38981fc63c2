package patience_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

func TestBudget(t *testing.T) {
	cause := errors.New("throttled")
	b := patience.From(patience.With(context.Background(), patience.New(10*time.Second)))
	if err := b.Pause(4*time.Second, cause); err != nil {
		t.Error(err)
	}
	b.Took(2 * time.Second)
	err := b.Pause(5*time.Second, cause)
	if want := "throttled; the next try is due in 5s, beyond the time budget of 10s for retries (retry-budget)"; err == nil || err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := b.Pause(4*time.Second, nil); err != nil {
		t.Errorf("a refused pause was counted: %v", err)
	}
	if err := b.Pause(time.Nanosecond, nil); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("%v, want a refusal without a cause", err)
	}
	endless := patience.From(context.Background())
	endless.Took(time.Hour)
	if err := endless.Pause(1000*time.Hour, cause); err != nil {
		t.Error(err)
	}
}

package awskms_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

func TestEnableDisable(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Spec: "RSA_2048", Aliases: []string{"alias/old"}})
	state := func() string {
		key, err := c.Describe(ctx, arn)
		if err != nil {
			t.Fatal(err)
		}
		return key.State
	}
	_, id, _ := strings.Cut(arn, ":key/")
	for _, name := range []string{arn, id, "alias/old", strings.Replace(arn, "key/"+id, "alias/old", 1)} {
		for range 2 { // the second time nothing is to be done
			if err := c.Disable(ctx, name); err != nil || state() != "Disabled" {
				t.Errorf("Disable %q: %v, %s", name, err, state())
			}
		}
		for range 2 {
			if err := c.Enable(ctx, name); err != nil || state() != "Enabled" {
				t.Errorf("Enable %q: %v, %s", name, err, state())
			}
		}
	}
	if d, e := s.Count("DisableKey"), s.Count("EnableKey"); d != 4 || e != 4 {
		t.Errorf("%d DisableKey and %d EnableKey calls, want 4 each", d, e)
	}
}

func TestStateRefusals(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	mac := s.Import(kmstest.Key{Spec: "HMAC_256"})
	dying := s.Import(kmstest.Key{Spec: "RSA_2048", State: kmstest.PendingDeletion})
	wantError(t, c.Disable(ctx, mac), 2, mac, "HMAC key", "keep it enabled")
	wantError(t, c.Disable(ctx, dying), 2, dying, "PendingDeletion", "a person")
	wantError(t, c.Enable(ctx, dying), 2, dying, "PendingDeletion", "a person")
	wantError(t, c.Enable(ctx, "alias/none"), 2, "NotFoundException")
	if s.Count("DisableKey")+s.Count("EnableKey") != 0 {
		t.Errorf("KMS was asked to change something: %v", s.Calls())
	}
	// An HMAC key that was disabled by hand may come back.
	s.SetState(mac, kmstest.Disabled)
	if err := c.Enable(ctx, mac); err != nil {
		t.Error(err)
	}
	key := s.Import(kmstest.Key{Spec: "RSA_2048"})
	s.Deny("DisableKey")
	wantError(t, c.Disable(ctx, key), 3, "KMS DisableKey of", "allow kms:DisableKey")
}

// A change that does not show is not reported as done.
func TestStateIsReadBack(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Spec: "RSA_2048"})
	s.SetFault(func(operation string, _ *http.Request) *kmstest.Fault {
		if operation == "DescribeKey" { // somebody keeps enabling the key
			s.SetState(key, kmstest.Enabled)
		}
		return nil
	})
	wantError(t, c.Disable(ctx, key), 3, "KMS DisableKey of", "still reads Enabled")

	s.SetFault(func(operation string, _ *http.Request) *kmstest.Fault {
		if operation == "DescribeKey" && s.Count("DisableKey") > 1 {
			return &kmstest.Fault{Status: 503}
		}
		return nil
	})
	wantError(t, c.Disable(ctx, key), 3, "KMS has accepted DisableKey", "not known", "KMS DescribeKey")
}

// Retries draw on the run's budget, whatever asks for them: the SDK's own, a
// search for a lost key, the wait for a state to show.
func TestBudget(t *testing.T) {
	create := func(ctx context.Context, c *awskms.Client, _ string) error {
		_, err := c.Create(ctx, creation)
		return err
	}
	for name, c1 := range map[string]struct {
		operation string
		fault     kmstest.Fault
		ask       func(context.Context, *awskms.Client, string) error
		says      string
	}{
		"throttled": {"GetPublicKey", kmstest.Fault{Code: "ThrottlingException"}, func(ctx context.Context, c *awskms.Client, arn string) error {
			_, err := c.PublicKey(ctx, arn)
			return err
		}, "ThrottlingException"},
		"throttled, and not to be sent again blindly": {"CreateKey", kmstest.Fault{Code: "ThrottlingException"}, create, "ThrottlingException"},
		"an answer that is lost":                      {"CreateKey", kmstest.Fault{Status: 502}, create, "running this again finds it"},
		"a state that does not show":                  {"DisableKey", kmstest.Fault{Status: 200}, func(ctx context.Context, c *awskms.Client, arn string) error { return c.Disable(ctx, arn) }, "whether it took effect is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := setup(t, kmstest.Options{Fault: kmstest.Script(kmstest.Step{Operation: c1.operation, Fault: c1.fault})})
			arn := s.Import(kmstest.Key{Spec: "ECC_NIST_EDWARDS25519"})
			within := patience.With(ctx, patience.New(time.Nanosecond))
			c, err := awskms.New(within, awskms.Options{})
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, c1.ask(within, c, arn), 3, c1.operation, c1.says, "beyond the time budget of 1ns for retries")
			if n := s.Count(c1.operation); n != 1 {
				t.Errorf("%s was called %d times", c1.operation, n)
			}
		})
	}
}

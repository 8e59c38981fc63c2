package awskms_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
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

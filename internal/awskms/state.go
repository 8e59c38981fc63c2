package awskms

import (
	"context"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Enable makes a disabled key usable again and waits until that shows. A key
// that is enabled is left alone; one that is to be deleted is refused, because
// cancelling a deletion is a person's decision. It needs kms:DescribeKey and
// kms:EnableKey.
func (c *Client) Enable(ctx context.Context, keyID string) error {
	return c.setState(ctx, keyID, types.KeyStateEnabled, "EnableKey", func(arn *string, t target) error {
		_, err := c.kms.EnableKey(ctx, &kms.EnableKeyInput{KeyId: arn}, t.here)
		return err
	})
}

// Disable makes a key unusable and waits until that shows; Enable takes it
// back. A disabled key is left alone. An HMAC key is refused: it has no public
// half, so that without it no event that it signed can be verified any more. It
// needs kms:DescribeKey and kms:DisableKey.
func (c *Client) Disable(ctx context.Context, keyID string) error {
	return c.setState(ctx, keyID, types.KeyStateDisabled, "DisableKey", func(arn *string, t target) error {
		_, err := c.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: arn}, t.here)
		return err
	})
}

func (c *Client) setState(ctx context.Context, keyID string, want types.KeyState, operation string, change func(*string, target) error) error {
	key, err := c.Describe(ctx, keyID)
	if err != nil {
		return err
	}
	t := target{key.ARN, key.Region}
	switch {
	case key.State == string(want):
		return nil
	case key.State != string(types.KeyStateEnabled) && key.State != string(types.KeyStateDisabled):
		return t.refuse(fmt.Sprintf("its state is %s, from which it cannot become %s; a person has to look at it in the AWS console", key.State, want))
	case want == types.KeyStateDisabled && key.Algorithm() == pubkey.HMACSHA256:
		return t.refuse("it is an HMAC key, without which the events it signed cannot be verified; keep it enabled and take kms:GenerateMac away from the service instead")
	}
	if err := change(&key.ARN, t); err != nil {
		return t.fail(operation, err)
	}
	var now Key
	done, err := c.eventually(ctx, func() (bool, error) {
		now, err = c.Describe(ctx, key.ARN)
		return err == nil && now.State == string(want), err
	})
	if err != nil {
		return fmt.Errorf("KMS has accepted %s, but whether it took effect is not known: %w", operation, err)
	}
	if !done {
		return t.doubt(operation, fmt.Sprintf("KMS has accepted it, but the state still reads %s after %v; look again in a few minutes", now.State, c.settle))
	}
	return nil
}

package awskms

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// kind is what a key spec is good for.
type kind struct {
	usage     types.KeyUsageType
	algorithm pubkey.Algorithm
}

// Specs is the closed list of key specs, under AWS's names.
var Specs = []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_EDWARDS25519", "HMAC_256"}

var kinds = map[string]kind{
	"RSA_2048":              {types.KeyUsageTypeSignVerify, pubkey.RSASHA256},
	"RSA_3072":              {types.KeyUsageTypeSignVerify, pubkey.RSASHA256},
	"RSA_4096":              {types.KeyUsageTypeSignVerify, pubkey.RSASHA256},
	"ECC_NIST_EDWARDS25519": {types.KeyUsageTypeSignVerify, pubkey.Ed25519},
	"HMAC_256":              {types.KeyUsageTypeGenerateVerifyMac, pubkey.HMACSHA256},
}

// Key is what KMS says of a key. The names of specs, usages, states, origins
// and managers are AWS's (API Reference, KeyMetadata).
type Key struct {
	ARN     string
	ID      string
	Account string
	Region  string
	Spec    string
	Usage   string
	State   string // Enabled, Disabled, PendingDeletion, …
	Origin  string // AWS_KMS, EXTERNAL, …
	Manager string // CUSTOMER or AWS
	// CreatedAt is by AWS's clock.
	CreatedAt time.Time
	// Replicas are the ARNs of the same key in other Regions, where it can
	// sign too and where another CloudTrail records that; empty for a
	// single-Region key.
	Replicas []string
}

// Algorithm is the audit algorithm that the key signs with, "" for a key spec
// outside the closed list.
func (k Key) Algorithm() pubkey.Algorithm { return kinds[k.Spec].algorithm }

// Check returns what makes the key unfit to sign audit events, one sentence
// each, nothing for a fit key. A key must be Enabled, of a spec of the closed
// list with the usage that goes with it, made inside KMS (origin AWS_KMS), the
// customer's, and, when accounts are given, in one of them.
func (k Key) Check(accounts []string) []string {
	var unfit []string
	say := func(format string, args ...any) { unfit = append(unfit, fmt.Sprintf(format, args...)) }
	if k.State != string(types.KeyStateEnabled) {
		say("its state is %s, not Enabled: enable it or choose another key", k.State)
	}
	if want, ok := kinds[k.Spec]; !ok {
		say("its key spec is %s, not one of %s: make a key with one of these", k.Spec, strings.Join(Specs, ", "))
	} else if k.Usage != string(want.usage) {
		say("its usage is %s, not %s: make a key with --key-usage %s", k.Usage, want.usage, want.usage)
	}
	if k.Origin != string(types.OriginTypeAwsKms) {
		say("its origin is %s, not AWS_KMS: its material may exist outside KMS, make a key inside KMS", k.Origin)
	}
	if k.Manager != string(types.KeyManagerTypeCustomer) {
		say("it is managed by %s, not by the customer: make a key of your own", k.Manager)
	}
	if len(accounts) > 0 && !slices.Contains(accounts, k.Account) {
		say("it belongs to account %s, not to %s: choose a key of an allowed account", k.Account, strings.Join(accounts, ", "))
	}
	return unfit
}

// Describe looks a key up by key id, key ARN, alias name or alias ARN. It needs
// kms:DescribeKey.
func (c *Client) Describe(ctx context.Context, keyID string) (Key, error) {
	t, err := c.at(keyID)
	if err != nil {
		return Key{}, err
	}
	var out *kms.DescribeKeyOutput
	err = c.known(ctx, keyID, func() (err error) {
		out, err = c.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &keyID}, t.here)
		return err
	})
	if err != nil {
		return Key{}, t.fail("DescribeKey", err)
	}
	return t.key("DescribeKey", out.KeyMetadata)
}

// key reads KMS's description.
func (t target) key(operation string, m *types.KeyMetadata) (Key, error) {
	if m == nil {
		return Key{}, t.doubt(operation, "the answer describes no key")
	}
	a, err := arn.Parse(aws.ToString(m.Arn))
	if err != nil {
		return Key{}, t.doubt(operation, "the answer names no key ARN")
	}
	k := Key{
		ARN:       a.String(),
		ID:        aws.ToString(m.KeyId),
		Account:   a.AccountID,
		Region:    a.Region,
		Spec:      string(m.KeySpec),
		Usage:     string(m.KeyUsage),
		State:     string(m.KeyState),
		Origin:    string(m.Origin),
		Manager:   string(m.KeyManager),
		CreatedAt: aws.ToTime(m.CreationDate),
	}
	if family := m.MultiRegionConfiguration; family != nil {
		members := family.ReplicaKeys
		if family.PrimaryKey != nil {
			members = append(members, *family.PrimaryKey)
		}
		for _, member := range members {
			if other := aws.ToString(member.Arn); other != k.ARN {
				k.Replicas = append(k.Replicas, other)
			}
		}
	}
	return k, nil
}

// PublicKey reads the public half of a key, and makes sure that the key is for
// signing and that what KMS says of it agrees with what it is. It needs
// kms:GetPublicKey. HMAC keys have no public half.
func (c *Client) PublicKey(ctx context.Context, keyID string) (pubkey.Key, error) {
	const operation = "GetPublicKey"
	t, err := c.at(keyID)
	if err != nil {
		return pubkey.Key{}, err
	}
	var out *kms.GetPublicKeyOutput
	err = c.known(ctx, keyID, func() (err error) {
		out, err = c.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &keyID}, t.here)
		return err
	})
	if awsapi.Is(err, "UnsupportedOperationException") {
		return pubkey.Key{}, t.refuse("KMS exports no public key of it, as it is for HMAC or encryption; choose a key for signing")
	}
	if err != nil {
		return pubkey.Key{}, t.fail(operation, err)
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return pubkey.Key{}, t.refuse(fmt.Sprintf("its usage is %s, not SIGN_VERIFY; choose a key for signing", out.KeyUsage))
	}
	key, err := pubkey.ParseSPKI(out.PublicKey)
	if err != nil {
		return pubkey.Key{}, fmt.Errorf("%s: the public key is not accepted: %w", t.name(operation), err)
	}
	if key.Spec() != string(out.KeySpec) {
		return pubkey.Key{}, t.doubt(operation, fmt.Sprintf("KMS calls it %s, but the public key is %s; do not use this key", out.KeySpec, key.Spec()))
	}
	return key, nil
}

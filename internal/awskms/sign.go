package awskms

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// signatures says how KMS is to be asked so that its signature is one over the
// 32 digest bytes themselves. For RSA they are the hash value (DIGEST), for
// Ed25519 the message: ED25519_PH_SHA_512 would hash them again and its
// signatures do not verify as plain Ed25519 (API Reference, Sign).
var signatures = map[pubkey.Algorithm]struct {
	spec types.SigningAlgorithmSpec
	kind types.MessageType
}{
	pubkey.RSASHA256: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.MessageTypeDigest},
	pubkey.Ed25519:   {types.SigningAlgorithmSpecEd25519Sha512, types.MessageTypeRaw},
}

// Sign signs an audit digest as the audited service does: the raw signature for
// rsa-sha256 and ed25519, which needs kms:Sign, the 32 bytes of the MAC for
// hmac-sha256, which needs kms:GenerateMac.
func (c *Client) Sign(ctx context.Context, keyID string, alg pubkey.Algorithm, digest [32]byte) ([]byte, error) {
	return c.sign(ctx, keyID, alg, digest, nil)
}

// CheckSigning asks KMS whether Sign would succeed, without a signature being
// made (DryRun). It needs what Sign needs.
func (c *Client) CheckSigning(ctx context.Context, keyID string, alg pubkey.Algorithm) error {
	_, err := c.sign(ctx, keyID, alg, [32]byte{}, aws.Bool(true))
	if awsapi.Is(err, "DryRunOperationException") {
		return nil
	}
	if err == nil {
		return target{keyID, c.region}.doubt("Sign", "KMS made a signature although only a dry run was asked for")
	}
	return err
}

func (c *Client) sign(ctx context.Context, keyID string, alg pubkey.Algorithm, digest [32]byte, dryRun *bool) ([]byte, error) {
	t, err := c.at(keyID)
	if err != nil {
		return nil, err
	}
	if alg == pubkey.HMACSHA256 {
		var out *kms.GenerateMacOutput
		err := c.known(ctx, keyID, func() (err error) {
			out, err = c.kms.GenerateMac(ctx, &kms.GenerateMacInput{
				KeyId: &keyID, Message: digest[:], MacAlgorithm: types.MacAlgorithmSpecHmacSha256, DryRun: dryRun,
			}, t.here)
			return err
		})
		if err != nil {
			return nil, t.fail("GenerateMac", err)
		}
		if len(out.Mac) != sha256.Size {
			return nil, t.doubt("GenerateMac", fmt.Sprintf("the MAC has %d bytes, not 32", len(out.Mac)))
		}
		return out.Mac, nil
	}
	how, ok := signatures[alg]
	if !ok {
		return nil, t.refuse(fmt.Sprintf("algorithm %q is none of rsa-sha256, ed25519, hmac-sha256; use one of these", alg))
	}
	var out *kms.SignOutput
	err = c.known(ctx, keyID, func() (err error) {
		out, err = c.kms.Sign(ctx, &kms.SignInput{
			KeyId: &keyID, Message: digest[:], MessageType: how.kind, SigningAlgorithm: how.spec, DryRun: dryRun,
		}, t.here)
		return err
	})
	if err != nil {
		return nil, t.fail("Sign", err)
	}
	if n := len(out.Signature); n == 0 || alg == pubkey.Ed25519 && n != ed25519.SignatureSize {
		return nil, t.doubt("Sign", fmt.Sprintf("the signature has %d bytes, which no %s signature has", n, alg))
	}
	return out.Signature, nil
}

// VerifyMAC asks KMS whether mac is the HMAC-SHA-256 of an audit digest under
// the key. It needs kms:VerifyMac. KMS answers a wrong MAC with an error of its
// own, which is false here; every other error means that nothing is known.
func (c *Client) VerifyMAC(ctx context.Context, keyID string, digest [32]byte, mac []byte) (bool, error) {
	t, err := c.at(keyID)
	if err != nil {
		return false, err
	}
	if len(mac) != sha256.Size {
		return false, nil
	}
	out, err := c.kms.VerifyMac(ctx, &kms.VerifyMacInput{
		KeyId: &keyID, Message: digest[:], Mac: mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	}, t.here)
	if awsapi.Is(err, "KMSInvalidMacException") {
		return false, nil
	}
	if err != nil {
		return false, t.fail("VerifyMac", err)
	}
	return out.MacValid, nil
}

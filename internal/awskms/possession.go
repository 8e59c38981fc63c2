package awskms

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Prove lets KMS sign a challenge for the rotation. identity is the key's
// fingerprint, or, for an HMAC key, which has none, its ARN; nonce is 32 random
// bytes. The proof of an asymmetric key is to be checked with
// [pubkey.Possession.Check]; that of an HMAC key has been checked by KMS (VerifyMac)
// when Prove returns, and only KMS can check it. Beside what Sign needs, HMAC
// keys need kms:VerifyMac.
func (c *Client) Prove(ctx context.Context, keyID string, alg pubkey.Algorithm, rotationID, identity string, nonce [32]byte) (pubkey.Possession, error) {
	t, err := c.at(keyID)
	if err != nil {
		return pubkey.Possession{}, err
	}
	if rotationID == "" || identity == "" || strings.ContainsAny(rotationID+identity, "\r\n") {
		return pubkey.Possession{}, t.refuse("rotation id and key identity of a possession proof must each be one line of text; check the rotation id")
	}
	text := pubkey.Challenge(rotationID, identity, nonce)
	digest := sha256.Sum256([]byte(text))
	signature, err := c.Sign(ctx, keyID, alg, digest)
	if err != nil {
		return pubkey.Possession{}, err
	}
	if alg == pubkey.HMACSHA256 {
		ok, err := c.VerifyMAC(ctx, keyID, digest, signature)
		if err != nil {
			return pubkey.Possession{}, err
		}
		if !ok {
			return pubkey.Possession{}, t.doubt("VerifyMac", "KMS does not accept the MAC that it has just made; do not use this key")
		}
	}
	return pubkey.Possession{Challenge: text, Digest: hex.EncodeToString(digest[:]), Signature: base64.StdEncoding.EncodeToString(signature)}, nil
}

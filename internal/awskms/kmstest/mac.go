package kmstest

import (
	"crypto/hmac"
	"crypto/sha256"
)

// macing holds the members that GenerateMac and VerifyMac share.
type macing struct {
	KeyId        string
	Message      []byte
	MacAlgorithm string
	GrantTokens  []string
	DryRun       bool
}

func (in macing) compute(c *call) (*storedKey, []byte, error) {
	if err := size("message", in.Message, 4096); err != nil {
		return nil, nil, err
	}
	if err := oneOf("macAlgorithm", in.MacAlgorithm, []string{"HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}); err != nil {
		return nil, nil, err
	}
	k, err := c.find(in.KeyId, true)
	if err != nil {
		return nil, nil, err
	}
	if err := k.usable(); err != nil {
		return nil, nil, err
	}
	if k.Usage != "GENERATE_VERIFY_MAC" {
		return nil, nil, fail("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", k.arn, k.Usage, c.operation)
	}
	secret, ok := k.Material.([]byte)
	if !ok || k.Spec != "HMAC_256" || in.MacAlgorithm != "HMAC_SHA_256" {
		return nil, nil, fail("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", in.MacAlgorithm, k.Spec)
	}
	h := hmac.New(sha256.New, secret)
	h.Write(in.Message)
	return k, h.Sum(nil), nil
}

func generateMac(c *call) (any, error) {
	var in macing
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, mac, err := in.compute(c)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	return map[string]any{"KeyId": k.arn, "Mac": mac, "MacAlgorithm": in.MacAlgorithm}, nil
}

func verifyMac(c *call) (any, error) {
	var in struct {
		macing
		Mac []byte
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := size("mac", in.Mac, 6144); err != nil {
		return nil, err
	}
	k, mac, err := in.compute(c)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, in.Mac) {
		return nil, fail("KMSInvalidMacException", "The HMAC is not valid for this message and key.")
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	return map[string]any{"KeyId": k.arn, "MacValid": true, "MacAlgorithm": in.MacAlgorithm}, nil
}

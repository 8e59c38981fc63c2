package kmstest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"

	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
)

var rsaAlgorithms = []string{
	"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
}

var edAlgorithms = []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}

// awsAlgorithms are all values of SigningAlgorithm.
var awsAlgorithms = append(append([]string{
	"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256",
}, rsaAlgorithms...), edAlgorithms...)

var hashes = map[string]crypto.Hash{"_256": crypto.SHA256, "_384": crypto.SHA384, "_512": crypto.SHA512}

func signingAlgorithms(spec string) []string {
	switch {
	case strings.HasPrefix(spec, "RSA_"):
		return rsaAlgorithms
	case spec == "ECC_NIST_EDWARDS25519":
		return edAlgorithms
	}
	return nil
}

func getPublicKey(c *call) (any, error) {
	var in struct {
		KeyId       string
		GrantTokens []string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, err := c.find(in.KeyId, true)
	if err != nil {
		return nil, err
	}
	if err := k.usable(); err != nil {
		return nil, err
	}
	private, ok := k.Material.(crypto.Signer)
	if !ok {
		return nil, fail("UnsupportedOperationException", "%s has key spec %s, which has no public key", k.arn, k.Spec)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	answer := map[string]any{
		"KeyId": k.arn, "PublicKey": der, "KeyUsage": k.Usage,
		"KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec,
	}
	if k.Usage == "SIGN_VERIFY" {
		answer["SigningAlgorithms"] = signingAlgorithms(k.Spec)
	}
	return answer, nil
}

// signing holds the members that Sign and Verify share.
type signing struct {
	KeyId            string
	Message          []byte
	MessageType      *string
	SigningAlgorithm string
	GrantTokens      []string
	DryRun           bool
}

// prepare checks the request and returns the key and what it is to sign: the
// message for Ed25519, the hash value for RSA.
func (in signing) prepare(c *call) (*storedKey, []byte, error) {
	if err := size("message", in.Message, 4096); err != nil {
		return nil, nil, err
	}
	if err := oneOf("signingAlgorithm", in.SigningAlgorithm, awsAlgorithms); err != nil {
		return nil, nil, err
	}
	kind := "RAW"
	if in.MessageType != nil {
		kind = *in.MessageType
	}
	if err := oneOf("messageType", kind, []string{"RAW", "DIGEST", "EXTERNAL_MU"}); err != nil {
		return nil, nil, err
	}
	k, err := c.find(in.KeyId, true)
	if err != nil {
		return nil, nil, err
	}
	if err := k.usable(); err != nil {
		return nil, nil, err
	}
	if k.Usage != "SIGN_VERIFY" {
		return nil, nil, fail("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", k.arn, k.Usage, c.operation)
	}
	if !slices.Contains(signingAlgorithms(k.Spec), in.SigningAlgorithm) {
		return nil, nil, fail("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", in.SigningAlgorithm, k.Spec)
	}
	input, err := digest(in.SigningAlgorithm, kind, in.Message)
	return k, input, err
}

// digest applies the message type to the message.
func digest(algorithm, kind string, message []byte) ([]byte, error) {
	hash := hashes[algorithm[len(algorithm)-4:]]
	pure := algorithm == "ED25519_SHA_512"
	switch {
	case kind == "EXTERNAL_MU",
		pure && kind != "RAW",
		algorithm == "ED25519_PH_SHA_512" && kind != "DIGEST":
		return nil, fail("ValidationException", "MessageType %s is not valid for algorithm %s.", kind, algorithm)
	case kind == "DIGEST" && len(message) != hash.Size():
		return nil, fail("ValidationException", "Digest is invalid length for algorithm %s.", algorithm)
	case pure || kind == "DIGEST":
		return message, nil
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil), nil
}

func sign(c *call) (any, error) {
	var in signing
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, input, err := in.prepare(c)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	signature, err := signWith(k.Material, in.SigningAlgorithm, input)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.arn, "Signature": signature, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func signWith(material any, algorithm string, input []byte) ([]byte, error) {
	private, ok := material.(crypto.Signer)
	if !ok {
		return nil, fail("KMSInternalException", "the key was imported without material")
	}
	if strings.HasPrefix(algorithm, "ED25519") {
		return private.Sign(rand.Reader, edInput(algorithm, input), edOptions(algorithm))
	}
	return private.Sign(rand.Reader, input, rsaOptions(algorithm))
}

// edInput hashes the input of Ed25519ph, which the caller has hashed already:
// KMS hashes it again (API Reference, Sign, MessageType).
func edInput(algorithm string, input []byte) []byte {
	if algorithm != "ED25519_PH_SHA_512" {
		return input
	}
	h := crypto.SHA512.New()
	h.Write(input)
	return h.Sum(nil)
}

func edOptions(algorithm string) *ed25519.Options {
	if algorithm == "ED25519_PH_SHA_512" {
		return &ed25519.Options{Hash: crypto.SHA512}
	}
	return &ed25519.Options{}
}

func rsaOptions(algorithm string) crypto.SignerOpts {
	hash := hashes[algorithm[len(algorithm)-4:]]
	if strings.HasPrefix(algorithm, "RSASSA_PSS") {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return hash
}

func verify(c *call) (any, error) {
	var in struct {
		signing
		Signature []byte
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := size("signature", in.Signature, 6144); err != nil {
		return nil, err
	}
	k, input, err := in.prepare(c)
	if err != nil {
		return nil, err
	}
	if !verifyWith(k.Material, in.SigningAlgorithm, input, in.Signature) {
		return nil, fail("KMSInvalidSignatureException", "The signature is not valid for this message and key.")
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	return map[string]any{"KeyId": k.arn, "SignatureValid": true, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func verifyWith(material any, algorithm string, input, signature []byte) bool {
	switch m := material.(type) {
	case ed25519.PrivateKey:
		public := m.Public().(ed25519.PublicKey)
		return ed25519.VerifyWithOptions(public, edInput(algorithm, input), signature, edOptions(algorithm)) == nil
	case *rsa.PrivateKey:
		switch o := rsaOptions(algorithm).(type) {
		case *rsa.PSSOptions:
			return rsa.VerifyPSS(&m.PublicKey, o.Hash, input, signature, o) == nil
		case crypto.Hash:
			return rsa.VerifyPKCS1v15(&m.PublicKey, o, input, signature) == nil
		}
	}
	return false
}

func size(name string, blob []byte, most int) error {
	if len(blob) < 1 || len(blob) > most {
		return invalid("Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d, inclusive", name, most)
	}
	return nil
}

func wouldSucceed() error {
	return fail("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

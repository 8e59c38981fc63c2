package awskms_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

var ctx = context.Background()

// rsaKeys makes one key of each size for all tests.
var rsaKeys = map[string]func() *rsa.PrivateKey{
	"RSA_2048": rsaKey(2048), "RSA_3072": rsaKey(3072), "RSA_4096": rsaKey(4096),
}

func rsaKey(bits int) func() *rsa.PrivateKey {
	return sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return key
	})
}

// setup starts the fake KMS and a client that is quick to give up.
func setup(t *testing.T, o kmstest.Options) (*kmstest.Server, *awskms.Client) {
	t.Helper()
	s := kmstest.New(o)
	t.Cleanup(s.Close)
	for name, value := range s.Env() {
		t.Setenv(name, value)
	}
	return s, client(t)
}

func client(t *testing.T) *awskms.Client {
	t.Helper()
	c, err := awskms.New(ctx, awskms.Options{
		Attempts: 3, Backoff: time.Millisecond, Timeout: 5 * time.Second, Settle: 64 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError fails unless err is one line with all the parts and the exit code.
func wantError(t *testing.T, err error, exit int, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	code := 3
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		code = coded.ExitCode()
	}
	if code != exit {
		t.Errorf("exit code %d, want %d: %v", code, exit, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "not-a-secret") {
		t.Errorf("error %q is of several lines, or tells a secret", err)
	}
}

// Every key spec goes the whole way: made, described, exported, proven, signing.
func TestAllSpecs(t *testing.T) {
	s, c := setup(t, kmstest.Options{Material: func(spec string) (any, error) {
		if key, ok := rsaKeys[spec]; ok {
			return key(), nil
		}
		return kmstest.Generate(spec)
	}})
	for _, spec := range awskms.Specs {
		t.Run(spec, func(t *testing.T) {
			made, err := c.Create(ctx, awskms.Creation{Spec: spec, RotationID: "r-" + spec, Description: "audit signer"})
			if err != nil {
				t.Fatal(err)
			}
			key := made.Key
			if key.Spec != spec || !made.New || made.Alias != "alias/audit-signer-r-"+spec || len(key.Check([]string{"111122223333"})) != 0 {
				t.Errorf("made %+v", made)
			}
			for _, name := range []string{key.ID, key.ARN, made.Alias, strings.Replace(key.ARN, "key/"+key.ID, made.Alias, 1)} {
				if again, err := c.Describe(ctx, name); err != nil || again.ARN != key.ARN {
					t.Errorf("Describe %q: %v, %v", name, again, err)
				}
			}
			public, err := c.PublicKey(ctx, key.ARN)
			if spec == "HMAC_256" {
				wantError(t, err, 2, key.ARN, "no public key")
			} else if err != nil || public.Spec() != spec || public.Algorithm() != key.Algorithm() {
				t.Errorf("public key %+v, %v", public, err)
			}
			if err := c.CheckSigning(ctx, key.ARN, key.Algorithm()); err != nil {
				t.Error(err)
			}
			testSignature(t, c, key, public)
		})
	}
	if n := s.Count("CreateKey"); n != len(awskms.Specs) {
		t.Errorf("%d keys were made", n)
	}
}

func testSignature(t *testing.T, c *awskms.Client, key awskms.Key, public pubkey.Key) {
	digest := sha256.Sum256([]byte("an event"))
	signature, err := c.Sign(ctx, key.ARN, key.Algorithm(), digest)
	if err != nil {
		t.Fatal(err)
	}
	identity := public.Fingerprint()
	if public.IsZero() {
		identity = key.ARN
		other := sha256.Sum256([]byte("another event"))
		long := append(slices.Clone(signature), 0)
		for _, c1 := range []struct {
			digest [32]byte
			mac    []byte
			ok     bool
		}{{digest, signature, true}, {other, signature, false}, {digest, signature[:31], false}, {digest, long, false}, {digest, nil, false}} {
			if ok, err := c.VerifyMAC(ctx, key.ARN, c1.digest, c1.mac); err != nil || ok != c1.ok {
				t.Errorf("VerifyMAC of %d bytes: %v, %v, want %v", len(c1.mac), ok, err, c1.ok)
			}
		}
	}
	proof, err := c.Prove(ctx, key.ARN, key.Algorithm(), "r-1", identity, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	wantChallenge := "audit-signer-rotation possession v1\nr-1\n" + identity + "\n01" + strings.Repeat("00", 31)
	if proof.Challenge != wantChallenge {
		t.Errorf("challenge is %q, want %q", proof.Challenge, wantChallenge)
	}
	if err := proof.Check("r-1", public); (err == nil) == public.IsZero() {
		t.Errorf("Check: %v", err)
	}
}

func TestPossessionRefusals(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	for _, spec := range []string{"ECC_NIST_EDWARDS25519", "RSA_2048"} {
		material, err := kmstest.Generate(spec)
		if err != nil {
			t.Fatal(err)
		}
		arn := s.Import(kmstest.Key{Material: material})
		key, err := c.PublicKey(ctx, arn)
		if err != nil {
			t.Fatal(err)
		}
		otherARN := s.Import(kmstest.Key{Material: rsaKeys["RSA_2048"]()})
		other, err := c.PublicKey(ctx, otherARN)
		if err != nil {
			t.Fatal(err)
		}
		genuine, err := c.Prove(ctx, arn, key.Algorithm(), "r-1", key.Fingerprint(), [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		if err := genuine.Check("r-1", key); err != nil {
			t.Fatal(err)
		}
		foreign, err := c.Prove(ctx, otherARN, other.Algorithm(), "r-1", key.Fingerprint(), [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, genuine.Check("r-2", key), 1, "not one for this rotation")
		wantError(t, genuine.Check("r-1", other), 1, "not one for this rotation and this key")
		wantError(t, foreign.Check("r-1", key), 1, "does not verify")
		wantError(t, genuine.Check("r-1", pubkey.Key{}), 1, "only KMS can")
		for name, spoil := range map[string]func(*pubkey.Possession){
			"longer challenge":  func(p *pubkey.Possession) { p.Challenge += "0" },
			"shorter challenge": func(p *pubkey.Possession) { p.Challenge = p.Challenge[:len(p.Challenge)-2] },
			"upper-case nonce":  func(p *pubkey.Possession) { p.Challenge = p.Challenge[:len(p.Challenge)-1] + "A" },
			"other nonce":       func(p *pubkey.Possession) { p.Challenge = p.Challenge[:len(p.Challenge)-1] + "1" },
			"no digest":         func(p *pubkey.Possession) { p.Digest = "" },
			"other signature":   func(p *pubkey.Possession) { p.Signature = foreign.Signature },
			"no base64":         func(p *pubkey.Possession) { p.Signature += "%" },
			"no signature":      func(p *pubkey.Possession) { p.Signature = "" },
		} {
			p := genuine
			spoil(&p)
			if err := p.Check("r-1", key); err == nil {
				t.Errorf("%s: %s is accepted", spec, name)
			}
		}
	}
	for _, bad := range [][2]string{{"", "x"}, {"x", ""}, {"a\nb", "x"}, {"x", "a\rb"}} {
		_, err := c.Prove(ctx, "alias/x", pubkey.Ed25519, bad[0], bad[1], [32]byte{})
		wantError(t, err, 2, "one line of text")
	}
}

func TestCheck(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	fit := kmstest.Key{Spec: "RSA_3072"}
	for _, c1 := range []struct {
		name     string
		change   func(*kmstest.Key)
		accounts []string
		want     []string
	}{
		{"fit", func(k *kmstest.Key) {}, nil, nil},
		{"fit, allowed account", func(k *kmstest.Key) {}, []string{"444455556666", "111122223333"}, nil},
		{"other account", func(k *kmstest.Key) {}, []string{"444455556666"}, []string{"account 111122223333"}},
		{"disabled", func(k *kmstest.Key) { k.State = "Disabled" }, nil, []string{"state is Disabled"}},
		{"pending deletion", func(k *kmstest.Key) { k.State = "PendingDeletion" }, nil, []string{"state is PendingDeletion"}},
		{"for encryption", func(k *kmstest.Key) { k.Usage = "ENCRYPT_DECRYPT" }, nil, []string{"usage is ENCRYPT_DECRYPT, not SIGN_VERIFY"}},
		{"HMAC", func(k *kmstest.Key) { k.Spec = "HMAC_256" }, nil, nil},
		{"HMAC that signs", func(k *kmstest.Key) { k.Spec, k.Usage = "HMAC_256", "SIGN_VERIFY" }, nil, []string{"not GENERATE_VERIFY_MAC"}},
		{"symmetric", func(k *kmstest.Key) { k.Spec = "SYMMETRIC_DEFAULT" }, nil, []string{"key spec is SYMMETRIC_DEFAULT"}},
		{"ECDSA", func(k *kmstest.Key) { k.Spec, k.Usage = "ECC_NIST_P256", "SIGN_VERIFY" }, nil, []string{"key spec is ECC_NIST_P256"}},
		{"imported", func(k *kmstest.Key) { k.Origin = "EXTERNAL" }, nil, []string{"origin is EXTERNAL"}},
		{"AWS's own", func(k *kmstest.Key) { k.Manager = "AWS" }, nil, []string{"managed by AWS"}},
		{"everything", func(k *kmstest.Key) { *k = kmstest.Key{Origin: "EXTERNAL", Manager: "AWS", State: "Disabled"} }, []string{"1"},
			[]string{"state", "spec", "origin", "managed", "account"}},
	} {
		t.Run(c1.name, func(t *testing.T) {
			stored := fit
			c1.change(&stored)
			key, err := c.Describe(ctx, s.Import(stored))
			if err != nil {
				t.Fatal(err)
			}
			got := key.Check(c1.accounts)
			if len(got) != len(c1.want) {
				t.Fatalf("violations %q, want %q", got, c1.want)
			}
			for i := range got {
				if !strings.Contains(got[i], c1.want[i]) {
					t.Errorf("violation %q, want %q", got[i], c1.want[i])
				}
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, c := setup(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Spec: "RSA_2048", Created: created, Replicas: []string{"us-east-1", "ap-south-1"}})
	key, err := c.Describe(ctx, arn)
	if err != nil {
		t.Fatal(err)
	}
	replicas := []string{strings.Replace(arn, "eu-west-1", "us-east-1", 1), strings.Replace(arn, "eu-west-1", "ap-south-1", 1)}
	if key.ARN != arn || key.Account != "111122223333" || key.Region != "eu-west-1" || !key.CreatedAt.Equal(created) || !slices.Equal(key.Replicas, replicas) {
		t.Errorf("key is %+v", key)
	}
}

func TestErrors(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Material: rsaKeys["RSA_2048"]()})
	mac := s.Import(kmstest.Key{Material: []byte("secret")})
	disabled := s.Import(kmstest.Key{Material: rsaKeys["RSA_2048"](), State: kmstest.Disabled})
	encrypting := s.Import(kmstest.Key{Material: rsaKeys["RSA_2048"](), Usage: "ENCRYPT_DECRYPT"})
	describe := func(id string) error { _, err := c.Describe(ctx, id); return err }
	sign := func(id string, alg pubkey.Algorithm) error { _, err := c.Sign(ctx, id, alg, [32]byte{}); return err }

	wantError(t, describe("alias/x"), 2, `KMS DescribeKey of "alias/x" in eu-west-1: NotFoundException: Alias `, "check kms-key-id, the account and the Region")
	wantError(t, describe("no such key"), 2, "NotFoundException")
	wantError(t, describe(""), 2, "empty", "kms-key-id")
	wantError(t, describe("arn:aws:s3:::bucket"), 2, "no ARN of a KMS key")
	wantError(t, describe("arn:x"), 2, "no ARN of a KMS key")
	wantError(t, describe("arn:aws:kms:eu-west-1:111122223333:grant/x"), 2, "no ARN of a KMS key")
	wantError(t, describe(strings.Replace(arn, "111122223333", "444455556666", 1)), 3, "AccessDeniedException", "allow kms:DescribeKey")
	// An ARN is asked in its own Region, where this server is not.
	wantError(t, describe(strings.Replace(arn, "eu-west-1", "us-east-1", 1)), 3, "in us-east-1: InvalidSignatureException")

	wantError(t, sign(disabled, pubkey.RSASHA256), 3, "KMS Sign of", "DisabledException", "enable the key")
	wantError(t, sign(arn, pubkey.Ed25519), 2, "InvalidKeyUsageException")
	wantError(t, sign(mac, pubkey.RSASHA256), 2, "InvalidKeyUsageException")
	wantError(t, sign(arn, pubkey.HMACSHA256), 2, "KMS GenerateMac of", "InvalidKeyUsageException")
	wantError(t, sign(arn, "ed448"), 2, `"ed448" is none of`)
	wantError(t, c.CheckSigning(ctx, disabled, pubkey.RSASHA256), 3, "DisabledException")
	wantError(t, c.CheckSigning(ctx, arn, pubkey.HMACSHA256), 2, "InvalidKeyUsageException")

	_, err := c.PublicKey(ctx, encrypting)
	wantError(t, err, 2, "usage is ENCRYPT_DECRYPT")
	_, err = c.PublicKey(ctx, disabled)
	wantError(t, err, 3, "KMS GetPublicKey of", "DisabledException")
	_, err = c.PublicKey(ctx, "arn:x")
	wantError(t, err, 2, "no ARN of a KMS key")
	_, err = c.VerifyMAC(ctx, "arn:x", [32]byte{}, nil)
	wantError(t, err, 2, "no ARN of a KMS key")
	_, err = c.Prove(ctx, "arn:x", pubkey.Ed25519, "r", "f", [32]byte{})
	wantError(t, err, 2, "no ARN of a KMS key")
	_, err = c.Prove(ctx, disabled, pubkey.RSASHA256, "r", "f", [32]byte{})
	wantError(t, err, 3, "KMS Sign of", "DisabledException")
	wantError(t, sign("arn:x", pubkey.RSASHA256), 2, "no ARN of a KMS key")
	s.Deny("VerifyMac")
	_, err = c.Prove(ctx, mac, pubkey.HMACSHA256, "r", mac, [32]byte{})
	wantError(t, err, 3, "KMS VerifyMac of", "allow kms:VerifyMac")
	s.Allow("VerifyMac")
	_, err = c.VerifyMAC(ctx, arn, [32]byte{}, make([]byte, 32))
	wantError(t, err, 2, "KMS VerifyMac of", "InvalidKeyUsageException")
	s.SetState(mac, kmstest.PendingDeletion)
	_, err = c.VerifyMAC(ctx, mac, [32]byte{}, make([]byte, 32))
	wantError(t, err, 3, "KMSInvalidStateException")

	s.Deny("Sign")
	wantError(t, sign(arn, pubkey.RSASHA256), 3, "AccessDeniedException", "allow kms:Sign for this role")
}

// A key that the key policy refuses is not handed on.
func TestPublicKeyPolicy(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PublicKey(ctx, s.Import(kmstest.Key{Material: short, Spec: "RSA_2048", Usage: "SIGN_VERIFY"}))
	wantError(t, err, 2, "the public key is not accepted")
	_, err = c.PublicKey(ctx, s.Import(kmstest.Key{Material: rsaKeys["RSA_2048"](), Spec: "RSA_4096"}))
	wantError(t, err, 3, "KMS calls it RSA_4096, but the public key is RSA_2048")
}

func TestRetries(t *testing.T) {
	fault := func(f kmstest.Fault, times int) kmstest.Options {
		var steps []kmstest.Step
		for n := range times {
			steps = append(steps, kmstest.Step{Operation: "DescribeKey", Nth: n + 1, Fault: f})
		}
		return kmstest.Options{Fault: kmstest.Script(steps...)}
	}
	for name, f := range map[string]kmstest.Fault{
		"throttled":      {Code: "ThrottlingException", Message: "Rate exceeded"},
		"internal":       {Code: "KMSInternalException", Status: 500},
		"bad gateway":    {Status: 502},
		"reset before":   {Drop: true},
		"reset after":    {Drop: true, Applied: true},
		"cut off answer": {Truncate: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := setup(t, fault(f, 2))
			arn := s.Import(kmstest.Key{Spec: "RSA_2048"})
			if _, err := c.Describe(ctx, arn); err != nil {
				t.Error(err)
			}
			s, c = setup(t, fault(f, 3))
			arn = s.Import(kmstest.Key{Spec: "RSA_2048"})
			_, err := c.Describe(ctx, arn)
			wantError(t, err, 3, "KMS DescribeKey of", "(3 attempts)")
			if n := s.Count("DescribeKey"); n != 3 {
				t.Errorf("%d attempts, want 3", n)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	_, c := setup(t, kmstest.Options{Fault: kmstest.Script(kmstest.Step{Operation: "DescribeKey", Fault: kmstest.Fault{Delay: time.Minute}})})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := c.Describe(short, "alias/x")
	wantError(t, err, 3, "KMS DescribeKey of", "stopped before the answer was whole")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://"+l.Addr().String())
	_, err = client(t).Describe(ctx, "alias/x")
	wantError(t, err, 3, "no usable answer", "connection refused", "AWS_ENDPOINT_URL_KMS")
}

func TestSettings(t *testing.T) {
	s, _ := setup(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Spec: "RSA_2048"})
	t.Setenv("AWS_REGION", "")
	c := client(t)
	_, err := c.Describe(ctx, "alias/x")
	wantError(t, err, 2, "no AWS Region", "AWS_REGION")
	if _, err := c.Describe(ctx, arn); err != nil {
		t.Errorf("an ARN needs no Region: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err = client(t).Describe(ctx, arn)
	wantError(t, err, 3, "no usable AWS credentials", "role's trust policy")

	t.Setenv("AWS_PROFILE", "no-such-profile")
	_, err = awskms.New(ctx, awskms.Options{})
	wantError(t, err, 2, "no-such-profile", "AWS_PROFILE")
}

// Credentials of a role that is assumed with a web identity token work, and a
// token that STS refuses is reported as a matter of credentials.
func TestWebIdentity(t *testing.T) {
	s, _ := setup(t, kmstest.Options{WebIdentityTokens: []string{"genuine"}})
	arn := s.Import(kmstest.Key{Spec: "RSA_2048"})
	token := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/rotation")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	for text, good := range map[string]bool{"genuine": true, "forged": false} {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := client(t).Describe(ctx, arn)
		if good && err != nil {
			t.Error(err)
		}
		if !good {
			wantError(t, err, 3, "no usable AWS credentials", "InvalidIdentityToken")
		}
	}
}

package awskms_test

import (
	"bufio"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// asked is one KMS, and what has been made there so far.
type asked struct {
	adapter   *awskms.Client
	sdk       *kms.Client // for what the adapter has no call for
	key       awskms.Key
	public    *rsa.PublicKey
	signature []byte // or a MAC
}

var (
	motoDigest = sha256.Sum256([]byte("an event"))
	motoOther  = sha256.Sum256([]byte("another event"))
)

// exchange is a call, its answer in kind, and how moto is known to answer.
type exchange struct {
	name string
	ask  func(k *asked) string
	want string
	// moto is what moto says instead, and why that is moto's difference and not
	// a freedom of kmstest's.
	moto, why string
}

// The sources are the operations' pages in the AWS KMS API Reference.
func exchanges(spec string) []exchange {
	creation := awskms.Creation{Spec: spec, RotationID: "r-" + spec, Description: "audit signer", Tags: map[string]string{"team": "platform"}}
	alias := "alias/audit-signer-r-" + spec
	usage := "SIGN_VERIFY"
	if spec == "HMAC_256" {
		usage = "GENERATE_VERIFY_MAC"
	}
	describe := func(k *asked, name string) string {
		key, err := k.adapter.Describe(ctx, name)
		if err != nil {
			return answer("", err)
		}
		return strings.Join([]string{key.Spec, key.Usage, key.State, key.Origin, key.Manager, fmt.Sprint(key.ARN == k.key.ARN)}, " ")
	}
	fit := spec + " " + usage + " Enabled AWS_KMS CUSTOMER true"
	all := []exchange{
		{name: "DescribeKey before it is made", ask: func(k *asked) string { return describe(k, alias) }, want: "NotFoundException"},
		{name: "Create", ask: func(k *asked) string {
			made, err := k.adapter.Create(ctx, creation)
			k.key = made.Key
			return answer(fmt.Sprint("new ", made.New, ", ", made.Alias, ", fit ", len(made.Key.Check(nil)) == 0), err)
		}, want: "new true, " + alias + ", fit true"},
		{name: "Create again", ask: func(k *asked) string {
			made, err := k.adapter.Create(ctx, creation)
			return answer(fmt.Sprint("new ", made.New, ", the key: ", made.Key.ARN == k.key.ARN), err)
		}, want: "new false, the key: true"},
		{name: "CreateAlias of a name that is taken", ask: func(k *asked) string {
			_, err := k.sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &k.key.ARN})
			return answer("made", err)
		}, want: "AlreadyExistsException"},
		{name: "DescribeKey by ARN", ask: func(k *asked) string { return describe(k, k.key.ARN) }, want: fit},
		{name: "DescribeKey by id", ask: func(k *asked) string { return describe(k, k.key.ID) }, want: fit},
		{name: "DescribeKey by alias", ask: func(k *asked) string { return describe(k, alias) }, want: fit},
		{name: "DescribeKey of an unknown id", ask: func(k *asked) string { return describe(k, "11111111-2222-3333-4444-555555555555") }, want: "NotFoundException"},
	}
	if spec == "HMAC_256" {
		all = append(all, macs...)
	} else {
		all = append(all, signatureExchanges(spec)...)
	}
	sign := func(k *asked) string {
		_, err := k.adapter.Sign(ctx, k.key.ARN, k.key.Algorithm(), motoDigest)
		return answer("signed", err)
	}
	disable := func(k *asked, name string) string {
		_, err := k.sdk.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &name})
		return cmp.Or(answer("", err), describe(k, k.key.ARN))
	}
	disabled := strings.Replace(fit, "Enabled", "Disabled", 1)
	return append(all,
		exchange{name: "signing with an unknown key", ask: func(k *asked) string {
			_, err := k.adapter.Sign(ctx, strings.Replace(k.key.ARN, k.key.ID, "11111111-2222-3333-4444-555555555555", 1), k.key.Algorithm(), motoDigest)
			return answer("signed", err)
		}, want: "NotFoundException"},
		exchange{name: "a dry run of signing", ask: func(k *asked) string {
			return answer("would sign", k.adapter.CheckSigning(ctx, k.key.ARN, k.key.Algorithm()))
		},
			want: "would sign", moto: "doubt", why: "moto ignores DryRun and signs"},
		// The adapter refuses to disable a key for MACs, hence the SDK.
		exchange{name: "DisableKey by ARN", ask: func(k *asked) string { return disable(k, k.key.ARN) },
			want: disabled, moto: noAnswer, why: "moto knows a key by its bare id there, and breaks"},
		exchange{name: "DisableKey by id, also of a disabled key", ask: func(k *asked) string { return disable(k, k.key.ID) }, want: disabled},
		exchange{name: "signing with a disabled key", ask: sign, want: "DisabledException", moto: "signed", why: "moto lets disabled keys sign"},
		exchange{name: "EnableKey by the adapter, which names the ARN", ask: func(k *asked) string {
			return cmp.Or(answer("", k.adapter.Enable(ctx, k.key.ARN)), describe(k, k.key.ARN))
		}, want: fit, moto: noAnswer, why: "as above"},
		exchange{name: "EnableKey by id, also of an enabled key", ask: func(k *asked) string {
			_, err := k.sdk.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &k.key.ID})
			return cmp.Or(answer("", err), describe(k, k.key.ARN))
		}, want: fit},
		exchange{name: "signing with the key enabled again", ask: sign, want: "signed"},
	)
}

// noAnswer is one that is not in the terms of the API.
const noAnswer = "no answer of KMS's"

// answer is what came back, in kind: AWS's name of the error, or the outcome.
func answer(outcome string, err error) string {
	var own *awskms.Error
	var api smithy.APIError
	var wire *smithyhttp.ResponseError
	switch {
	case err == nil:
		return outcome
	case errors.As(err, &api):
		return api.ErrorCode()
	case errors.As(err, &wire):
		return noAnswer
	case errors.As(err, &own) && own.ExitCode() == 3:
		return "doubt"
	case errors.As(err, &own):
		return "refused"
	}
	return err.Error()
}

func signatureExchanges(spec string) []exchange {
	verify := func(k *asked, digest, signature []byte) string {
		out, err := k.sdk.Verify(ctx, &kms.VerifyInput{
			KeyId: &k.key.ARN, Message: digest, MessageType: types.MessageTypeDigest,
			Signature: signature, SigningAlgorithm: types.SigningAlgorithmSpecRsassaPkcs1V15Sha256,
		})
		if err != nil {
			return answer("", err)
		}
		return fmt.Sprint("valid ", out.SignatureValid)
	}
	forged := func(k *asked) []byte {
		s := slices.Clone(k.signature)
		s[len(s)/2] ^= 1
		return s
	}
	return []exchange{
		{name: "GetPublicKey by the adapter", ask: func(k *asked) string {
			key, err := k.adapter.PublicKey(ctx, k.key.ARN)
			return answer(fmt.Sprint(key.Spec(), " ", key.Algorithm()), err)
		}, want: spec + " rsa-sha256", moto: "doubt", why: "moto leaves KeySpec out, and the adapter believes no answer that does not say what the key is"},
		{name: "GetPublicKey", ask: func(k *asked) string {
			out, err := k.sdk.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &k.key.ARN})
			if err != nil {
				return answer("", err)
			}
			key, err := pubkey.ParseSPKI(out.PublicKey)
			if err != nil {
				return err.Error()
			}
			public, err := x509.ParsePKIXPublicKey(out.PublicKey)
			k.public, _ = public.(*rsa.PublicKey)
			return fmt.Sprint(key.Spec(), out.KeyUsage, slices.Contains(out.SigningAlgorithms, types.SigningAlgorithmSpecRsassaPkcs1V15Sha256), err)
		}, want: fmt.Sprint(spec, types.KeyUsageTypeSignVerify, true, nil)},
		{name: "Sign", ask: func(k *asked) (said string) {
			var err error
			k.signature, err = k.adapter.Sign(ctx, k.key.ARN, pubkey.RSASHA256, motoDigest)
			return answer(fmt.Sprint(len(k.signature) == k.public.Size()), err)
		}, want: "true"},
		{name: "the signature under the exported key", ask: func(k *asked) string {
			return answer("verifies", rsa.VerifyPKCS1v15(k.public, crypto.SHA256, motoDigest[:], k.signature))
		}, want: "verifies", moto: rsa.ErrVerification.Error(), why: "moto hashes once more although the message is said to be a digest"},
		{name: "Sign of a message, under the exported key", ask: func(k *asked) string {
			out, err := k.sdk.Sign(ctx, &kms.SignInput{KeyId: &k.key.ARN, Message: []byte("an event"), MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecRsassaPkcs1V15Sha256})
			if err != nil {
				return answer("", err)
			}
			return answer("verifies", rsa.VerifyPKCS1v15(k.public, crypto.SHA256, motoDigest[:], out.Signature))
		}, want: "verifies"},
		{name: "Verify", ask: func(k *asked) string { return verify(k, motoDigest[:], k.signature) }, want: "valid true"},
		{name: "Verify of a forged signature", ask: func(k *asked) string { return verify(k, motoDigest[:], forged(k)) },
			want: "KMSInvalidSignatureException", moto: "valid false", why: "moto says so in the answer, where AWS sends an error"},
		{name: "Verify of another digest", ask: func(k *asked) string { return verify(k, motoOther[:], k.signature) },
			want: "KMSInvalidSignatureException", moto: "valid false", why: "as above"},
		{name: "Sign of a digest of the wrong length", ask: func(k *asked) string {
			_, err := k.sdk.Sign(ctx, &kms.SignInput{KeyId: &k.key.ARN, Message: make([]byte, 64), MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecRsassaPkcs1V15Sha256})
			return answer("signed", err)
		}, want: "ValidationException", moto: "signed", why: "moto does not look at the length"},
		{name: "Sign with an algorithm of another spec", ask: func(k *asked) string {
			_, err := k.sdk.Sign(ctx, &kms.SignInput{KeyId: &k.key.ARN, Message: motoDigest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return answer("signed", err)
		}, want: "InvalidKeyUsageException", moto: "ValidationException", why: "moto gives it another name"},
		{name: "GenerateMac with a key for signatures", ask: func(k *asked) string {
			_, err := k.adapter.Sign(ctx, k.key.ARN, pubkey.HMACSHA256, motoDigest)
			return answer("made", err)
		}, want: "InvalidKeyUsageException"},
	}
}

var macs = []exchange{
	{name: "GetPublicKey of a key for MACs", ask: func(k *asked) string {
		_, err := k.adapter.PublicKey(ctx, k.key.ARN)
		return answer("exported", err)
	}, want: "refused"},
	{name: "GenerateMac", ask: func(k *asked) string {
		var err error
		k.signature, err = k.adapter.Sign(ctx, k.key.ARN, pubkey.HMACSHA256, motoDigest)
		return answer(fmt.Sprint(len(k.signature)), err)
	}, want: "32"},
	{name: "VerifyMac", ask: func(k *asked) string {
		ok, err := k.adapter.VerifyMAC(ctx, k.key.ARN, motoDigest, k.signature)
		return answer(fmt.Sprint(ok), err)
	}, want: "true"},
	{name: "VerifyMac of a forged MAC", ask: func(k *asked) string {
		forged := slices.Clone(k.signature)
		forged[0] ^= 1
		ok, err := k.adapter.VerifyMAC(ctx, k.key.ARN, motoDigest, forged)
		return answer(fmt.Sprint(ok), err)
	}, want: "false"},
	{name: "VerifyMac of another digest", ask: func(k *asked) string {
		ok, err := k.adapter.VerifyMAC(ctx, k.key.ARN, motoOther, k.signature)
		return answer(fmt.Sprint(ok), err)
	}, want: "false"},
	{name: "the error's name of a forged MAC", ask: func(k *asked) string {
		_, err := k.sdk.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &k.key.ARN, Message: motoOther[:], Mac: k.signature, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return answer("valid", err)
	}, want: "KMSInvalidMacException"},
	{name: "GenerateMac with an algorithm of another spec", ask: func(k *asked) string {
		_, err := k.sdk.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &k.key.ARN, Message: motoDigest[:], MacAlgorithm: types.MacAlgorithmSpecHmacSha512})
		return answer("made", err)
	}, want: "InvalidKeyUsageException", moto: "made", why: "moto makes a MAC of any length with any key"},
	{name: "Sign with a key for MACs", ask: func(k *asked) string {
		_, err := k.adapter.Sign(ctx, k.key.ARN, pubkey.RSASHA256, motoDigest)
		return answer("signed", err)
	}, want: "InvalidKeyUsageException", moto: "ValidationException", why: "moto gives it another name"},
}

// TestAgainstMoto holds kmstest against moto, a KMS of other people's making
// (github.com/getmoto/moto): the same calls, through the adapter where it has
// them, must have answers of the same kind, unless moto is known to be laxer.
// Where kmstest and moto were wrong alike this shows nothing; what AWS documents
// is tested in kmstest itself.
func TestAgainstMoto(t *testing.T) {
	endpoint, version := startMoto(t)
	compared, differences := 0, 0
	for _, spec := range []string{"RSA_2048", "RSA_3072", "RSA_4096", "HMAC_256"} {
		t.Run(spec, func(t *testing.T) {
			_, ours := setup(t, kmstest.Options{Material: func(spec string) (any, error) {
				if key, ok := rsaKeys[spec]; ok {
					return key(), nil
				}
				return kmstest.Generate(spec)
			}})
			here := asked{adapter: ours, sdk: sdk(t)}
			t.Setenv("AWS_ENDPOINT_URL_KMS", endpoint)
			there := asked{adapter: client(t), sdk: sdk(t)}
			for _, x := range exchanges(spec) {
				mine, theirs := x.ask(&here), x.ask(&there)
				compared++
				if mine != x.want {
					t.Errorf("%s: kmstest says %q, want %q", x.name, mine, x.want)
				}
				switch {
				case theirs == mine:
				case x.moto != "" && theirs == x.moto:
					differences++
					t.Logf("%s: kmstest %q, moto %q: %s", x.name, mine, theirs, x.why)
				default:
					t.Errorf("%s: kmstest says %q, moto %q", x.name, mine, theirs)
				}
			}
		})
	}
	t.Logf("moto %s: %d answers compared, %d of them with a known difference, all others alike", version, compared, differences)
}

func sdk(t *testing.T) *kms.Client {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }))
	if err != nil {
		t.Fatal(err)
	}
	return kms.NewFromConfig(cfg)
}

// startMoto starts moto's server on loopback, with the Python of MOTO_PYTHON,
// else with the one on PATH. Whoever sets MOTO_PYTHON, as CI's own job does,
// wants the comparison made.
func startMoto(t *testing.T) (endpoint, version string) {
	t.Helper()
	wanted := os.Getenv("MOTO_PYTHON")
	python := cmp.Or(wanted, "python3")
	out, err := exec.Command(python, "-c", "import moto.server, sys; sys.stdout.write(moto.__version__)").CombinedOutput()
	if err != nil {
		if wanted != "" {
			t.Fatalf("%s has no moto with its server: %v\n%s", python, err, out)
		}
		t.Skip("SKIPPED: moto is not installed, so kmstest was not compared with it; make moto installs it in a folder of its own and compares")
	}
	server := exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
	found := make(chan string, 1)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(log); lines.Scan(); { // to its end, lest the server block
			if m := running.FindStringSubmatch(lines.Text()); m != nil && len(found) == 0 {
				found <- m[1]
			}
		}
	}()
	endpoint, ok := <-found
	if !ok {
		t.Fatal("moto's server ended before it listened")
	}
	return endpoint, string(out)
}

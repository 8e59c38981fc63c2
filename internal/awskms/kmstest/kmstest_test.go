package kmstest_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
)

var rsa2048 = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var edKey = sync.OnceValue(func() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// m is a JSON object.
type m map[string]any

// reply is an answer of the server; code is empty for a success.
type reply struct {
	status int
	code   string
	body   m
}

func (r reply) text(name string) string {
	s, _ := r.body[name].(string)
	return s
}

func (r reply) blob(t *testing.T, name string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(r.text(name))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s is %v, want base64", name, r.body[name])
	}
	return b
}

const authorization = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/%s/aws4_request, SignedHeaders=host, Signature=" +
	"0000000000000000000000000000000000000000000000000000000000000000"

// call sends a well-formed request; in is a JSON object or, for malformed
// ones, the text itself.
func call(t *testing.T, s *kmstest.Server, operation string, in any) reply {
	t.Helper()
	body, ok := in.(string)
	if !ok {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = string(text)
	}
	target, service := "TrentService.", "kms"
	if operation == "LookupEvents" {
		target, service = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.", "cloudtrail"
	}
	return send(t, s, body, map[string]string{
		"X-Amz-Target":  target + operation,
		"Content-Type":  "application/x-amz-json-1.1",
		"X-Amz-Date":    "20260101T000000Z",
		"Authorization": fmt.Sprintf(authorization, service),
	})
}

func send(t *testing.T, s *kmstest.Server, body string, header map[string]string) reply {
	t.Helper()
	req, err := http.NewRequest("POST", s.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: resp.StatusCode}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&r.body); err != nil && resp.Header.Get("Content-Type") == "application/x-amz-json-1.1" {
		t.Fatalf("answer is no JSON: %s", text)
	}
	r.code = r.text("__type")
	return r
}

// want fails unless the reply is the error with this name; "" is success.
func want(t *testing.T, r reply, code string) {
	t.Helper()
	if r.code != code || (code == "") != (r.status == 200) {
		t.Errorf("answer is %d %v, want %q", r.status, r.body, code)
	}
}

func start(t *testing.T, o kmstest.Options) *kmstest.Server {
	t.Helper()
	if o.Material == nil {
		o.Material = func(spec string) (any, error) {
			switch spec {
			case "RSA_2048", "RSA_3072", "RSA_4096":
				return rsa2048(), nil // the size is of no interest here
			case "ECC_NIST_EDWARDS25519":
				return edKey(), nil
			case "HMAC_256":
				return []byte("0123456789abcdef0123456789abcdef"), nil
			}
			return nil, nil
		}
	}
	s := kmstest.New(o)
	t.Cleanup(s.Close)
	return s
}

var (
	message = []byte("a message")
	digest  = sha256.Sum256(message)
)

func signRSA(keyID string, kind string, message []byte) m {
	return m{"KeyId": keyID, "Message": message, "MessageType": kind, "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}
}

// The tests named Moto… hold this server to what AWS documents where the moto
// library, version 5.2.1, does something else.

func TestMotoHashesADigestAgain(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	sig := call(t, s, "Sign", signRSA(key, "DIGEST", digest[:])).blob(t, "Signature")
	if err := rsa.VerifyPKCS1v15(&rsa2048().PublicKey, crypto.SHA256, digest[:], sig); err != nil {
		t.Errorf("a DIGEST is not signed as it is: %v", err)
	}
	sig = call(t, s, "Sign", signRSA(key, "RAW", message)).blob(t, "Signature")
	if err := rsa.VerifyPKCS1v15(&rsa2048().PublicKey, crypto.SHA256, digest[:], sig); err != nil {
		t.Errorf("a RAW message is not hashed once: %v", err)
	}
}

func TestMotoHasNoEd25519(t *testing.T) {
	s := start(t, kmstest.Options{})
	made := call(t, s, "CreateKey", m{"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"})
	want(t, made, "")
	key := made.body["KeyMetadata"].(map[string]any)["Arn"].(string)
	public := edKey().Public().(ed25519.PublicKey)

	r := call(t, s, "Sign", m{"KeyId": key, "Message": digest[:], "SigningAlgorithm": "ED25519_SHA_512", "MessageType": "RAW"})
	if !ed25519.Verify(public, digest[:], r.blob(t, "Signature")) {
		t.Error("ED25519_SHA_512 does not verify as plain Ed25519")
	}
	// Ed25519ph hashes the digest that it is given once more, so that its
	// signatures are no plain Ed25519 signatures of anything at hand.
	long := sha512.Sum512(message)
	r = call(t, s, "Sign", m{"KeyId": key, "Message": long[:], "SigningAlgorithm": "ED25519_PH_SHA_512", "MessageType": "DIGEST"})
	sig := r.blob(t, "Signature")
	twice := sha512.Sum512(long[:])
	if err := ed25519.VerifyWithOptions(public, twice[:], sig, &ed25519.Options{Hash: crypto.SHA512}); err != nil {
		t.Errorf("ED25519_PH_SHA_512: %v", err)
	}
	if ed25519.Verify(public, long[:], sig) {
		t.Error("ED25519_PH_SHA_512 verifies as plain Ed25519")
	}
	want(t, call(t, s, "Verify", m{"KeyId": key, "Message": long[:], "SigningAlgorithm": "ED25519_PH_SHA_512", "MessageType": "DIGEST", "Signature": sig}), "")
	want(t, call(t, s, "CreateKey", m{"KeySpec": "ML_DSA_65", "KeyUsage": "SIGN_VERIFY"}), "UnsupportedOperationException")
}

func TestMotoLetsDisabledKeysSign(t *testing.T) {
	s := start(t, kmstest.Options{})
	rsaKey := s.Import(kmstest.Key{Material: rsa2048()})
	macKey := s.Import(kmstest.Key{Material: []byte("secret")})
	mac := m{"KeyId": macKey, "Message": digest[:], "MacAlgorithm": "HMAC_SHA_256"}
	tag := call(t, s, "GenerateMac", mac).text("Mac")
	check := m{"KeyId": macKey, "Message": digest[:], "MacAlgorithm": "HMAC_SHA_256", "Mac": tag}
	want(t, call(t, s, "VerifyMac", check), "")
	for state, code := range map[string]string{
		kmstest.Disabled:        "DisabledException",
		kmstest.PendingDeletion: "KMSInvalidStateException",
		"Unavailable":           "KMSInvalidStateException",
	} {
		s.SetState(rsaKey, state)
		s.SetState(macKey, state)
		want(t, call(t, s, "Sign", signRSA(rsaKey, "DIGEST", digest[:])), code)
		want(t, call(t, s, "GetPublicKey", m{"KeyId": rsaKey}), code)
		want(t, call(t, s, "GenerateMac", mac), code)
		want(t, call(t, s, "VerifyMac", check), code)
		want(t, call(t, s, "DescribeKey", m{"KeyId": rsaKey}), "")
	}
}

func TestMotoTakesAnyLength(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	for _, c := range []struct {
		name, kind string
		length     int
		code       string
	}{
		{"a 64-byte digest for SHA-256", "DIGEST", 64, "ValidationException"},
		{"a 31-byte digest", "DIGEST", 31, "ValidationException"},
		{"a 32-byte digest", "DIGEST", 32, ""},
		{"5000 raw bytes", "RAW", 5000, "ValidationException"},
		{"4097 raw bytes", "RAW", 4097, "ValidationException"},
		{"4096 raw bytes", "RAW", 4096, ""},
		{"one raw byte", "RAW", 1, ""},
		{"nothing", "RAW", 0, "ValidationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, call(t, s, "Sign", signRSA(key, c.kind, make([]byte, c.length))), c.code)
		})
	}
}

func TestMotoMakesHMACKeysWithoutASpec(t *testing.T) {
	s := start(t, kmstest.Options{})
	want(t, call(t, s, "CreateKey", m{"KeyUsage": "GENERATE_VERIFY_MAC"}), "ValidationException")
	want(t, call(t, s, "CreateKey", m{"KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "SYMMETRIC_DEFAULT"}), "ValidationException")
	want(t, call(t, s, "CreateKey", m{"KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "HMAC_256"}), "")
}

func TestMotoExportsHMACKeys(t *testing.T) {
	s := start(t, kmstest.Options{})
	want(t, call(t, s, "GetPublicKey", m{"KeyId": s.Import(kmstest.Key{Material: []byte("secret")})}), "UnsupportedOperationException")
	want(t, call(t, s, "GetPublicKey", m{"KeyId": s.Import(kmstest.Key{})}), "UnsupportedOperationException")
}

func TestMotoCallsAWrongSignatureAResult(t *testing.T) {
	s := start(t, kmstest.Options{})
	for spec, material := range map[string]any{"RSASSA_PKCS1_V1_5_SHA_256": rsa2048(), "RSASSA_PSS_SHA_256": rsa2048(), "ED25519_SHA_512": edKey()} {
		in := m{"KeyId": s.Import(kmstest.Key{Material: material}), "Message": message, "SigningAlgorithm": spec}
		sig := call(t, s, "Sign", in).blob(t, "Signature")
		in["Signature"] = sig
		if r := call(t, s, "Verify", in); r.body["SignatureValid"] != true {
			t.Errorf("%s: genuine signature: %v", spec, r.body)
		}
		sig[3] ^= 1
		want(t, call(t, s, "Verify", in), "KMSInvalidSignatureException")
		in["Signature"] = []byte{}
		want(t, call(t, s, "Verify", in), "ValidationException")
	}
	in := m{"KeyId": s.Import(kmstest.Key{Material: []byte("secret")}), "Message": message, "MacAlgorithm": "HMAC_SHA_256", "Mac": make([]byte, 32)}
	want(t, call(t, s, "VerifyMac", in), "KMSInvalidMacException")
}

func TestMotoLeavesMembersEmpty(t *testing.T) {
	s := start(t, kmstest.Options{})
	for spec, usage := range map[string]string{
		"RSA_2048": "SIGN_VERIFY", "RSA_3072": "SIGN_VERIFY", "RSA_4096": "SIGN_VERIFY",
		"ECC_NIST_EDWARDS25519": "SIGN_VERIFY", "HMAC_256": "GENERATE_VERIFY_MAC",
	} {
		r := call(t, s, "CreateKey", m{"KeySpec": spec, "KeyUsage": usage})
		want(t, r, "")
		about := r.body["KeyMetadata"].(map[string]any)
		if about["KeySpec"] != spec || about["CustomerMasterKeySpec"] != spec || about["KeyUsage"] != usage ||
			about["KeyState"] != "Enabled" || about["Origin"] != "AWS_KMS" || about["KeyManager"] != "CUSTOMER" {
			t.Errorf("%s is described as %v", spec, about)
		}
		if spec == "HMAC_256" {
			if fmt.Sprint(about["MacAlgorithms"]) != "[HMAC_SHA_256]" {
				t.Errorf("MacAlgorithms is %v", about["MacAlgorithms"])
			}
			continue
		}
		public := call(t, s, "GetPublicKey", m{"KeyId": about["KeyId"]})
		if public.text("KeySpec") != spec || public.text("KeyId") != about["Arn"] || public.body["SigningAlgorithms"] == nil {
			t.Errorf("public key of %s: %v", spec, public.body)
		}
		if _, err := x509.ParsePKIXPublicKey(public.blob(t, "PublicKey")); err != nil {
			t.Errorf("public key of %s: %v", spec, err)
		}
	}
}

func TestMotoHasNoLookupEvents(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	want(t, call(t, s, "Sign", signRSA(key, "DIGEST", digest[:])), "")
	r := call(t, s, "LookupEvents", m{"LookupAttributes": []m{{"AttributeKey": "ResourceName", "AttributeValue": key}}})
	want(t, r, "")
	if events := r.body["Events"].([]any); len(events) != 1 || events[0].(map[string]any)["EventName"] != "Sign" {
		t.Errorf("events are %v, want one Sign", events)
	}
}

func TestMotoTakesAnyWebIdentity(t *testing.T) {
	s := start(t, kmstest.Options{WebIdentityTokens: []string{"genuine"}})
	post := func(form url.Values, header map[string]string) (int, string) {
		form.Set("Version", "2011-06-15")
		req, err := http.NewRequest("POST", s.URL(), strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range header {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	assume := func(token string) (int, string) {
		return post(url.Values{
			"Action": {"AssumeRoleWithWebIdentity"}, "WebIdentityToken": {token},
			"RoleArn": {"arn:aws:iam::111122223333:role/rotation"}, "RoleSessionName": {"run-1"},
		}, nil)
	}
	if status, body := assume("forged"); status != 400 || !strings.Contains(body, "InvalidIdentityToken") {
		t.Errorf("a forged token is answered with %d %s", status, body)
	}
	if status, body := assume("genuine"); status != 200 || !strings.Contains(body, "assumed-role/rotation/run-1") {
		t.Errorf("a genuine token is answered with %d %s", status, body)
	}
	who := url.Values{"Action": {"GetCallerIdentity"}}
	if status, body := post(who, nil); status != 400 || !strings.Contains(body, "MissingAuthenticationToken") {
		t.Errorf("an unsigned GetCallerIdentity is answered with %d %s", status, body)
	}
	role := map[string]string{
		"X-Amz-Date":    "20260101T000000Z",
		"Authorization": strings.Replace(fmt.Sprintf(authorization, "sts"), "AKIATEST", "ASIAKMSTEST0", 1),
	}
	if status, body := post(who, role); status != 400 || !strings.Contains(body, "UnrecognizedClientException") {
		t.Errorf("a role without its session token is answered with %d %s", status, body)
	}
	role["X-Amz-Security-Token"] = "session-ASIAKMSTEST0"
	if status, body := post(who, role); status != 200 || !strings.Contains(body, "assumed-role/rotation/run-1") {
		t.Errorf("the caller's identity is answered with %d %s", status, body)
	}
	if status, body := post(url.Values{"Action": {"AssumeRole"}}, role); status != 400 || !strings.Contains(body, "InvalidAction") {
		t.Errorf("an unknown action is answered with %d %s", status, body)
	}
}

package kmstest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
)

func TestRequestForm(t *testing.T) {
	s := start(t, kmstest.Options{})
	signed := func(service, region string) string {
		return strings.Replace(fmt.Sprintf(authorization, service), "eu-west-1", region, 1)
	}
	good := map[string]string{
		"X-Amz-Target": "TrentService.ListKeys", "Content-Type": "application/x-amz-json-1.1",
		"X-Amz-Date": "20260101T000000Z", "Authorization": signed("kms", "eu-west-1"),
	}
	want(t, send(t, s, "{}", good), "")
	for _, c := range []struct{ header, value, code string }{
		{"Authorization", "", "MissingAuthenticationTokenException"},
		{"Authorization", "Bearer x", "MissingAuthenticationTokenException"},
		{"Authorization", "AWS4-HMAC-SHA256 Credential=x", "IncompleteSignatureException"},
		{"Authorization", signed("s3", "eu-west-1"), "InvalidSignatureException"},
		{"Authorization", signed("kms", "us-east-1"), "InvalidSignatureException"},
		{"X-Amz-Date", "", "MissingAuthenticationTokenException"},
		{"X-Amz-Target", "TrentService.ScheduleKeyDeletion", "UnknownOperationException"},
		{"X-Amz-Target", "TrentService.LookupEvents", "UnknownOperationException"},
		{"X-Amz-Target", "TrentService", "UnknownOperationException"},
		{"X-Amz-Target", "Trent.ListKeys", "UnknownOperationException"},
		{"Content-Type", "application/json", "UnknownOperationException"},
	} {
		header := map[string]string{}
		for k, v := range good {
			header[k] = v
		}
		header[c.header] = c.value
		if r := send(t, s, "{}", header); r.code != c.code {
			t.Errorf("%s: %q is answered with %d %v, want %s", c.header, c.value, r.status, r.body, c.code)
		}
	}
	for body, code := range map[string]string{
		"":                   "SerializationException",
		"[]":                 "SerializationException",
		"{} x":               "SerializationException",
		`{"Limit":"1"}`:      "SerializationException",
		`{"limit":1}`:        "SerializationException", // names are matched exactly
		`{"Limit":1,"X":2}`:  "SerializationException",
		`{"Limit":0}`:        "ValidationException",
		`{"Limit":1001}`:     "ValidationException",
		`{"Marker":"bogus"}`: "InvalidMarkerException",
	} {
		want(t, call(t, s, "ListKeys", body), code)
	}
}

func TestCreateKeyArguments(t *testing.T) {
	s := start(t, kmstest.Options{})
	tags := func(pairs ...string) []m {
		var list []m
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, m{"TagKey": pairs[i], "TagValue": pairs[i+1]})
		}
		return list
	}
	sign := func(more m) m {
		in := m{"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}
		for k, v := range more {
			in[k] = v
		}
		return in
	}
	for _, c := range []struct {
		name string
		in   m
		code string
	}{
		{"the spec that the old runbook names", m{"CustomerMasterKeySpec": "ED25519", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		{"ED25519 is no key spec", m{"KeySpec": "ED25519", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		{"the deprecated member has no Ed25519", m{"CustomerMasterKeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		{"the deprecated member has RSA", m{"CustomerMasterKeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, ""},
		{"both members", m{"CustomerMasterKeySpec": "RSA_2048", "KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		{"no spec makes a symmetric key", m{}, ""},
		{"no usage for RSA", m{"KeySpec": "RSA_2048"}, "ValidationException"},
		{"no usage for HMAC", m{"KeySpec": "HMAC_256"}, "ValidationException"},
		{"HMAC does not sign", m{"KeySpec": "HMAC_256", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		{"Ed25519 does not encrypt", m{"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "ENCRYPT_DECRYPT"}, "ValidationException"},
		{"RSA may encrypt", m{"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}, ""},
		{"unknown usage", m{"KeySpec": "RSA_2048", "KeyUsage": "SIGN"}, "ValidationException"},
		{"imported material", sign(m{"Origin": "EXTERNAL"}), "UnsupportedOperationException"},
		{"multi-Region", sign(m{"MultiRegion": true}), "UnsupportedOperationException"},
		{"a policy", sign(m{"Policy": "{}"}), "UnsupportedOperationException"},
		{"a long description", sign(m{"Description": strings.Repeat("x", 8193)}), "ValidationException"},
		{"tags", sign(m{"Tags": tags("a", "1", "b", "")}), ""},
		{"tag of another shape", sign(m{"Tags": []m{{"Key": "a", "Value": "1"}}}), "SerializationException"},
		{"tag without value", sign(m{"Tags": []m{{"TagKey": "a"}}}), "ValidationException"},
		{"tag without name", sign(m{"Tags": tags("", "1")}), "ValidationException"},
		{"tag with long value", sign(m{"Tags": tags("a", strings.Repeat("x", 257))}), "ValidationException"},
		{"reserved tag", sign(m{"Tags": tags("aws:a", "1")}), "TagException"},
		{"the same tag twice", sign(m{"Tags": tags("a", "1", "a", "2")}), "TagException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.Keys())
			want(t, call(t, s, "CreateKey", c.in), c.code)
			if made := len(s.Keys()) - before; made != 0 && c.code != "" || made != 1 && c.code == "" {
				t.Errorf("%d keys were made", made)
			}
		})
	}
}

func TestSignArguments(t *testing.T) {
	s := start(t, kmstest.Options{})
	rsaKey := s.Import(kmstest.Key{Material: rsa2048()})
	ed := s.Import(kmstest.Key{Material: edKey()})
	mac := s.Import(kmstest.Key{Material: []byte("secret")})
	encrypting := s.Import(kmstest.Key{Material: rsa2048(), Usage: "ENCRYPT_DECRYPT"})
	long := make([]byte, 64)
	for _, c := range []struct {
		key, algorithm, kind string
		message              []byte
		code                 string
	}{
		{ed, "ED25519_SHA_512", "RAW", digest[:], ""},
		{ed, "ED25519_SHA_512", "", digest[:], ""},
		{ed, "ED25519_SHA_512", "DIGEST", long, "ValidationException"},
		{ed, "ED25519_PH_SHA_512", "DIGEST", long, ""},
		{ed, "ED25519_PH_SHA_512", "DIGEST", digest[:], "ValidationException"},
		{ed, "ED25519_PH_SHA_512", "RAW", long, "ValidationException"},
		{ed, "ED25519", "RAW", digest[:], "ValidationException"},
		{ed, "RSASSA_PKCS1_V1_5_SHA_256", "DIGEST", digest[:], "InvalidKeyUsageException"},
		{rsaKey, "ED25519_SHA_512", "RAW", digest[:], "InvalidKeyUsageException"},
		{rsaKey, "ECDSA_SHA_256", "DIGEST", digest[:], "InvalidKeyUsageException"},
		{rsaKey, "RSASSA_PSS_SHA_512", "DIGEST", long, ""},
		{rsaKey, "RSASSA_PKCS1_V1_5_SHA_384", "DIGEST", make([]byte, 48), ""},
		{rsaKey, "RSASSA_PKCS1_V1_5_SHA_256", "EXTERNAL_MU", long, "ValidationException"},
		{rsaKey, "RSASSA_PKCS1_V1_5_SHA_256", "HASH", digest[:], "ValidationException"},
		{mac, "RSASSA_PKCS1_V1_5_SHA_256", "DIGEST", digest[:], "InvalidKeyUsageException"},
		{encrypting, "RSASSA_PKCS1_V1_5_SHA_256", "DIGEST", digest[:], "InvalidKeyUsageException"},
	} {
		in := m{"KeyId": c.key, "Message": c.message, "SigningAlgorithm": c.algorithm}
		if c.kind != "" {
			in["MessageType"] = c.kind
		}
		t.Run(c.algorithm+" "+c.kind, func(t *testing.T) {
			want(t, call(t, s, "Sign", in), c.code)
			in["DryRun"] = true
			if c.code == "" {
				c.code = "DryRunOperationException"
			}
			want(t, call(t, s, "Sign", in), c.code)
		})
	}
	want(t, call(t, s, "Sign", `{"KeyId":"x","Message":"%","SigningAlgorithm":"ED25519_SHA_512"}`), "SerializationException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": rsaKey, "Message": message, "MacAlgorithm": "HMAC_SHA_256"}), "InvalidKeyUsageException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": mac, "Message": message, "MacAlgorithm": "HMAC_SHA_512"}), "InvalidKeyUsageException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": mac, "Message": message, "MacAlgorithm": "HMAC"}), "ValidationException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": mac, "Message": make([]byte, 4097), "MacAlgorithm": "HMAC_SHA_256"}), "ValidationException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": mac, "Message": message, "MacAlgorithm": "HMAC_SHA_256", "MessageType": "RAW"}), "SerializationException")
	want(t, call(t, s, "GenerateMac", m{"KeyId": mac, "Message": message, "MacAlgorithm": "HMAC_SHA_256", "DryRun": true}), "DryRunOperationException")
	want(t, call(t, s, "GetPublicKey", m{"KeyId": rsaKey, "DryRun": true}), "SerializationException")
}

func TestWaysToNameAKey(t *testing.T) {
	s := start(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Material: edKey(), Aliases: []string{"alias/signer"}})
	_, id, _ := strings.Cut(arn, ":key/")
	aliasARN := "arn:aws:kms:eu-west-1:111122223333:alias/signer"
	for _, c := range []struct{ id, everywhere, managing string }{
		{id, "", ""},
		{arn, "", ""},
		{"alias/signer", "", "NotFoundException"},
		{aliasARN, "", "NotFoundException"},
		{"", "ValidationException", "ValidationException"},
		{"signer", "NotFoundException", "NotFoundException"},
		{"alias/other", "NotFoundException", "NotFoundException"},
		{"00000000-0000-4000-8000-000000000000", "NotFoundException", "NotFoundException"},
		{strings.Replace(arn, "eu-west-1", "us-east-1", 1), "NotFoundException", "NotFoundException"},
		{strings.Replace(arn, "111122223333", "444455556666", 1), "AccessDeniedException", "AccessDeniedException"},
		{"arn:aws:s3:::bucket", "InvalidArnException", "InvalidArnException"},
		{strings.Repeat("x", 2049), "ValidationException", "ValidationException"},
	} {
		name := c.id[:min(len(c.id), 80)]
		t.Run(name, func(t *testing.T) {
			want(t, call(t, s, "DescribeKey", m{"KeyId": c.id}), c.everywhere)
			want(t, call(t, s, "GetPublicKey", m{"KeyId": c.id}), c.everywhere)
			want(t, call(t, s, "EnableKey", m{"KeyId": c.id}), c.managing)
			want(t, call(t, s, "DisableKey", m{"KeyId": c.id}), c.managing)
			want(t, call(t, s, "EnableKey", m{"KeyId": c.id}), c.managing)
			want(t, call(t, s, "ListResourceTags", m{"KeyId": c.id}), c.managing)
			want(t, call(t, s, "TagResource", m{"KeyId": c.id, "Tags": []m{}}), c.managing)
		})
	}
}

func TestAliases(t *testing.T) {
	s := start(t, kmstest.Options{})
	first := s.Import(kmstest.Key{Material: edKey()})
	second := s.Import(kmstest.Key{Material: rsa2048()})
	dying := s.Import(kmstest.Key{Material: rsa2048(), State: kmstest.PendingDeletion})
	for _, c := range []struct{ name, target, code string }{
		{"alias/a", first, ""},
		{"alias/a", first, "AlreadyExistsException"},
		{"alias/a", second, "AlreadyExistsException"},
		{"alias/b", first, ""},
		{"alias/c", second, ""},
		{"a", first, "InvalidAliasNameException"},
		{"alias/aws/a", first, "InvalidAliasNameException"},
		{"alias/a.b", first, "InvalidAliasNameException"},
		{"alias/" + strings.Repeat("x", 251), first, "ValidationException"},
		{"alias/d", "alias/a", "ValidationException"},
		{"alias/d", "arn:aws:kms:eu-west-1:111122223333:alias/a", "ValidationException"},
		{"alias/d", "", "ValidationException"},
		{"alias/d", dying, "KMSInvalidStateException"},
	} {
		want(t, call(t, s, "CreateAlias", m{"AliasName": c.name, "TargetKeyId": c.target}), c.code)
	}
	if names := s.Aliases(); len(names) != 3 || names["alias/c"] != second {
		t.Errorf("aliases are %v", names)
	}
	r := call(t, s, "ListAliases", m{"KeyId": first})
	if list := r.body["Aliases"].([]any); len(list) != 2 {
		t.Errorf("aliases of the first key are %v", list)
	}
}

func TestManagedStates(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: edKey()})
	want(t, call(t, s, "DisableKey", m{"KeyId": key}), "")
	want(t, call(t, s, "DisableKey", m{"KeyId": key}), "")
	want(t, call(t, s, "CreateAlias", m{"AliasName": "alias/off", "TargetKeyId": key}), "")
	want(t, call(t, s, "EnableKey", m{"KeyId": key}), "")
	want(t, call(t, s, "TagResource", m{"KeyId": key, "Tags": []m{{"TagKey": "a", "TagValue": "1"}}}), "")
	want(t, call(t, s, "TagResource", m{"KeyId": key}), "ValidationException")
	s.SetState(key, kmstest.PendingDeletion)
	want(t, call(t, s, "EnableKey", m{"KeyId": key}), "KMSInvalidStateException")
	want(t, call(t, s, "DisableKey", m{"KeyId": key}), "KMSInvalidStateException")
	want(t, call(t, s, "TagResource", m{"KeyId": key, "Tags": []m{{"TagKey": "a", "TagValue": "1"}}}), "KMSInvalidStateException")
	want(t, call(t, s, "ListResourceTags", m{"KeyId": key}), "")
}

// Each list is read one item at a time and must come out whole, once.
func TestPages(t *testing.T) {
	s := start(t, kmstest.Options{})
	tags := map[string]string{"a": "1", "b": "2", "c": "3"}
	key := s.Import(kmstest.Key{Material: edKey(), Tags: tags, Aliases: []string{"alias/1", "alias/2", "alias/3"}})
	s.Import(kmstest.Key{Material: edKey()})
	s.Import(kmstest.Key{Material: edKey()})
	for operation, in := range map[string]m{"ListKeys": {}, "ListAliases": {}, "ListResourceTags": {"KeyId": key}} {
		in["Limit"] = 1
		member := map[string]string{"ListKeys": "Keys", "ListAliases": "Aliases", "ListResourceTags": "Tags"}[operation]
		seen := map[string]bool{}
		for pages := 1; ; pages++ {
			r := call(t, s, operation, in)
			want(t, r, "")
			for _, item := range r.body[member].([]any) {
				text, _ := json.Marshal(item)
				seen[string(text)] = true
			}
			if r.body["Truncated"] != true {
				if len(seen) != 3 || pages != 3 {
					t.Errorf("%s: %d items on %d pages, want 3 on 3", operation, len(seen), pages)
				}
				break
			}
			in["Marker"] = r.body["NextMarker"]
		}
	}
}

func TestDenied(t *testing.T) {
	s := start(t, kmstest.Options{})
	a, b := s.Import(kmstest.Key{Material: edKey()}), s.Import(kmstest.Key{Material: edKey()})
	s.Deny("DescribeKey", a)
	want(t, call(t, s, "DescribeKey", m{"KeyId": a}), "AccessDeniedException")
	want(t, call(t, s, "DescribeKey", m{"KeyId": b}), "")
	s.Deny("DescribeKey")
	want(t, call(t, s, "DescribeKey", m{"KeyId": b}), "AccessDeniedException")
	s.Allow("DescribeKey")
	want(t, call(t, s, "DescribeKey", m{"KeyId": a}), "")
	calls := s.Calls()
	if calls[0] != (kmstest.Call{Operation: "DescribeKey", KeyID: a, Code: "AccessDeniedException"}) || calls[3].Code != "" {
		t.Errorf("calls are %v", calls)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, kmstest.Options{Fault: kmstest.Script(
		kmstest.Step{Operation: "CreateKey", Nth: 1, Fault: kmstest.Fault{Drop: true}},
		kmstest.Step{Operation: "CreateKey", Nth: 2, Fault: kmstest.Fault{Drop: true, Applied: true}},
		kmstest.Step{Operation: "CreateKey", Nth: 3, Fault: kmstest.Fault{Status: 502}},
		kmstest.Step{Operation: "CreateKey", Nth: 4, Fault: kmstest.Fault{Code: "ThrottlingException", Message: "Rate exceeded"}},
		kmstest.Step{Operation: "CreateKey", Nth: 5, Fault: kmstest.Fault{Truncate: true}},
		kmstest.Step{Operation: "CreateKey", Nth: 6, Fault: kmstest.Fault{Delay: time.Minute}},
		kmstest.Step{Operation: "CreateKey", Nth: 7, Fault: kmstest.Fault{Delay: time.Millisecond}},
	)})
	client := &http.Client{Timeout: 2 * time.Second}
	try := func() (int, error) {
		req, err := http.NewRequest("POST", s.URL(), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{
			"X-Amz-Target": {"TrentService.CreateKey"}, "Content-Type": {"application/x-amz-json-1.1"},
			"X-Amz-Date": {"x"}, "Authorization": {fmt.Sprintf(authorization, "kms")},
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		return resp.StatusCode, err
	}
	for i, c := range []struct {
		status int
		err    error
		keys   int
	}{
		{0, syscall.ECONNRESET, 0},
		{0, syscall.ECONNRESET, 1},
		{502, nil, 1},
		{400, nil, 1},
		{200, io.ErrUnexpectedEOF, 2},
		{0, http.ErrHandlerTimeout, 2}, // any timeout
		{200, nil, 3},
	} {
		status, err := try()
		var timeout interface{ Timeout() bool }
		timedOut := errors.As(err, &timeout) && timeout.Timeout()
		if status != c.status || !errors.Is(err, c.err) && !(timedOut && c.err == http.ErrHandlerTimeout) || len(s.Keys()) != c.keys {
			t.Errorf("call %d: %d %v with %d keys, want %d %v with %d", i+1, status, err, len(s.Keys()), c.status, c.err, c.keys)
		}
	}
}

func TestMaterial(t *testing.T) {
	s := kmstest.New(kmstest.Options{})
	defer s.Close()
	seen := map[string]bool{}
	for range 2 {
		r := call(t, s, "CreateKey", m{"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"})
		want(t, r, "")
		id := r.body["KeyMetadata"].(map[string]any)["KeyId"]
		seen[call(t, s, "GetPublicKey", m{"KeyId": id}).text("PublicKey")] = true
	}
	if len(seen) != 2 || seen[""] {
		t.Errorf("two keys have the public keys %v, want two different ones", seen)
	}
	for spec, usage := range map[string]string{"HMAC_256": "GENERATE_VERIFY_MAC", "RSA_2048": "SIGN_VERIFY"} {
		want(t, call(t, s, "CreateKey", m{"KeySpec": spec, "KeyUsage": usage}), "")
	}
	failing := start(t, kmstest.Options{Material: func(string) (any, error) { return nil, errors.New("no entropy") }})
	want(t, call(t, failing, "CreateKey", m{}), "KMSInternalException")
}

package awskms_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// A server that answers without making sense is found out.
func TestLyingServer(t *testing.T) {
	answers, status := map[string]string{}, http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		io.WriteString(w, answers[operation])
	}))
	defer s.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "x",
	} {
		t.Setenv(name, value)
	}
	c := client(t)
	describe := func() error { _, err := c.Describe(ctx, "alias/x"); return err }
	sign := func(alg pubkey.Algorithm) error { _, err := c.Sign(ctx, "alias/x", alg, [32]byte{}); return err }
	const mac = `{"Mac":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`
	for _, c1 := range []struct {
		name, operation, answer string
		call                    func() error
		exit                    int
		want                    string
	}{
		{"no key", "DescribeKey", `{}`, describe, 3, "describes no key"},
		{"a nameless key", "DescribeKey", `{"KeyMetadata":{"KeyId":"x"}}`, describe, 3, "names no key ARN"},
		{"no JSON", "DescribeKey", `<html>`, describe, 3, "no usable answer"},
		{"no signature", "Sign", `{}`, func() error { return sign(pubkey.RSASHA256) }, 3, "0 bytes"},
		{"a short signature", "Sign", `{"Signature":"AAAA"}`, func() error { return sign(pubkey.Ed25519) }, 3, "3 bytes"},
		{"a short MAC", "GenerateMac", `{"Mac":"AAAA"}`, func() error { return sign(pubkey.HMACSHA256) }, 3, "3 bytes, not 32"},
		{"a dry run that signs", "Sign", `{"Signature":"AAAA"}`, func() error { return c.CheckSigning(ctx, "alias/x", pubkey.RSASHA256) }, 3, "only a dry run"},
		{"an empty public key", "GetPublicKey", `{"KeyUsage":"SIGN_VERIFY"}`, func() error { _, err := c.PublicKey(ctx, "alias/x"); return err }, 2, "not accepted"},
		{"a MAC that KMS does not own up to", "GenerateMac", mac, func() error {
			answers["VerifyMac"] = `{"MacValid":false}`
			_, err := c.Prove(ctx, "alias/x", pubkey.HMACSHA256, "r", "arn", [32]byte{})
			return err
		}, 3, "does not accept the MAC"},
		{"an unknown refusal", "DescribeKey", `{"__type":"NovelException","message":"no\nreason\n"}`, describe, 3, "NovelException: no reason; run this again; if it stays, see NovelException"},
	} {
		t.Run(c1.name, func(t *testing.T) {
			answers[c1.operation] = c1.answer
			status = http.StatusOK
			if strings.Contains(c1.answer, "__type") {
				status = http.StatusBadRequest
			}
			wantError(t, c1.call(), c1.exit, c1.want)
		})
	}
}

package trust_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// signers are real keys, made once.
var signers = sync.OnceValue(func() (s struct {
	rsa  *rsa.PrivateKey
	a, b ed25519.PrivateKey
}) {
	var err error
	if s.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	s.a, s.b = ed25519.NewKeyFromSeed(make([]byte, 32)), ed25519.NewKeyFromSeed([]byte(strings.Repeat("b", 32)))
	return s
})

func spki(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// world is a registry with one signer of each kind, and an archive.
var never = ed25519.NewKeyFromSeed([]byte(strings.Repeat("n", 32))) // of a signer that has never signed

func world(t testing.TB, o trust.Options) *trust.Set {
	t.Helper()
	s := signers()
	boundary := func(position int) string {
		return fmt.Sprintf(`"boundary":{"position":%d,"digest":"%s"}`, position, strings.Repeat("c", 64))
	}
	archived := func(id, key, state string, position int) string {
		return fmt.Sprintf(`{"entry":{"id":%q,"alg":"ed25519","key":%q},"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r","state":%q,%s}`, id, key, state, boundary(position))
	}
	files, err := registry.Load("signers.json", []byte(fmt.Sprintf(`[
		{"id":"rsa","alg":"rsa-sha256","key":%q,"aliases":["arn:rsa"]},
		{"id":"a","alg":"ed25519","key":%q},
		{"id":"mac","alg":"hmac-sha256","kmsKeyId":"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}]`, spki(t, &s.rsa.PublicKey), spki(t, s.a.Public()))),
		"archive", []byte(`{"version":1,"retired":[`+strings.Join([]string{
			archived("b", spki(t, s.b.Public()), "compromised", 7),
			archived("never", spki(t, never.Public()), "retired", 0)}, ",")+`]}`))
	if err != nil || finding.Count(files.Findings, finding.Error) > 0 {
		t.Fatal(err, files)
	}
	return trust.New(files.Registry, files.Archive, o)
}

func mac(secret string, d chain.Digest) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(d[:])
	return m.Sum(nil)
}

// Who speaks for a claim, and what becomes of it.
func TestJudge(t *testing.T) {
	s := signers()
	d := chain.Digest(sha256.Sum256([]byte("event")))
	rsaSignature, err := rsa.SignPKCS1v15(nil, s.rsa, crypto.SHA256, d[:])
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	byRSA, byA, byB, byMAC := b64(rsaSignature), b64(ed25519.Sign(s.a, d[:])), b64(ed25519.Sign(s.b, d[:])), b64(mac("sesame", d))
	byNever := b64(ed25519.Sign(never, d[:]))
	set := world(t, trust.Options{Secrets: map[string][]byte{"mac": []byte("sesame"), "local": []byte("other"), "a": []byte("no key of an Ed25519 signer")}})
	for name, tc := range map[string]struct {
		signer, signature string
		rule, says        string
		speaks, state     string
		until             int64
	}{
		"RSA":                      {"rsa", byRSA, "", "", "rsa", "active", 0},
		"RSA by its alias":         {"arn:rsa", byRSA, "", "", "rsa", "active", 0},
		"RSA in hex":               {"rsa", hex.EncodeToString(rsaSignature), "", "", "rsa", "active", 0},
		"Ed25519":                  {"a", byA, "", "", "a", "active", 0},
		"archived":                 {"b", byB, "", "", "b", "compromised", 7},
		"HMAC":                     {"mac", byMAC, "", "", "mac", "active", 0},
		"HMAC by the secrets only": {"local", b64(mac("other", d)), "", "", "local", "active", 0},

		"nobody":                    {"who", byA, chain.RuleUnknownSigner, `the signature is one of signer "a"`, "", "unknown", 0},
		"nobody, by nobody's key":   {"who", b64(make([]byte, 64)), chain.RuleUnknownSigner, "publish its entry", "", "unknown", 0},
		"in another letter case":    {"A", byA, chain.RuleUnknownSigner, `of signer "a"`, "", "unknown", 0},
		"no signer":                 {"", byA, chain.RuleUnknownSigner, "names no signer", "", "unknown", 0},
		"another's key":             {"a", byB, chain.RuleBadSignature, `is one of signer "b"`, "a", "active", 0},
		"nobody's key":              {"a", b64(make([]byte, 64)), chain.RuleBadSignature, "was changed after signing", "a", "active", 0},
		"HMAC under another secret": {"mac", b64(mac("Sesame", d)), chain.RuleBadSignature, "was changed after signing", "mac", "active", 0},
		"another algorithm's":       {"a", byRSA, chain.RuleAlgorithmMismatch, `(ed25519), but the signature is one of signer "rsa"`, "a", "active", 0},
		"RSA key, HMAC signature":   {"rsa", byMAC, chain.RuleAlgorithmMismatch, `of signer "mac"`, "rsa", "active", 0},
		"HMAC of the public key":    {"rsa", b64(mac(spki(t, &s.rsa.PublicKey), d)), chain.RuleMalformedSignature, "has 344 (base64) or 512 (hex)", "rsa", "active", 0},
		"not readable":              {"a", byA[:87], chain.RuleMalformedSignature, "cannot be read", "a", "active", 0},
		"in the URL alphabet":       {"rsa", strings.NewReplacer("+", "-", "/", "_").Replace(byRSA), chain.RuleMalformedSignature, "canonical base64", "rsa", "active", 0},
		"retired without any event": {"never", byNever, chain.RuleRetiredSignerUsed, "without ever having signed", "never", "retired", 0},
		"its id on another's row":   {"never", byA, chain.RuleBadSignature, `the signature is one of signer "a"`, "never", "retired", 0},
		"archived, another's key":   {"b", byA, chain.RuleBadSignature, `of signer "a"`, "b", "compromised", 7},
	} {
		t.Run(name, func(t *testing.T) {
			// Claims are judged one by one, whatever stands beside them.
			claims := []chain.Claim{{Signer: []byte("a"), Signature: []byte(byA), Digest: d}, {Signer: []byte(tc.signer), Signature: []byte(tc.signature), Digest: d}, {Signer: []byte("b"), Signature: []byte(byB), Digest: d}}
			out := make([]chain.Judgement, 3)
			if err := set.Judge(t.Context(), claims, out); err != nil {
				t.Fatal(err)
			}
			got := out[1]
			if got.Rule != tc.rule || !strings.Contains(got.Message, tc.says) || (got.Message == "") != (tc.rule == "") || got.Signer != tc.speaks || got.State != tc.state || got.Until != tc.until {
				t.Errorf("%+v", got)
			}
			if out[0].Rule != "" || out[2].Rule != "" {
				t.Errorf("%+v", out)
			}
		})
	}
}

// The same signature over another digest is nobody's.
func TestJudgeEveryDigestForItself(t *testing.T) {
	s := signers()
	set := world(t, trust.Options{})
	d, other := chain.Digest{1}, chain.Digest{2}
	signature := []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(s.a, d[:])))
	out := make([]chain.Judgement, 2)
	if err := set.Judge(t.Context(), []chain.Claim{{Signer: []byte("a"), Signature: signature, Digest: d}, {Signer: []byte("a"), Signature: signature, Digest: other}}, out); err != nil {
		t.Fatal(err)
	}
	if out[0].Rule != "" || out[1].Rule != chain.RuleBadSignature {
		t.Errorf("%+v", out)
	}
}

// An HMAC signer whose secret is elsewhere is asked about: with the right key
// id, a bounded number at once, and a failure to ask is no verdict.
func TestMAC(t *testing.T) {
	const claims = 100
	var open, most, asked atomic.Int64
	service := func(ctx context.Context, keyID string, digest [32]byte, tag []byte) (bool, error) {
		asked.Add(1)
		now := open.Add(1)
		defer open.Add(-1)
		for {
			if seen := most.Load(); now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		if keyID != "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab" || len(tag) != 32 {
			t.Errorf("asked about %q with %d bytes", keyID, len(tag))
		}
		return hmac.Equal(tag, mac("sesame", digest)), ctx.Err()
	}
	set := world(t, trust.Options{MAC: service, MACCalls: 5})
	batch, out := make([]chain.Claim, claims), make([]chain.Judgement, claims)
	for i := range batch {
		d, secret := chain.Digest{byte(i)}, "sesame"
		if i%10 == 3 {
			secret = "other"
		}
		batch[i] = chain.Claim{Signer: []byte("mac"), Signature: []byte(hex.EncodeToString(mac(secret, d))), Digest: d}
	}
	batch[50].Signature = []byte("zz")
	if err := set.Judge(t.Context(), batch, out); err != nil {
		t.Fatal(err)
	}
	for i, j := range out {
		want := ""
		switch {
		case i == 50:
			want = chain.RuleMalformedSignature
		case i%10 == 3:
			want = chain.RuleBadSignature
		}
		if j.Rule != want || j.Signer != "mac" || j.State != "active" {
			t.Errorf("%d: %+v", i, j)
		}
	}
	if asked.Load() != claims-1 || most.Load() > 5 {
		t.Errorf("%d questions, %d at once", asked.Load(), most.Load())
	}

	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set.Judge(done, batch, out); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var missing interface{ ExitCode() int }
	if err := world(t, trust.Options{}).Judge(t.Context(), batch, out); !errors.As(err, &missing) || missing.ExitCode() != 2 || !strings.Contains(err.Error(), "hmac-secrets-path") {
		t.Error(err)
	}
	// Where the secret is at hand nobody is asked.
	asked.Store(0)
	if err := world(t, trust.Options{MAC: service, Secrets: map[string][]byte{"mac": []byte("sesame")}}).Judge(t.Context(), batch, out); err != nil || asked.Load() != 0 || out[0].Rule != "" || out[3].Rule == "" {
		t.Error(err, asked.Load(), out[0], out[3])
	}
}

func TestAnchors(t *testing.T) {
	a, _, err := registry.ParseArchive("archive", []byte(fmt.Sprintf(`{"version":1,"retired":[
		{"entry":{"id":"m","alg":"hmac-sha256","kmsKeyId":"k"},"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r","state":"retired","boundary":{"position":3,"digest":"%[1]s"}},
		{"entry":{"id":"n","alg":"hmac-sha256","kmsKeyId":"l"},"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r","state":"retired","boundary":{"position":0,"digest":"%[1]s"}}]}`, strings.Repeat("ab", 32))))
	if err != nil {
		t.Fatal(err)
	}
	got := trust.Anchors(a)
	if len(got) != 1 || got[0].Position != 3 || got[0].Digest[0] != 0xab || got[0].Checkpoint || !strings.Contains(got[0].Name, "m") {
		t.Errorf("%+v", got)
	}
}

func TestParseSecrets(t *testing.T) {
	got, err := trust.ParseSecrets("secrets", []byte(`{"a":"deadbeef","arn:b":{"base64":"AAEC"},"c":"aéb"}`))
	if err != nil || len(got) != 3 || string(got["a"]) != "deadbeef" || string(got["arn:b"]) != "\x00\x01\x02" || string(got["c"]) != "aéb" {
		t.Errorf("%q %v", got, err)
	}
	for name, src := range map[string]string{
		"no JSON":            `{`,
		"a list":             `["a"]`,
		"empty":              `{"a":""}`,
		"empty base64":       `{"a":{"base64":""}}`,
		"no base64":          `{"a":{"base64":"topsecret!"}}`,
		"unpadded":           `{"a":{"base64":"dG9wc2VjcmV0MQ"}}`,
		"URL alphabet":       `{"a":{"base64":"-_-_"}}`,
		"spare bits":         `{"a":{"base64":"AB=="}}`,
		"a line break":       `{"a":{"base64":"AAEC\nAAEC"}}`,
		"more members":       `{"a":{"base64":"AAEC","hex":"topsecret"}}`,
		"hex":                `{"a":{"hex":"topsecret"}}`,
		"a number":           `{"a":5}`,
		"NULL":               `{"a":null}`,
		"an id that is none": `{"a b":"topsecret"}`,
		"an id twice":        `{"a":"topsecret","a":"topsecret"}`,
	} {
		got, err := trust.ParseSecrets("secrets", []byte(src))
		var refusal *jsondoc.Error
		if !errors.As(err, &refusal) || got != nil || refusal.ExitCode() != 2 || refusal.Line < 1 {
			t.Errorf("%s: %v %v", name, got, err)
		}
		if strings.Contains(fmt.Sprint(err), "topsecret") || strings.Contains(fmt.Sprint(err), "dG9w") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestSpeaker(t *testing.T) {
	set := world(t, trust.Options{})
	for id, want := range map[string][2]string{"rsa": {"rsa", "active"}, "arn:rsa": {"rsa", "active"}, "b": {"b", "compromised"}, "who": {"", "unknown"}} {
		if entry, state := set.Speaker(id); entry != want[0] || state != want[1] {
			t.Errorf("%s: %q, %q", id, entry, state)
		}
	}
}

// The search for a key that fits ends: a hostile table cannot make it last.
func TestFittingKeysAreSoughtForSoLong(t *testing.T) {
	set, d := world(t, trust.Options{}), chain.Digest(sha256.Sum256([]byte("event")))
	byA := []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(signers().a, d[:])))
	hint := func() string {
		out := make([]chain.Judgement, 1)
		if err := set.Judge(t.Context(), []chain.Claim{{Signer: []byte("who"), Signature: byA, Digest: d}}, out); err != nil {
			t.Fatal(err)
		}
		return out[0].Message
	}
	if m := hint(); !strings.Contains(m, `is one of signer "a"`) {
		t.Fatal(m)
	}
	junk := make([]chain.Claim, 20_001)
	for i := range junk {
		junk[i] = chain.Claim{Signer: []byte("who"), Signature: []byte("x"), Digest: d}
	}
	if err := set.Judge(t.Context(), junk, make([]chain.Judgement, len(junk))); err != nil {
		t.Fatal(err)
	}
	if m := hint(); strings.Contains(m, "is one of signer") {
		t.Error(m)
	}
}

func TestSecretInANumber(t *testing.T) {
	if _, err := trust.ParseSecrets("s.json", []byte(`{"m": {"base64": 1234}}`)); err == nil {
		t.Error("a number was taken for base64")
	}
}

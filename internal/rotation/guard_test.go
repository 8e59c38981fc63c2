package rotation

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

func key(t *testing.T, seed byte) pubkey.Key {
	t.Helper()
	k, err := pubkey.Parse(keyText(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	home    = "arn:aws:kms:eu-west-1:111122223333:key/1"
	abroad  = "arn:aws:kms:us-east-1:111122223333:key/1"
	strange = "arn:aws:kms:eu-west-1:444455556666:key/1"
)

func TestGuard(t *testing.T) {
	f := files(t, `[`+entryOf("old", 1)+`,{"signerId":"new","aliases":["arn:new"],"algorithm":"ed25519","publicKey":"`+keyText(t, 2)+`"},
		{"signerId":"home","aliases":["`+home+`"],"algorithm":"ed25519","publicKey":"`+keyText(t, 3)+`","kmsKeyId":"`+home+`"},
		{"signerId":"mac","aliases":["arn:aws:kms:eu-west-1:111122223333:key/3"],"algorithm":"hmac-sha256","kmsKeyId":"arn:aws:kms:eu-west-1:111122223333:key/3"}]`, archived(entryOf("gone", 4), "retired"))
	none := pubkey.Key{}
	for name, tc := range map[string]struct {
		d    Deployment
		rule string
		why  string // of the only reason; "" for open
	}{
		"fits":                   {Deployment{"new", "arn:new", "arn:new", key(t, 2), pubkey.Ed25519, ""}, "", ""},
		"fits by its alias":      {Deployment{"arn:new", "arn:new", "arn:new", key(t, 2), pubkey.Ed25519, ""}, "", ""},
		"HMAC fits":              {Deployment{"mac", "arn:aws:kms:eu-west-1:111122223333:key/3", "arn:aws:kms:eu-west-1:111122223333:key/3", none, pubkey.HMACSHA256, ""}, "", ""},
		"not published":          {Deployment{"next", "arn:new", "arn:new", key(t, 2), pubkey.Ed25519, ""}, RuleNotReady, "Merge its add-signer pull request"},
		"proposed":               {Deployment{"next", "arn:new", "arn:new", key(t, 2), pubkey.Ed25519, "Merge #7"}, RuleNotReady, "could not be verified. Merge #7 first"},
		"retired":                {Deployment{"gone", "arn:new", "arn:new", key(t, 4), pubkey.Ed25519, ""}, RuleDeployMismatch, "retired"},
		"another key":            {Deployment{"new", "arn:new", "arn:new", key(t, 9), pubkey.Ed25519, ""}, RuleDeployMismatch, "(ECC_NIST_EDWARDS25519) has fingerprint"},
		"another key and name":   {Deployment{"new", "alias/new", "arn:new", key(t, 9), pubkey.Ed25519, ""}, RuleDeployMismatch, "has fingerprint"},
		"another signer's key":   {Deployment{"new", "arn:new", "arn:new", key(t, 1), pubkey.Ed25519, ""}, RuleDeployMismatch, "that is the key of signer old"},
		"a retired signer's key": {Deployment{"new", "arn:new", "arn:new", key(t, 4), pubkey.Ed25519, ""}, RuleDeployMismatch, "that is the key of the retired signer gone"},
		"another account's key":  {Deployment{"home", strange, strange, key(t, 9), pubkey.Ed25519, ""}, RuleDeployMismatch, "it is in account 444455556666, the published key in 111122223333"},
		"another Region's key":   {Deployment{"home", abroad, abroad, key(t, 9), pubkey.Ed25519, ""}, RuleDeployMismatch, "it is in Region us-east-1, the published key in eu-west-1"},
		"a replica of the key":   {Deployment{"home", abroad, abroad, key(t, 3), pubkey.Ed25519, ""}, RuleDeployMismatch, "neither the id nor an alias of signer home; it is in Region us-east-1, the published key in eu-west-1: set"},
		"another algorithm":      {Deployment{"new", "arn:new", "arn:new", none, pubkey.RSASHA256, ""}, RuleDeployMismatch, "signs with rsa-sha256"},
		"HMAC for a signature":   {Deployment{"new", "arn:new", "arn:new", none, pubkey.HMACSHA256, ""}, RuleDeployMismatch, "published for ed25519, the KMS key arn:new signs with hmac-sha256"},
		"another HMAC key":       {Deployment{"mac", "arn:aws:kms:eu-west-1:111122223333:key/3", "arn:aws:kms:eu-west-1:111122223333:key/4", none, pubkey.HMACSHA256, ""}, RuleDeployMismatch, "published for KMS key"},
		"another name":           {Deployment{"new", "alias/new", "arn:new", key(t, 2), pubkey.Ed25519, ""}, RuleDeployMismatch, "neither the id nor an alias"},
	} {
		fs := Guard(tc.d, f.Registry, f.Archive)
		if name == "another key" && strings.Contains(fs[0].Message, "that is the key of") {
			t.Errorf("%s belongs to somebody: %q", name, fs[0].Message)
		}
		if tc.why == "" && len(fs) != 0 || tc.why != "" && (len(fs) != 1 || fs[0].Rule != tc.rule || !strings.Contains(fs[0].Message, tc.why)) {
			t.Errorf("%s: %q, want %s %q", name, fs, tc.rule, tc.why)
		}
	}
}

// Where a key is can be told from its ARN alone.
func TestElsewhere(t *testing.T) {
	f := files(t, `[{"signerId":"home","aliases":["`+home+`","`+strange+`"],"algorithm":"ed25519","publicKey":"`+keyText(t, 3)+`","kmsKeyId":"`+home+`"}]`, "")
	s := f.Registry.Signers[0]
	for id, closed := range map[string]bool{home: false, strange: false, abroad: true, "alias/x": false, "12345678-1234-1234-1234-123456789012": false, "": false, strings.Replace(home, "key/1", "key/2", 1): false} {
		if got := Elsewhere(id, s); closed != (len(got) == 1) {
			t.Errorf("%q: %v", id, got)
		}
	}
	if got := Elsewhere("arn:aws:kms", s); got != nil {
		t.Errorf("half an ARN: %v", got)
	}
	foreign := strings.Replace(abroad, "arn:", "nra:", 1)
	if got := Elsewhere(foreign, s); got != nil {
		t.Errorf("no ARN: %v", got)
	}
	s.KMSKeyID = strings.Replace(home, "arn:", "nra:", 1)
	if got := Elsewhere(abroad, s); got != nil {
		t.Errorf("what is published is no ARN: %v", got)
	}
	s.KMSKeyID = "arn:aws:kms"
	if got := Elsewhere(abroad, s); got != nil {
		t.Errorf("what is published is half an ARN: %v", got)
	}
	s.KMSKeyID = "alias/x"
	if got := Elsewhere(abroad, s); got != nil {
		t.Errorf("what is published is no ARN: %v", got)
	}
	s.KMSKeyID = ""
	if got := Elsewhere(abroad, s); got != nil {
		t.Errorf("nothing is published to compare with: %v", got)
	}
}

// What a deployment would publish is what add-signer would.
func TestDeploymentAsSigner(t *testing.T) {
	f := files(t, "["+entryOf("new", 2)+"]", "")
	want := record.SignerOf(f.Registry.Signers[0])
	if got := (Deployment{"new", "x", "arn:new", key(t, 2), pubkey.Ed25519, ""}).Signer(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Deployment{SignerID: "mac", KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/3", Algorithm: pubkey.HMACSHA256}).Signer(); got.Fingerprint != "" {
		t.Errorf("%+v", got)
	}
}

// A signer without a public key has no fingerprint to be compared with.
func TestGuardHMACSignerWithAnotherKey(t *testing.T) {
	f := files(t, `[{"signerId":"mac","aliases":["arn:aws:kms:eu-west-1:111122223333:key/3"],"algorithm":"hmac-sha256","kmsKeyId":"arn:aws:kms:eu-west-1:111122223333:key/3"}]`, "")
	fs := Guard(Deployment{"mac", "arn:aws:kms:eu-west-1:111122223333:key/3", "arn:aws:kms:eu-west-1:111122223333:key/3", key(t, 1), pubkey.Ed25519, ""}, f.Registry, f.Archive)
	if len(fs) != 1 || strings.Contains(fs[0].Message, "fingerprint") || !strings.Contains(fs[0].Message, "signs with ed25519") {
		t.Error(fs)
	}
}

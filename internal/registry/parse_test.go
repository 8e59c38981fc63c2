package registry_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// public gives the raw Ed25519 key that belongs to a name, in base64: the same
// in every run.
func public(name string) string {
	seed := sha256.Sum256([]byte(name))
	return base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
}

func key(t testing.TB, name string) pubkey.Key {
	t.Helper()
	k, err := pubkey.Parse(public(name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// entry writes a signer on one line; more are members besides.
func entry(id, keyName string, more ...string) string {
	return fmt.Sprintf(`{"signerId":%q,"algorithm":"ed25519","publicKey":%q%s}`, id, public(keyName), after(more))
}

func macEntry(id, kmsKey string) string {
	return fmt.Sprintf(`{"signerId":%q,"algorithm":"hmac-sha256","kmsKeyId":%q}`, id, kmsKey)
}

func after(more []string) string {
	text := ""
	for _, m := range more {
		text += "," + m
	}
	return text
}

func list(entries ...string) string { return "[" + strings.Join(entries, ",\n") + "]" }

func rules(fs []finding.Finding) string {
	var names []string
	for _, f := range fs {
		names = append(names, f.Rule)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Each rule about the text of a registry, and its sound twin.
func TestParseRules(t *testing.T) {
	a, b := public("a"), public("b")
	seed := sha256.Sum256([]byte("a"))
	private := base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:]))
	with := func(members string) string { return `[{` + members + `}]` }
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct{ src, want string }{
		"a list":                        {list(entry("x", "a"), entry("y", "b")), ""},
		"wrapped":                       {`{"signers":` + list(entry("x", "a")) + `,"version":1,"$schema":"s","description":"d","updatedAt":"u","x-owner":{}}`, ""},
		"a map":                         {`{"x":` + entry("x", "a") + `,"y":{"alg":"ed25519","key":"` + b + `"}}`, ""},
		"every spelling":                {with(`"signer_kid":"x","alg":"ed25519","public_key_pem":"` + a + `"`), ""},
		"every other spelling":          {with(`"id":"x","algorithm":"ed25519","public_key":"` + a + `"`), ""},
		"spellings that agree":          {with(`"id":"x","signer_id":"x","alg":"ed25519","key":"` + a + `","publicKey":"` + a + `"`), ""},
		"metadata":                      {list(entry("x", "a", `"deployedAt":"2026-01-02T03:04:05Z"`, `"createdAt":"2026-01-02T03:04:05+01:00"`, `"notBefore":"2026-01-02T03:04:05.5Z"`, `"description":"d"`, `"kmsKeyId":"k"`, `"rotation":"r"`, `"aliases":["arn:aws:kms:eu:1:key/2"]`, `"x-a":[{}]`)), ""},
		"HMAC":                          {list(macEntry("x", arn(2))), ""},
		"an odd string":                 {`"signers"`, registry.RuleShape},
		"null":                          {`null`, registry.RuleShape},
		"signers an object":             {`{"signers":{}}`, registry.RuleShape},
		"an entry a string":             {`["x"]`, registry.RuleShape},
		"no entry":                      {`[]`, registry.RuleNoSigner},
		"no entry, wrapped":             {`{"signers":[]}`, registry.RuleNoSigner},
		"no entry, a map":               {`{}`, registry.RuleNoSigner},
		"a bare key":                    {`{"x":"` + a + `"}`, registry.RuleMapOfStrings},
		"a stranger beside signers":     {`{"signers":` + list(entry("x", "a")) + `,"y":` + entry("y", "b") + `}`, registry.RuleUnknownMember},
		"a number beside signers":       {`{"signers":` + list(entry("x", "a")) + `,"y":1}`, registry.RuleUnknownMember},
		"a stranger in an entry":        {list(entry("x", "a", `"publickey":"z"`)), registry.RuleUnknownMember},
		"no id":                         {with(`"algorithm":"ed25519","publicKey":"` + a + `"`), registry.RuleMissingMember},
		"no algorithm":                  {with(`"id":"x","publicKey":"` + a + `"`), registry.RuleMissingMember},
		"no key":                        {with(`"id":"x","algorithm":"ed25519"`), registry.RuleMissingMember},
		"id a number":                   {with(`"id":1,"algorithm":"ed25519","publicKey":"` + a + `"`), registry.RuleMemberType},
		"algorithm a list":              {with(`"id":"x","algorithm":["ed25519"],"publicKey":"` + a + `"`), registry.RuleMemberType},
		"algorithm empty":               {with(`"id":"x","algorithm":"","publicKey":"` + a + `"`), registry.RuleMemberType},
		"key an object":                 {with(`"id":"x","algorithm":"ed25519","publicKey":{}`), registry.RuleMemberType},
		"aliases a string":              {list(entry("x", "a", `"aliases":"y"`)), registry.RuleMemberType},
		"an alias a number":             {list(entry("x", "a", `"aliases":["y",1]`)), registry.RuleMemberType},
		"description an object":         {list(entry("x", "a", `"description":{}`)), registry.RuleMemberType},
		"description too long":          {list(entry("x", "a", `"description":"`+long+`"`)), registry.RuleMemberType},
		"two ids":                       {with(`"id":"x","signerId":"y","algorithm":"ed25519","publicKey":"` + a + `"`), registry.RuleMemberConflict},
		"two keys":                      {with(`"id":"x","algorithm":"ed25519","publicKey":"` + a + `","key":"` + b + `"`), registry.RuleMemberConflict},
		"two algorithms":                {with(`"id":"x","algorithm":"ed25519","alg":"rsa-sha256","publicKey":"` + a + `"`), registry.RuleMemberConflict},
		"id unlike the map's":           {`{"x":` + entry("y", "a") + `}`, registry.RuleMemberConflict},
		"id with a blank":               {list(entry("x y", "a")), registry.RuleSignerID},
		"id that is a path":             {list(entry("../x", "a")), registry.RuleSignerID},
		"id in a map":                   {`{"":{"alg":"ed25519","key":"` + a + `"}}`, registry.RuleSignerID},
		"alias with a homoglyph":        {list(entry("x", "a", `"aliases":["аudit"]`)), registry.RuleSignerID},
		"Ed25519":                       {strings.ReplaceAll(list(entry("x", "a")), "ed25519", "Ed25519"), registry.RuleAlgorithmCase},
		"an unknown algorithm":          {strings.ReplaceAll(list(entry("x", "a")), "ed25519", "ed448"), pubkey.RuleAlgorithm},
		"algorithm of another key":      {strings.ReplaceAll(list(entry("x", "a")), "ed25519", "rsa-sha256"), registry.RuleAlgorithmKey},
		"HMAC by an alias":              {list(macEntry("x", "alias/audit")), registry.RuleKeyARN},
		"HMAC by an alias's ARN":        {list(macEntry("x", "arn:aws:kms:eu-west-1:111122223333:alias/audit")), registry.RuleKeyARN},
		"HMAC by a bare id":             {list(macEntry("x", "12345678-1111-4111-8111-111111111111")), registry.RuleKeyARN},
		"HMAC by an ARN in capitals":    {list(macEntry("x", strings.ToUpper(arn(1)))), registry.RuleKeyARN},
		"HMAC by an id in capitals":     {list(macEntry("x", arn(171)[:39]+strings.ToUpper(arn(171)[39:]))), registry.RuleKeyARN},
		"HMAC with a space behind":      {list(macEntry("x", arn(1)+" ")), registry.RuleKeyARN},
		"HMAC with a line end behind":   {list(macEntry("x", arn(1)+"\n")), registry.RuleKeyARN},
		"HMAC by another service":       {list(macEntry("x", strings.Replace(arn(1), ":kms:", ":s3:", 1))), registry.RuleKeyARN},
		"HMAC without a Region":         {list(macEntry("x", "arn:aws:kms::111122223333:key/1")), registry.RuleKeyARN},
		"HMAC with a path behind":       {list(macEntry("x", arn(1)+"/x")), registry.RuleKeyARN},
		"HMAC in China":                 {list(macEntry("x", strings.Replace(arn(1), ":aws:", ":aws-cn:", 1))), ""},
		"HMAC, multi-Region":            {list(macEntry("x", "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab")), ""},
		"HMAC with a key":               {strings.ReplaceAll(list(entry("x", "a", `"kmsKeyId":"k"`)), "ed25519", "hmac-sha256"), registry.RuleHMACEntry},
		"HMAC without a KMS key":        {with(`"id":"x","algorithm":"hmac-sha256"`), registry.RuleHMACEntry},
		"a date without a time":         {list(entry("x", "a", `"deployedAt":"2026-01-02"`)), registry.RuleDate},
		"a date that is a number":       {list(entry("x", "a", `"createdAt":1`)), registry.RuleDate},
		"a key that is none":            {strings.ReplaceAll(list(entry("x", "a")), a, "AAAA"), pubkey.RuleMalformed},
		"a key in the URL alphabet":     {strings.ReplaceAll(list(entry("x", "a")), a, strings.NewReplacer("+", "-", "/", "_").Replace(a[:42])+"-="), pubkey.RuleMalformed},
		"a weak key":                    {strings.ReplaceAll(list(entry("x", "a")), a, base64.StdEncoding.EncodeToString(make([]byte, 32))), pubkey.RuleWeak},
		"a private key":                 {strings.ReplaceAll(list(entry("x", "a")), a, private), pubkey.RuleSecret},
		"a token in a description":      {list(entry("x", "a", `"description":"ghp_`+strings.Repeat("a1", 18)+`"`)), pubkey.RuleSecret},
		"a token as an id":              {list(entry("ghp_"+strings.Repeat("a1", 18), "a")), pubkey.RuleSecret},
		"a token as a name":             {`{"signers":` + list(entry("x", "a")) + `,"x-ghp_` + strings.Repeat("a1", 18) + `":1}`, pubkey.RuleSecret},
		"a private key in an x- member": {list(entry("x", "a", `"x-old":{"key":"`+private+`"}`)), pubkey.RuleSecret},
		"a private key in a list":       {list(entry("x", "a", `"x-old":{"publicKey":["`+private+`"]}`)), pubkey.RuleSecret},
		"a secret as the HMAC key":      {with(`"id":"x","algorithm":"hmac-sha256","kmsKeyId":"k","key":"` + private + `"`), registry.RuleHMACEntry + " " + pubkey.RuleSecret},
		"a private key as second key":   {with(`"id":"x","algorithm":"ed25519","publicKey":"` + a + `","key":"` + private + `"`), registry.RuleMemberConflict + " " + pubkey.RuleSecret},
	} {
		t.Run(name, func(t *testing.T) {
			_, fs, err := registry.Parse("signers.json", []byte(tc.src))
			if err != nil || rules(fs) != tc.want {
				t.Fatalf("%v %v\nwant %q", err, fs, tc.want)
			}
			if strings.Contains(tc.want, pubkey.RuleSecret) {
				unspoken(t, private, fs)
				unspoken(t, "ghp_a1a1", fs)
			}
			severity := finding.Error
			if tc.want == registry.RuleAlgorithmCase {
				severity = finding.Warning
			}
			for _, f := range fs {
				if f.Severity != severity || f.Line != 1 || f.Col < 1 || f.File != "signers.json" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// A secret that is also something else is still not shown.
func TestSecretsAreNeverShown(t *testing.T) {
	token := "ghp_" + strings.Repeat("Zq7", 12)
	for _, src := range []string{
		list(entry(token, "a"), entry(token, "b")),
		list(entry("x", "a", `"aliases":["`+token+`"]`), entry(token, "b")),
		list(entry("x", "a", fmt.Sprintf("%q:1", token))),
		fmt.Sprintf(`{%q:%s}`, token, entry("x", "a")),
		fmt.Sprintf(`{%q:"x"}`, token),
		fmt.Sprintf(`{"signers":[],%q:{}}`, token),
		list(entry("x", "a", `"deployedAt":"`+token+`"`)),
		list(entry("x", "a", `"algorithm":"`+token+`"`)),
	} {
		_, fs, err := judge([]byte(strings.Replace(src, `"algorithm":"ed25519",`, "", strings.Count(src, `"algorithm":"`+token))))
		if err != nil {
			t.Fatal(err)
		}
		unspoken(t, token, fs)
	}
}

func TestTooMany(t *testing.T) {
	var many, some []string
	for i := range registry.MaxSigners + 1 {
		many = append(many, `{"id":"x`+fmt.Sprint(i)+`"}`)
	}
	for i := range 20_000 {
		some = append(some, fmt.Sprintf(`"m%d":1`, i))
	}
	_, fs, err := registry.Parse("signers.json", []byte(list(many...)))
	if err != nil || rules(fs) != registry.RuleTooManySigners {
		t.Errorf("%v %v", err, fs)
	}
	_, fs, err = registry.ParseArchive("archive", []byte(`{"version":1,"retired":`+list(many...)+`}`))
	if err != nil || rules(fs) != registry.RuleTooManySigners {
		t.Errorf("%v %v", err, fs)
	}
	aliases := func(n int) string {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf(`"y%d"`, i))
		}
		return list(entry("x", "a", `"aliases":[`+strings.Join(ids, ",")+"]"))
	}
	if _, fs, err := registry.Parse("signers.json", []byte(aliases(registry.MaxAliases))); err != nil || len(fs) != 0 {
		t.Errorf("%v %v", err, fs)
	}
	if _, fs, err := registry.Parse("signers.json", []byte(aliases(registry.MaxAliases+1))); err != nil || rules(fs) != registry.RuleTooManySigners {
		t.Errorf("%v %v", err, fs)
	}
	var twins []string
	for range 600 {
		twins = append(twins, entry("x", "a"))
	}
	if fs := registry.Validate(parse(t, list(twins...)), &registry.Archive{}, now); len(fs) != 200 || rules(fs[:1]) != registry.RuleDuplicateID {
		t.Errorf("%d findings", len(fs))
	}
	// One entry can break rules without end; the first are listed.
	_, fs, err = registry.Parse("signers.json", []byte("[{"+strings.Join(some, ",")+"}]"))
	if err != nil || len(fs) != 200 {
		t.Errorf("%d findings, %v", len(fs), err)
	}
	for name, src := range map[string]string{
		"more than 1 MiB": "[" + strings.Repeat(" ", jsondoc.MaxSize) + "]",
		"deep":            strings.Repeat("[", 40) + strings.Repeat("]", 40),
	} {
		if _, _, err := registry.Parse("signers.json", []byte(src)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "0", "audit-rotation-2026-11-23", "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/audit", "a.b_c:d/e@f+g-h", strings.Repeat("x", 256)} {
		if why := registry.CheckID(id); why != "" {
			t.Errorf("%q: %s", id, why)
		}
	}
	for _, id := range []string{"", "-a", "/a", ".a", "a..b", "a//b", "a@{b", "a b", "a\n", "é", "a\x00", "a~b", "a^b", "a\\b", "a*", strings.Repeat("x", 257)} {
		if registry.CheckID(id) == "" {
			t.Errorf("%q passes", id)
		}
	}
}

func TestSignersFields(t *testing.T) {
	src := "{\n \"signers\": [\n  " + entry("x", "a", `"aliases":["y","z"]`, `"kmsKeyId":"k"`, `"deployedAt":"2026-01-02T03:04:05Z"`, `"rotation":"r"`) + "\n ]\n}"
	r, fs, err := registry.Parse("signers.json", []byte(src))
	if err != nil || len(fs) != 0 || len(r.Signers) != 1 {
		t.Fatal(err, fs)
	}
	s := r.Signers[0]
	if s.ID != "x" || !slices.Equal(s.IDs(), []string{"x", "y", "z"}) || s.Algorithm != pubkey.Ed25519 || s.Key.Fingerprint() != key(t, "a").Fingerprint() ||
		s.KMSKeyID != "k" || s.DeployedAt != "2026-01-02T03:04:05Z" || s.Rotation != "r" || s.Line != 3 || s.Col != 3 || !strings.Contains(src, s.Source) {
		t.Errorf("%+v", s)
	}
	sum := sha256.Sum256([]byte(src))
	if r.SHA256() != hex.EncodeToString(sum[:]) || r.Container != registry.Wrapped {
		t.Error(r.SHA256(), r.Container)
	}
	if _, ok := r.Find("nobody"); ok {
		t.Error("nobody was found")
	}
	if s, ok := r.Find("z"); !ok || s.ID != "x" {
		t.Error("the alias was not found")
	}
}

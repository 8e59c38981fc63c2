package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Wherever a secret is pasted, it is refused, and no four bytes of it in a row
// come back in any message.
func TestNoSecretIsShown(t *testing.T) {
	secrets := []string{"ghp_qZ7xK9vWc2Lm4Np6Rs8TuVyXaBdEfGhJkQ3", "AKIAQZXVWKJ7NPLM4RT2", "wJalrXUtnQZMI/K7MDZNG/bPxRfiCYZXQVPLZKEY", "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\\n-----END PRIVATE KEY-----"}
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	item := func(change ...string) string {
		return strings.NewReplacer(change...).Replace(strings.TrimSuffix(strings.TrimPrefix(archived(old, "retired"), `{"version":1,"retired":[`), "]}"))
	}
	head := map[string][2]string{ // registry and archive, with S for the secret
		"an id":                 {"[" + fresh + "," + strings.Replace(entryOf("z", 3), `"z"`, `"S"`, 1) + "]", ""},
		"an algorithm":          {"[" + strings.Replace(fresh, "ed25519", "S", 1) + "]", ""},
		"a public key":          {`[{"signerId":"new","algorithm":"ed25519","publicKey":"S"}]`, ""},
		"a description":         {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"description":"aws secret S","kmsKeyId"`, 1) + "]", ""},
		"a KMS key id":          {"[" + strings.Replace(fresh, "arn:new", "aws secret S", 1) + "]", ""},
		"an alias":              {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"aliases":["S"],"kmsKeyId"`, 1) + "]", ""},
		"an extension":          {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"x-note":{"a":["aws secret S"]},"kmsKeyId"`, 1) + "]", ""},
		"a member's name":       {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"S":1,"kmsKeyId"`, 1) + "]", ""},
		"a date":                {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"deployedAt":"S","kmsKeyId"`, 1) + "]", ""},
		"a rotation":            {"[" + strings.Replace(fresh, `"kmsKeyId"`, `"rotation":"S","kmsKeyId"`, 1) + "]", ""},
		"an id in a map":        {`{"S":{"algorithm":"ed25519","publicKey":"x"}}`, ""},
		"beside the signers":    {`{"signers":[` + fresh + `],"S":"S"}`, ""},
		"no quotes":             {"[S]", ""},
		"a name twice":          {`{"S":1,"S":2}`, ""},
		"an archived reason":    {"[" + fresh + "]", item(`"reason":"r"`, `"reason":"aws secret S"`)},
		"an archived rotation":  {"[" + fresh + "]", item(`"rotation":"x"`, `"rotation":"S"`)},
		"an archived state":     {"[" + fresh + "]", item(`"retired"`, `"S"`)},
		"an archived id":        {"[" + fresh + "]", item(`"signerId":"old"`, `"signerId":"S"`)},
		"an archived member":    {"[" + fresh + "]", item(`"reason"`, `"S":1,"reason"`)},
		"an archived digest":    {"[" + fresh + "]", item(strings.Repeat("ab", 32), "S")},
		"an archive's position": {"[" + fresh + "]", item(`"position":3`, `"position":S`)},
	}
	base := files(t, "["+old+","+fresh+"]", "")
	for name, texts := range head {
		for i, secret := range secrets {
			t.Run(fmt.Sprint(name, i), func(t *testing.T) {
				var archive []byte
				if texts[1] != "" {
					archive = []byte(`{"version":1,"retired":[` + strings.ReplaceAll(texts[1], "S", secret) + "]}")
				}
				var all []string
				text := strings.ReplaceAll(texts[0], "S", secret)
				if f, err := registry.Load("signers.json", []byte(text), "signers.archive.json", archive); err != nil {
					all = append(all, err.Error())
				} else {
					fs := append(f.Findings, registry.Validate(f.Registry, f.Archive, start)...)
					change := Change{Base: base, Head: record.Files{Registry: f.Registry, Archive: f.Archive, Dir: "rotations"}, Now: start, Age: time.Hour}
					more, err := change.Judge()
					if err != nil {
						t.Fatal(err)
					}
					fs = append(fs, more...)
					if finding.Count(fs, finding.Error) == 0 {
						t.Error("it was accepted")
					}
					for _, x := range fs {
						all = append(all, x.Message)
					}
				}
				said := strings.Join(all, "\n")
				for k := 0; k+4 <= len(secret); k++ {
					if part := secret[k : k+4]; strings.Contains(said, part) && part != "-----"[:4] && !strings.Contains("BEGIN PRIVATE KEY", part) {
						t.Fatalf("%q is shown:\n%s", part, said)
					}
				}
			})
		}
	}
}

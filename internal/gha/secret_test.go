package gha

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

func TestSecretNeverPrints(t *testing.T) {
	s := Secret("canary-token")
	in := inputs{Token: s}
	texts := []string{s.String(), fmt.Sprint(s), fmt.Sprintf("%q %v %+v %#v %s %x", s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", in, in, &in)}
	for _, v := range []any{s, in, []Secret{s}, map[string]Secret{"a": s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	for _, text := range texts {
		if strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary-token")) {
			t.Errorf("the secret shows in %q", text)
		}
	}
	if s.Reveal() != "canary-token" || Secret("").String() != "" {
		t.Error("Reveal does not give the text, or an empty secret does not look empty")
	}
}

// secrets are tokens and database URLs whose secret part holds "canary".
var secrets = []struct{ input, value, part string }{
	{"TOKEN", "ghs_canary0123456789", "ghs_canary0123456789"},
	{"TOKEN", "canary+/=&?#%:@!", "canary+/=&?#%:@!"},
	{"TOKEN", `canary"quoted\back'slash`, `canary"quoted\back'slash`},
	{"TOKEN", "canary-ünïcode-密", "canary-ünïcode-密"},
	{"DATABASE_URL", "postgres://audit:canary-pw@db.example:5432/audit?sslmode=verify-full", "canary-pw"},
	{"DATABASE_URL", "postgres://audit:canary%40pw%2Fx%3F@db.example/audit", "canary@pw/x?"},
	{"DATABASE_URL", "postgres://audit:canary@@pw@db.example/audit", "canary@@pw"},
	{"DATABASE_URL", "postgres://audit:canary%zzpw@db.example/audit", "canary%zzpw"},
	{"DATABASE_URL", "postgresql://db.example/audit?user=a&password=canary-param&sslmode=require", "canary-param"},
	{"DATABASE_URL", "host=db user=audit password=canary-dsn dbname=audit", "canary-dsn"},
	{"DATABASE_URL", `host=db password = 'canary \'quoted\' dsn' user=audit`, "canary 'quoted' dsn"},
	{"DATABASE_URL", "host=db sslpassword=canary-ssl", "canary-ssl"},
}

// disguises are the ways in which a library or an error shows a secret.
var disguises = []struct {
	name string
	of   func(string) string
}{
	{"plain", func(s string) string { return s }},
	{"query-escaped", url.QueryEscape},
	{"path-escaped", url.PathEscape},
	{"quoted", func(s string) string { return fmt.Sprintf("%q", s) }},
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"raw base64", func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }},
	{"base64url", func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }},
	{"basic auth of a token", func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("x-access-token:" + s))
	}},
	{"in a URL error", func(s string) string {
		return (&url.Error{Op: "Get", URL: "https://h/?t=" + url.QueryEscape(s), Err: errors.New("refused")}).Error()
	}},
	{"amid text", func(s string) string { return "password authentication failed (" + s + ") for user" }},
}

// TestSecretsDoNotLeak sends every form of every secret down every channel.
func TestSecretsDoNotLeak(t *testing.T) {
	channels := []struct {
		name string
		tell func(*Run, string) error
	}{
		{"log", func(r *Run, s string) error { r.Logf("log %s", s); return nil }},
		{"error", func(_ *Run, s string) error { return errors.New(s) }},
		{"misuse", func(_ *Run, s string) error { return Misuse("%s", s) }},
		{"panic", func(_ *Run, s string) error { panic(s) }},
		{"output", func(r *Run, s string) error { r.Output("head", s); return nil }},
		{"summary", func(r *Run, s string) error { r.Summary("# " + s + "\n"); return nil }},
		{"finding", func(r *Run, s string) error {
			r.Findings([]finding.Finding{{Rule: "r", File: s, Line: 1, Message: s}, {EventID: s, Position: 1, Message: "m"}})
			return Failed
		}},
	}
	tried := 0
	for _, secret := range secrets {
		for _, disguise := range disguises {
			if disguise.name == "basic auth of a token" && secret.input != "TOKEN" {
				continue
			}
			for _, whole := range []string{secret.value, secret.part} {
				shown := disguise.of(whole)
				for _, channel := range channels {
					for _, hosted := range []bool{false, true} {
						tried++
						r := (&runner{hosted: hosted, env: []string{"INPUT_" + secret.input + "=" + secret.value}}).run(t,
							func(_ context.Context, r *Run, _ inputs) error { return channel.tell(r, shown) })
						var said []string
						for line := range strings.Lines(r.everything()) {
							if !strings.HasPrefix(line, "::add-mask::") {
								said = append(said, line)
							}
						}
						if text := strings.Join(said, ""); leaks(text, secret.part) {
							t.Errorf("%s of %q leaks through %s (hosted %v): %s", disguise.name, whole, channel.name, hosted, text)
						}
						if !hosted && strings.Contains(r.everything(), "add-mask") {
							t.Fatal("a mask was printed where nobody acts on it")
						}
					}
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d ways were tried", tried)
	}
}

func leaks(text, secret string) bool {
	if strings.Contains(text, "canary") || strings.Contains(text, secret) {
		return true
	}
	for _, field := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \n:=()\"", c) }) {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			decoded, _ := encoding.DecodeString(field)
			if strings.Contains(string(decoded), "canary") {
				return true
			}
		}
	}
	return false
}

func TestMasksComeFirst(t *testing.T) {
	r := (&runner{
		hosted: true,
		args:   []string{"--unknown"},
		env:    []string{"INPUT_DATABASE_URL=postgres://u:p%40ss@h/d", "INPUT_TOKEN=abc"},
	}).run(t, func(context.Context, *Run, inputs) error { return nil })
	masks, rest, _ := strings.Cut(r.stdout, "::error::")
	for _, line := range []string{
		"postgres://u:p%2540ss@h/d", "p%2540ss", "p@ss", "abc",
		base64.RawStdEncoding.EncodeToString([]byte("p@ss")),
		base64.RawStdEncoding.EncodeToString([]byte("u:p@ss")),
	} {
		if !strings.Contains(masks, "::add-mask::"+line+"\n") {
			t.Errorf("%q is not masked before the first error: %s", line, r.stdout)
		}
	}
	if rest == "" || strings.Contains(rest, "add-mask") {
		t.Errorf("masks do not come first: %s", r.stdout)
	}
}

// A short password must not be taken out of our own words.
func TestShortSecretsAreMaskedOnly(t *testing.T) {
	r := (&runner{hosted: true, env: []string{"INPUT_DATABASE_URL=postgres://u:e@h/d"}}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Output("verdict", "verified")
		return nil
	})
	if !strings.Contains(r.stdout, "::add-mask::e\n") || !strings.Contains(r.outputs, "\nverified\n") {
		t.Errorf("masks %q, outputs %q", r.stdout, r.outputs)
	}
}

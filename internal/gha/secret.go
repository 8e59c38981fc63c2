package gha

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Secret is a token, a password or a database URL. However it is printed, it
// comes out as "***"; only Reveal gives the text.
type Secret string

// Reveal gives the text, for the library that needs it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) hidden() string {
	if s == "" {
		return ""
	}
	return "***"
}

// String hides the text; an empty secret stays empty.
func (s Secret) String() string { return s.hidden() }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.hidden() }

// MarshalText hides the text from JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.hidden()), nil }

// shortest is the length from which on a secret is taken out of our own texts.
// A shorter one is only masked: taking every "a" out of a verdict would make
// it unreadable, and would give the secret away besides.
const shortest = 6

// mask hides a secret in all its forms: from the log, by the runner, and from
// every text that r writes. Outside a runner nobody would act on the mask, and
// to print it would show the secret.
func (r *Run) mask(secret string) {
	if secret == "" {
		return
	}
	for _, form := range forms(secret) {
		if r.hosted {
			r.actions.AddMask(form)
		}
		if len(form) >= shortest {
			r.secrets = append(r.secrets, form)
		}
	}
	slices.SortFunc(r.secrets, longestFirst)
	var pairs []string
	for _, s := range r.secrets {
		pairs = append(pairs, s, "***")
	}
	r.hide = strings.NewReplacer(pairs...)
}

// longestFirst keeps a form that is part of another from leaving the rest of
// that one in sight.
func longestFirst(a, b string) int {
	return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
}

// A password in a URL ends at the last "@" before the path; libpq also takes
// one as a parameter, of a URL or of a connection string.
var (
	userinfo  = regexp.MustCompile(`://([^:/?#@]*):([^/?#]*)@`)
	parameter = regexp.MustCompile(`(?i)(?:^|[\s?&])(?:ssl)?password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s&]+))`)
	backslash = regexp.MustCompile(`\\(.)`)
)

// forms lists a secret, the passwords in it, and both as they look when
// URL-encoded, URL-decoded, quoted or in base64, alone or in a basic-auth pair.
func forms(secret string) []string {
	pairs := [][2]string{{"x-access-token", secret}}
	if m := userinfo.FindStringSubmatch(secret); m != nil {
		pairs = append(pairs, [2]string{m[1], m[2]})
	}
	for _, m := range parameter.FindAllStringSubmatch(secret, -1) {
		pairs = append(pairs, [2]string{"", m[1] + m[2]})
	}
	var all []string
	add := func(user, s string) {
		all = append(all, s, url.QueryEscape(s), url.PathEscape(s), strings.Trim(strconv.Quote(s), `"`))
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			all = append(all, encoding.EncodeToString([]byte(s)), encoding.EncodeToString([]byte(user+":"+s)))
		}
	}
	for _, pair := range pairs {
		add(pair[0], pair[1])
		if decoded, err := url.PathUnescape(pair[1]); err == nil && decoded != pair[1] {
			user, err := url.PathUnescape(pair[0])
			if err != nil {
				user = pair[0]
			}
			add(user, decoded)
		}
		if unquoted := backslash.ReplaceAllString(pair[1], "$1"); unquoted != pair[1] {
			add(pair[0], unquoted)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return strings.TrimSpace(s) == "" })
	slices.SortFunc(all, longestFirst)
	return slices.Compact(all)
}

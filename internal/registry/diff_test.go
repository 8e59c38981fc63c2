package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

func parse(t testing.TB, src string) *registry.Registry {
	t.Helper()
	r, _, err := registry.Parse("signers.json", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parseArchive(t testing.TB, src string) *registry.Archive {
	t.Helper()
	if src == "" {
		return &registry.Archive{Name: "signers.archive.json"}
	}
	a, _, err := registry.ParseArchive("signers.archive.json", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// item writes a retired signer; state and position may be given otherwise.
func item(entry string, change ...string) string {
	text := `{"entry":` + entry + `,"retiredAt":"2026-01-02T03:04:05Z","reason":"age","rotation":"r1","state":"retired","boundary":{"position":7,"digest":"` + strings.Repeat("a", 64) + `"}}`
	return strings.NewReplacer(change...).Replace(text)
}

func archive(items ...string) string {
	return `{"version":1,"retired":[` + strings.Join(items, ",") + `]}`
}

func TestValidate(t *testing.T) {
	x, y := entry("x", "a"), entry("y", "b")
	for name, tc := range map[string]struct{ registry, archive, want string }{
		"two signers":                      {list(x, y), "", ""},
		"one archived":                     {list(y), archive(item(x)), ""},
		"one id twice":                     {list(x, entry("x", "b")), "", registry.RuleDuplicateID},
		"one id in two letter cases":       {list(x, entry("X", "b")), "", registry.RuleDuplicateID},
		"an alias that is an id":           {list(x, entry("y", "b", `"aliases":["x"]`)), "", registry.RuleDuplicateID},
		"an alias twice":                   {list(entry("x", "a", `"aliases":["z","z"]`), y), "", registry.RuleDuplicateID},
		"an alias in two entries":          {list(entry("x", "a", `"aliases":["z"]`), entry("y", "b", `"aliases":["Z"]`)), "", registry.RuleDuplicateID},
		"an archived id":                   {list(entry("x", "b")), archive(item(x)), registry.RuleDuplicateID},
		"an archived id as alias":          {list(entry("y", "b", `"aliases":["x"]`)), archive(item(x)), registry.RuleDuplicateID},
		"an archived alias":                {list(entry("z", "b")), archive(item(entry("x", "a", `"aliases":["z"]`))), registry.RuleDuplicateID},
		"archived twice":                   {list(y), archive(item(x), item(entry("x", "c"))), registry.RuleArchiveItem + " " + registry.RuleDuplicateID},
		"retired, back, retired again":     {list(y), archive(item(x), item(x, ":7,", ":8,")), ""},
		"retired again before the first":   {list(y), archive(item(x), item(x, ":7,", ":6,")), registry.RuleArchiveItem},
		"archived and back as it was":      {list(x, y), archive(item(x)), ""},
		"back after a compromise":          {list(y, x), archive(strings.Replace(item(x), `"retired",`, `"compromised",`, 1)), registry.RuleReturnedSigner},
		"archived and back changed":        {list(entry("x", "c"), y), archive(item(x)), registry.RuleDuplicateID},
		"one key twice":                    {list(x, entry("y", "a")), "", registry.RuleDuplicateKey},
		"one key in two encodings":         {list(x, `{"id":"y","alg":"ed25519","key":"`+strings.ReplaceAll(key(t, "a").PEM(), "\n", `\n`)+`"}`), "", registry.RuleDuplicateKey},
		"an archived key":                  {list(entry("y", "a")), archive(item(x)), registry.RuleDuplicateKey},
		"one HMAC key twice":               {list(macEntry("x", "k"), macEntry("y", "k")), "", registry.RuleDuplicateKey},
		"two HMAC keys":                    {list(macEntry("x", "k"), macEntry("y", "l")), "", ""},
		"one KMS key id, not for HMAC":     {list(entry("x", "a", `"kmsKeyId":"k"`), entry("y", "b", `"kmsKeyId":"k"`)), "", ""},
		"deployed in two days":             {list(entry("x", "a", `"deployedAt":"2026-11-25T00:00:00Z"`)), "", registry.RuleDateInFuture},
		"deployed tomorrow":                {list(entry("x", "a", `"deployedAt":"2026-11-23T23:59:59Z"`)), "", ""},
		"entries without ids do not clash": {list(`{"alg":"ed25519"}`, `{"alg":"ed25519"}`), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fs := registry.Validate(parse(t, tc.registry), parseArchive(t, tc.archive), now)
			if rules(fs) != tc.want {
				t.Errorf("%v\nwant %q", fs, tc.want)
			}
			for _, f := range fs {
				if (f.Severity == finding.Warning) != (f.Rule == registry.RuleDateInFuture) || f.File == "" || f.Line < 1 {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func TestDiff(t *testing.T) {
	x, y, z := entry("x", "a"), entry("y", "b"), entry("z", "c")
	mac := macEntry("m", "k")
	withAlias := func(id, keyName, alias string) string { return entry(id, keyName, `"aliases":["`+alias+`"]`) }
	compromised := item(x, `"retired"`, `"compromised"`)
	for name, tc := range map[string]struct{ base, baseArchive, head, headArchive, want string }{
		// Allowed.
		"nothing":                          {list(x, y), "", list(x, y), "", ""},
		"a signer more":                    {list(x), "", list(x, y), "", ""},
		"a signer more, with aliases":      {list(x), "", list(x, withAlias("y", "b", "arn")), "", ""},
		"a signer more, in front":          {list(x), "", list(y, x), "", ""},
		"another order":                    {list(x, y), "", list(y, x), "", ""},
		"another layout":                   {list(x, y), "", strings.ReplaceAll(list(x, y), ",", ",\n\t "), "", ""},
		"another container":                {list(x, y), "", `{"signers":` + list(x, y) + `}`, "", ""},
		"other member names":               {list(x), "", strings.NewReplacer("signerId", "id", "publicKey", "key").Replace(list(x)), "", ""},
		"the key in another encoding":      {list(x), "", strings.ReplaceAll(list(x), public("a"), strings.ReplaceAll(key(t, "a").PEM(), "\n", `\n`)), "", ""},
		"another description":              {list(entry("x", "a", `"description":"p"`)), "", list(entry("x", "a", `"description":"q"`)), "", ""},
		"an alias more":                    {list(x), "", list(withAlias("x", "a", "arn")), "", registry.RuleAliasAdded},
		"retired":                          {list(x, y), "", list(y), archive(item(x)), ""},
		"retired, archive in use":          {list(y, z), archive(item(x)), list(z), archive(item(x), item(y)), ""},
		"retired as compromised":           {list(x, y), "", list(y), archive(compromised), ""},
		"rolled back":                      {list(y), archive(item(x)), list(y, x), archive(item(x)), ""},
		"rolled back, the last of two":     {list(z), archive(item(x), item(y)), list(z, y), archive(item(x), item(y)), ""},
		"rolled back, the first of two":    {list(z), archive(item(x), item(y)), list(z, x), archive(item(x), item(y)), ""},
		"the first registry":               {`{"signers":[]}`, "", list(x, y, z), "", ""},
		"a KMS key named at last":          {list(`{"id":"m","alg":"hmac-sha256"}`), "", list(mac), "", registry.RuleKMSKeyChanged},
		"a broken entry repaired":          {list(`{"id":"x","alg":"ed25519","key":"AAAA"}`, y), "", list(x, y), "", ""},
		"a broken entry dropped":           {list(`{"id":"x","alg":"ed25519","key":"AAAA"}`, y), "", list(y), "", ""},
		"an entry without an id dropped":   {list(`{"alg":"ed25519","key":"`+public("a")+`"}`, y), "", list(y), "", ""},
		"an entry with an id in its stead": {list(`{"alg":"ed25519","key":"`+public("a")+`"}`, y), "", list(x, y), "", ""},
		"the KMS key of an asymmetric key": {list(entry("x", "a", `"kmsKeyId":"k"`)), "", list(entry("x", "a", `"kmsKeyId":"l"`)), "", registry.RuleKMSKeyChanged},
		"a KMS key gone":                   {list(entry("x", "a", `"kmsKeyId":"k"`)), "", list(x), "", registry.RuleKMSKeyChanged},
		"two descriptions":                 {list(x, y), "", list(entry("x", "a", `"description":"p"`), entry("y", "b", `"description":"q"`)), "", ""},
		"one added, in another layout":     {list(x), "", strings.ReplaceAll(list(x, y), ",", ",\n\t "), "", ""},

		// Keys and ids.
		"another key":                       {list(x, y), "", list(entry("x", "c"), y), "", registry.RuleKeyChanged},
		"another algorithm":                 {list(mac, y), "", list(entry("m", "c"), y), "", registry.RuleKeyChanged},
		"another HMAC key":                  {list(mac), "", list(macEntry("m", "l")), "", registry.RuleKeyChanged},
		"no HMAC key":                       {list(mac), "", list(`{"id":"m","alg":"hmac-sha256"}`), "", registry.RuleKeyChanged},
		"a key replaced by a broken one":    {list(x), "", list(`{"id":"x","alg":"ed25519","key":"AAAA"}`), "", registry.RuleKeyChanged},
		"two keys swapped":                  {list(x, y), "", list(entry("x", "b"), entry("y", "a")), "", registry.RuleKeyChanged + " " + registry.RuleKeyChanged},
		"an alias removed":                  {list(withAlias("x", "a", "arn")), "", list(x), "", registry.RuleRemovedSigner},
		"an alias moved":                    {list(withAlias("x", "a", "arn"), y), "", list(x, withAlias("y", "b", "arn")), "", registry.RuleAliasAdded + " " + registry.RuleOneOperation + " " + registry.RuleRemovedSigner},
		"id and alias swapped":              {list(withAlias("x", "a", "w")), "", list(withAlias("w", "a", "x")), "", registry.RuleOneOperation + " " + registry.RuleRemovedSigner},
		"an id becomes another's alias":     {list(x, y), "", list(withAlias("y", "b", "x")), "", registry.RuleAliasAdded + " " + registry.RuleOneOperation + " " + registry.RuleRemovedSigner},
		"a new signer takes an id as alias": {list(x), "", list(withAlias("y", "b", "x")), "", registry.RuleOneOperation + " " + registry.RuleRemovedSigner},

		// Leaving, and one thing at a time.
		"removed":                            {list(x, y), "", list(y), "", registry.RuleRemovedSigner},
		"removed with its archive":           {list(y), archive(item(x)), list(y), "", registry.RuleArchiveRewrite},
		"all removed":                        {list(x), "", `[]`, "", registry.RuleRemovedSigner},
		"archived otherwise":                 {list(x, y), "", list(y), archive(item(entry("x", "c"))), registry.RuleUnarchivedEntry},
		"archived in another layout":         {list(x, y), "", list(y), archive(item(strings.ReplaceAll(x, ":", ": "))), registry.RuleUnarchivedEntry},
		"archived under an alias":            {list(x, y), "", list(y), archive(item(withAlias("w", "a", "x"))), registry.RuleRemovedSigner + " " + registry.RuleUnarchivedEntry},
		"archived and kept":                  {list(x, y), "", list(x, y), archive(item(x)), registry.RuleUnarchivedEntry},
		"a stranger archived":                {list(x), "", list(x), archive(item(z)), registry.RuleUnarchivedEntry},
		"a stranger archived besides":        {list(x, y), "", list(y), archive(item(x), item(z)), registry.RuleUnarchivedEntry},
		"two added":                          {list(x), "", list(x, y, z), "", registry.RuleOneOperation},
		"one added, one retired":             {list(x, y), "", list(y, z), archive(item(x)), registry.RuleOneOperation},
		"two retired":                        {list(x, y, z), "", list(z), archive(item(x), item(y)), registry.RuleOneOperation},
		"one added, another gets an alias":   {list(x), "", list(withAlias("x", "a", "arn"), y), "", registry.RuleAliasAdded + " " + registry.RuleOneOperation},
		"two get aliases":                    {list(x, y), "", list(withAlias("x", "a", "v"), withAlias("y", "b", "w")), "", registry.RuleAliasAdded + " " + registry.RuleAliasAdded + " " + registry.RuleOneOperation},
		"one added, another described":       {list(x), "", list(entry("x", "a", `"description":"p"`), y), "", registry.RuleOneOperation},
		"one retired, another described":     {list(x, y), "", list(entry("y", "b", `"description":"p"`)), archive(item(x)), registry.RuleOneOperation},
		"one back, another described":        {list(y), archive(item(x)), list(entry("y", "b", `"description":"p"`), x), archive(item(x)), registry.RuleOneOperation},
		"one gets an alias, another edited":  {list(x, y), "", list(withAlias("x", "a", "v"), entry("y", "b", `"description":"p"`)), "", registry.RuleAliasAdded + " " + registry.RuleOneOperation},
		"one added, another's KMS key":       {list(x), "", list(entry("x", "a", `"kmsKeyId":"l"`), y), "", registry.RuleKMSKeyChanged + " " + registry.RuleOneOperation},
		"one retired, another gets an alias": {list(x, y), "", list(withAlias("y", "b", "arn")), archive(item(x)), registry.RuleAliasAdded + " " + registry.RuleOneOperation},

		// The archive only grows.
		"archive dropped":            {list(z), archive(item(x), item(y)), list(z), "", registry.RuleArchiveRewrite + " " + registry.RuleArchiveRewrite},
		"last item dropped":          {list(z), archive(item(x), item(y)), list(z), archive(item(x)), registry.RuleArchiveRewrite},
		"first item dropped":         {list(z), archive(item(x), item(y)), list(z), archive(item(y)), registry.RuleArchiveRewrite + " " + registry.RuleArchiveRewrite},
		"items swapped":              {list(z), archive(item(x), item(y)), list(z), archive(item(y), item(x)), registry.RuleArchiveRewrite + " " + registry.RuleArchiveRewrite},
		"boundary moved":             {list(z), archive(item(x)), list(z), archive(item(x, ":7,", ":8,")), registry.RuleArchiveRewrite},
		"digest changed":             {list(z), archive(item(x)), list(z), archive(item(x, "aaaa", "bbbb")), registry.RuleArchiveRewrite},
		"state changed":              {list(z), archive(compromised), list(z), archive(item(x)), registry.RuleArchiveRewrite},
		"reason changed":             {list(z), archive(item(x)), list(z), archive(item(x, "age", "old")), registry.RuleArchiveRewrite},
		"key changed in the archive": {list(z), archive(item(x)), list(z), archive(item(entry("x", "d"))), registry.RuleArchiveRewrite},
		"an item put in front":       {list(y, z), archive(item(x)), list(z), archive(item(y), item(x)), registry.RuleArchiveRewrite},
		"the archive's own layout":   {list(z), archive(item(x)), list(z), strings.ReplaceAll(archive(item(x)), `"retired":[`, "\n\"retired\": [\n  "), ""},

		// Coming back.
		"back with another key":         {list(y), archive(item(x)), list(y, entry("x", "c")), archive(item(x)), registry.RuleReturnedSigner},
		"back with another description": {list(y), archive(item(x)), list(y, entry("x", "a", `"description":"d"`)), "", registry.RuleArchiveRewrite + " " + registry.RuleReturnedSigner},
		"back under its alias":          {list(y), archive(item(withAlias("x", "a", "w"))), list(y, entry("w", "c")), archive(item(withAlias("x", "a", "w"))), registry.RuleReturnedSigner},
		"back, its item taken out":      {list(y), archive(item(x)), list(y, x), "", registry.RuleArchiveRewrite},
		"back, not the last":            {list(z), archive(item(x), item(y)), list(z, x), archive(item(y)), registry.RuleArchiveRewrite + " " + registry.RuleArchiveRewrite},
		"back, and its item edited":     {list(y), archive(item(x)), list(y, x), archive(item(x, ":7,", ":8,")), registry.RuleArchiveRewrite + " " + registry.RuleUnarchivedEntry},
		"one back, another retired":     {list(y, z), archive(item(x)), list(z, x), archive(item(x), item(y)), registry.RuleOneOperation},
	} {
		t.Run(name, func(t *testing.T) {
			fs := registry.Diff(parse(t, tc.base), parseArchive(t, tc.baseArchive), parse(t, tc.head), parseArchive(t, tc.headArchive))
			if rules(fs) != tc.want {
				t.Errorf("%v\nwant %q", fs, tc.want)
			}
			for _, f := range fs {
				allowed := f.Rule == registry.RuleAliasAdded || f.Rule == registry.RuleKMSKeyChanged
				if (f.Severity == finding.Warning) != allowed || (f.Severity == finding.Error) == allowed || !strings.HasPrefix(f.File, "signers.") || f.Line < 1 || f.Message == "" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// No change that passes Parse, Validate and Diff takes away what an id
// verified with, or lets an id in by the archive.
func TestDiffKeepsEveryKey(t *testing.T) {
	entries := []string{entry("x", "a"), entry("x", "b"), entry("y", "b"), entry("y", "a"), entry("x", "a", `"aliases":["y"]`), entry("z", "c", `"aliases":["x"]`)}
	items := []string{item(entries[0]), item(entries[2]), item(entries[5])}
	type state struct {
		r *registry.Registry
		a *registry.Archive
	}
	var states []state
	for mask := range 1 << len(entries) {
		for some := range 1 << len(items) {
			var es, is []string
			for i, e := range entries {
				if mask>>i&1 == 1 {
					es = append(es, e)
				}
			}
			for i, e := range items {
				if some>>i&1 == 1 {
					is = append(is, e)
				}
			}
			s := state{parse(t, list(es...)), parseArchive(t, archive(is...))}
			if len(es) > 0 && len(registry.Validate(s.r, s.a, now)) == 0 {
				states = append(states, s)
			}
		}
	}
	speaks := func(s state) map[string]string {
		keys := map[string]string{}
		for _, e := range s.r.Signers {
			for _, id := range e.IDs() {
				keys[id] = e.Key.Fingerprint()
			}
		}
		for _, e := range s.a.Retired {
			for _, id := range e.IDs() {
				keys[id] = e.Key.Fingerprint()
			}
		}
		return keys
	}
	passed := 0
	for i, base := range states {
		for k, head := range states {
			if finding.Count(registry.Diff(base.r, base.a, head.r, head.a), finding.Error) > 0 {
				continue
			}
			passed++
			was, is := speaks(base), speaks(head)
			for id, fingerprint := range was {
				if is[id] != fingerprint {
					t.Errorf("%d to %d: %s verified with %.8s and now with %.8s", i, k, id, fingerprint, is[id])
				}
			}
			for _, e := range head.a.Retired {
				if _, known := was[e.ID]; !known {
					t.Errorf("%d to %d: %s came in by the archive", i, k, e.ID)
				}
			}
		}
	}
	if len(states) < 12 || passed < 2*len(states) {
		t.Errorf("%d states, %d changes pass: the test says little", len(states), passed)
	}
}

func TestParseArchive(t *testing.T) {
	good := item(entry("x", "a"))
	for name, tc := range map[string]struct{ src, want string }{
		"one":                          {archive(good), ""},
		"none":                         {archive(), ""},
		"schema and extension":         {`{"$schema":"s","version":1,"x-a":1,"retired":[]}`, ""},
		"of a map's entry":             {archive(item(`{"alg":"ed25519","key":"`+public("a")+`"}`, `{"entry"`, `{"id":"x","entry"`)), ""},
		"position 0":                   {archive(item(entry("x", "a"), ":7,", ":0,")), ""},
		"a list":                       {`[]`, registry.RuleShape},
		"no list of items":             {`{"version":1}`, registry.RuleShape},
		"items an object":              {`{"version":1,"retired":{}}`, registry.RuleShape},
		"no version":                   {`{"retired":[]}`, registry.RuleShape},
		"version 2":                    {`{"version":2,"retired":[]}`, registry.RuleShape},
		"version a string":             {`{"version":"1","retired":[]}`, registry.RuleShape},
		"an unknown member":            {`{"version":1,"retired":[],"signers":[]}`, registry.RuleUnknownMember},
		"an unknown member of an item": {archive(item(entry("x", "a"), `"reason"`, `"why":1,"reason"`)), registry.RuleUnknownMember},
		"an item a string":             {archive(`"x"`), registry.RuleArchiveItem},
		"an item without an entry":     {archive(`{"state":"retired"}`), registry.RuleArchiveItem},
		"an entry a string":            {archive(item(`"x"`)), registry.RuleArchiveItem},
		"an entry that is refused":     {archive(item(`{"id":"x","alg":"ed25519","key":"AAAA"}`)), "malformed-key"},
		"id a number":                  {archive(item(`{"alg":"ed25519","key":"`+public("a")+`"}`, `{"entry"`, `{"id":5,"entry"`)), registry.RuleArchiveItem},
		"id unlike the entry's":        {archive(item(entry("x", "a"), `{"entry"`, `{"id":"y","entry"`)), registry.RuleMemberConflict},
		"no reason":                    {archive(item(entry("x", "a"), `"reason":"age",`, ``)), registry.RuleArchiveItem},
		"no time":                      {archive(item(entry("x", "a"), `"retiredAt":"2026-01-02T03:04:05Z",`, ``)), registry.RuleArchiveItem},
		"time empty":                   {archive(item(entry("x", "a"), `"2026-01-02T03:04:05Z"`, `""`)), registry.RuleDate},
		"another state":                {archive(item(entry("x", "a"), `"state":"retired"`, `"state":"gone"`)), registry.RuleArchiveItem},
		"no state":                     {archive(item(entry("x", "a"), `"state":"retired",`, ``)), registry.RuleArchiveItem},
		"no boundary":                  {archive(item(entry("x", "a"), `"boundary"`, `"x-boundary"`)), registry.RuleArchiveItem + " " + registry.RuleUnknownMember},
		"boundary a number":            {archive(strings.Replace(good, good[strings.Index(good, `{"position"`):], `7}`, 1)), registry.RuleArchiveItem},
		"boundary with more":           {archive(item(entry("x", "a"), `"position"`, `"time":1,"position"`)), registry.RuleArchiveItem},
		"position negative":            {archive(item(entry("x", "a"), ":7,", ":-1,")), registry.RuleArchiveItem},
		"position a string":            {archive(item(entry("x", "a"), ":7,", `:"7",`)), registry.RuleArchiveItem},
		"position not whole":           {archive(item(entry("x", "a"), ":7,", ":7.0,")), registry.RuleArchiveItem},
		"position beyond 64 bits":      {archive(item(entry("x", "a"), ":7,", ":9223372036854775808,")), registry.RuleArchiveItem},
		"digest in upper case":         {archive(item(entry("x", "a"), "aaaa", "AAAA")), registry.RuleArchiveItem},
		"digest NULL":                  {archive(item(entry("x", "a"), `"`+strings.Repeat("a", 64)+`"`, "null")), registry.RuleArchiveItem},
	} {
		t.Run(name, func(t *testing.T) {
			a, fs, err := registry.ParseArchive("archive", []byte(tc.src))
			if err != nil || rules(fs) != tc.want {
				t.Fatalf("%v %v\nwant %q", err, fs, tc.want)
			}
			if name == "one" {
				was := a.Retired[0]
				digest, _ := chain.ParseDigest([]byte(strings.Repeat("a", 64)))
				if was.ID != "x" || was.Reason != "age" || was.Rotation != "r1" || was.State != registry.StateRetired || was.Boundary != (registry.Boundary{Position: 7, Digest: digest}) ||
					!was.RetiredAt.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || was.Key.IsZero() {
					t.Errorf("%+v", was)
				}
				if found, ok := a.Find("x"); !ok || found.ID != "x" || len(a.SHA256()) != 64 || string(a.Bytes()) != tc.src {
					t.Error("not found")
				}
			}
		})
	}
	none := &registry.Archive{}
	if _, ok := none.Find("x"); ok || none.SHA256() != "" || none.Bytes() != nil {
		t.Error("the archive of a repository without one is not empty")
	}
}

// Load reads both files and asks the schemas where the rules found nothing.
func TestLoad(t *testing.T) {
	good := list(entry("x", "a"))
	for name, tc := range map[string]struct {
		src, archive, want string
		unreadable         bool
	}{
		"both":                    {good, archive(item(entry("y", "b"))), "", false},
		"no archive":              {good, "", "", false},
		"by the schema":           {`{"signers":` + good + `,"description":5}`, "", registry.RuleSchema, false},
		"not twice":               {`{"signers":[],"description":5}`, "", registry.RuleNoSigner, false},
		"archive by the schema":   {good, `{"version":1,"retired":[],"$schema":5}`, registry.RuleSchema, false},
		"findings of both":        {`[]`, `[]`, registry.RuleNoSigner + " " + registry.RuleShape, false},
		"registry no JSON":        {`[`, "", "", true},
		"archive no JSON":         {good, `[`, "", true},
		"archive there and empty": {good, " ", "", true},
	} {
		var archived []byte
		if tc.archive != "" {
			archived = []byte(tc.archive)
		}
		files, err := registry.Load("kernel/signers.json", []byte(tc.src), "kernel/signers.archive.json", archived)
		if tc.unreadable {
			if _, ok := err.(*jsondoc.Error); !ok {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || rules(files.Findings) != tc.want {
			t.Errorf("%s: %v %v", name, err, files)
			continue
		}
		if files.Archive == nil || files.Archive.Name != "kernel/signers.archive.json" {
			t.Errorf("%s: %+v", name, files.Archive)
		}
	}
	if got := registry.ArchiveBeside("kernel/tools/signers.json"); got != "kernel/tools/signers.archive.json" {
		t.Error(got)
	}
	if got := registry.ArchiveBeside("signers.json"); got != "signers.archive.json" {
		t.Error(got)
	}
}

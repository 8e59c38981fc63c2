package registry_test

import (
	"fmt"
	"slices"
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
		"one HMAC key twice":               {list(macEntry("x", arn(1)), macEntry("y", arn(1))), "", registry.RuleDuplicateKey},
		"one HMAC key in two Regions":      {list(macEntry("x", strings.Replace(arn(1), "eu-west-1", "us-east-1", 1)), macEntry("y", arn(1))), "", registry.RuleDuplicateKey},
		"one HMAC key in two spellings":    {list(macEntry("x", strings.ToUpper(arn(1))+" "), macEntry("y", arn(1))), "", registry.RuleDuplicateKey},
		"two HMAC keys":                    {list(macEntry("x", arn(1)), macEntry("y", arn(2))), "", ""},
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

func TestEdits(t *testing.T) {
	x, y, z := entry("x", "a"), entry("y", "b"), entry("z", "c")
	mac := macEntry("m", arn(1))
	withAlias := func(id, keyName, alias string) string { return entry(id, keyName, `"aliases":["`+alias+`"]`) }
	kms := func(n int) string { return entry("x", "a", `"kmsKeyId":"`+arn(n)+`"`) }
	described := entry("y", "b", `"description":"p"`)
	broken := `{"id":"x","alg":"ed25519","key":"AAAA"}`
	const (
		removed, rewrite, unarchived = registry.RuleRemovedSigner, registry.RuleArchiveRewrite, registry.RuleUnarchivedEntry
		noRecord, changed, one       = registry.RuleNoRecord, registry.RuleKeyChanged, registry.RuleOneOperation
		returned, alias, kmsKey      = registry.RuleReturnedSigner, registry.RuleAliasAdded, registry.RuleKMSKeyChanged
	)
	for name, tc := range map[string]struct{ base, baseArchive, head, headArchive, want string }{
		// What is free.
		"nothing":                     {list(x, y), "", list(x, y), "", ""},
		"another order":               {list(x, y), "", list(y, x), "", ""},
		"another layout":              {list(x, y), "", strings.ReplaceAll(list(x, y), ",", ",\n\t "), "", ""},
		"another container":           {list(x, y), "", `{"signers":` + list(x, y) + `}`, "", ""},
		"a member beside the list":    {`{"signers":` + list(x) + `}`, "", `{"signers":` + list(x) + `,"description":"d"}`, "", ""},
		"other member names":          {list(x), "", strings.NewReplacer("signerId", "id", "publicKey", "key").Replace(list(x)), "", ""},
		"the key in another encoding": {list(x), "", strings.ReplaceAll(list(x), public("a"), strings.ReplaceAll(key(t, "a").PEM(), "\n", `\n`)), "", ""},
		"another description":         {list(entry("x", "a", `"description":"p"`)), "", list(entry("x", "a", `"description":"q"`)), "", ""},
		"a description taken away":    {list(x, described), "", list(x, y), "", ""},
		"two descriptions":            {list(x, y), "", list(entry("x", "a", `"description":"p"`), described), "", ""},
		"a date":                      {list(x), "", list(entry("x", "a", `"deployedAt":"2026-01-01T00:00:00Z"`)), "", ""},
		"a member of one's own":       {list(x), "", list(entry("x", "a", `"x-owner":"platform"`)), "", ""},
		"the archive's own layout":    {list(z), archive(item(x)), list(z), strings.ReplaceAll(archive(item(x)), `"retired":[`, "\n\"retired\": [\n  "), ""},
		"the first registry":          {`{"signers":[]}`, "", list(x, y, z), "", ""},

		// What is free and told.
		"an alias more":                    {list(x), "", list(withAlias("x", "a", "arn")), "", alias},
		"a KMS key named at last":          {list(x), "", list(kms(1)), "", kmsKey},
		"the KMS key of a public key":      {list(kms(1)), "", list(kms(2)), "", kmsKey},
		"a KMS key gone":                   {list(kms(1)), "", list(x), "", kmsKey},
		"a broken entry repaired":          {list(broken, y), "", list(x, y), "", registry.RuleEntryRepaired},
		"a broken entry dropped":           {list(broken, y), "", list(y), "", ""},
		"an HMAC key named at last":        {list(`{"id":"m","alg":"hmac-sha256"}`, y), "", list(mac, y), "", changed},
		"an entry without an id dropped":   {list(`{"alg":"ed25519","key":"`+public("a")+`"}`, y), "", list(y), "", ""},
		"an entry with an id in its place": {list(`{"alg":"ed25519","key":"`+public("a")+`"}`, y), "", list(x, y), "", noRecord},

		// Signers come by a record.
		"a signer more":                {list(x), "", list(x, y), "", noRecord},
		"a signer more, in front":      {list(x), "", list(y, x), "", noRecord},
		"a signer more, with aliases":  {list(x), "", list(x, withAlias("y", "b", "arn")), "", noRecord},
		"two more":                     {list(x), "", list(x, y, z), "", noRecord + " " + noRecord},
		"one more, another described":  {list(x), "", list(entry("x", "a", `"description":"p"`), y), "", noRecord},
		"a first one after an archive": {`{"signers":[]}`, archive(item(x)), list(y), archive(item(x)), noRecord},

		// Keys and ids.
		"another key":                    {list(x, y), "", list(entry("x", "c"), y), "", changed},
		"another algorithm":              {list(mac, y), "", list(entry("m", "c"), y), "", changed},
		"another HMAC key":               {list(mac), "", list(macEntry("m", arn(2))), "", changed},
		"no HMAC key":                    {list(mac), "", list(`{"id":"m","alg":"hmac-sha256"}`), "", changed},
		"another rotation":               {list(entry("x", "a", `"rotation":"r1"`)), "", list(entry("x", "a", `"rotation":"r2"`)), "", changed},
		"a key replaced by a broken one": {list(x), "", list(broken), "", changed},
		"two keys swapped":               {list(x, y), "", list(entry("x", "b"), entry("y", "a")), "", changed + " " + changed},
		"an alias removed":               {list(withAlias("x", "a", "arn")), "", list(x), "", removed},
		"an alias moved":                 {list(withAlias("x", "a", "arn"), y), "", list(x, withAlias("y", "b", "arn")), "", alias + " " + removed + " " + one},
		"id and alias swapped":           {list(withAlias("x", "a", "w")), "", list(withAlias("w", "a", "x")), "", removed + " " + noRecord},
		"an id becomes another's alias":  {list(x, y), "", list(withAlias("y", "b", "x")), "", alias + " " + removed},

		// One alias at a time, and alone.
		"two aliases for one":      {list(x), "", list(entry("x", "a", `"aliases":["v","w"]`)), "", alias + " " + one},
		"two get aliases":          {list(x, y), "", list(withAlias("x", "a", "v"), withAlias("y", "b", "w")), "", alias + " " + alias + " " + one},
		"an alias, and an edit":    {list(x, y), "", list(withAlias("x", "a", "v"), described), "", alias + " " + one},
		"an alias, and a KMS key":  {list(x, y), "", list(entry("x", "a", `"aliases":["v"]`), entry("y", "b", `"kmsKeyId":"`+arn(1)+`"`)), "", alias + " " + kmsKey + " " + one},
		"an alias, and its layout": {list(x, y), "", strings.ReplaceAll(list(withAlias("x", "a", "v"), y), ",", ",\n"), "", alias},

		// Leaving takes a move.
		"removed":             {list(x, y), "", list(y), "", removed},
		"all removed":         {list(x), "", `[]`, "", removed},
		"archived":            {list(x, y), "", list(y), archive(item(x)), removed + " " + unarchived},
		"archived and kept":   {list(x, y), "", list(x, y), archive(item(x)), unarchived},
		"a stranger archived": {list(x), "", list(x), archive(item(z)), unarchived},

		// The archive only grows.
		"archive dropped":            {list(z), archive(item(x), item(y)), list(z), "", rewrite},
		"last item dropped":          {list(z), archive(item(x), item(y)), list(z), archive(item(x)), rewrite},
		"items swapped":              {list(z), archive(item(x), item(y)), list(z), archive(item(y), item(x)), rewrite},
		"boundary moved":             {list(z), archive(item(x)), list(z), archive(item(x, ":7,", ":8,")), rewrite},
		"digest changed":             {list(z), archive(item(x)), list(z), archive(item(x, "aaaa", "bbbb")), rewrite},
		"state changed":              {list(z), archive(item(x, `"retired",`, `"compromised",`)), list(z), archive(item(x)), rewrite},
		"reason changed":             {list(z), archive(item(x)), list(z), archive(item(x, "age", "old")), rewrite},
		"key changed in the archive": {list(z), archive(item(x)), list(z), archive(item(entry("x", "d"))), rewrite},
		"an item put in front":       {list(z), archive(item(x)), list(z), archive(item(y), item(x)), rewrite},

		// Coming back takes a move.
		"back as it was":        {list(y), archive(item(x)), list(y, x), archive(item(x)), returned},
		"back with another key": {list(y), archive(item(x)), list(y, entry("x", "c")), archive(item(x)), returned},
		"back under its alias":  {list(y), archive(item(withAlias("x", "a", "w"))), list(y, entry("w", "c")), archive(item(withAlias("x", "a", "w"))), returned},
	} {
		t.Run(name, func(t *testing.T) {
			fs := registry.Edits(parse(t, tc.base), parseArchive(t, tc.baseArchive), parse(t, tc.head), parseArchive(t, tc.headArchive))
			if sorted(rules(fs)) != sorted(tc.want) {
				t.Errorf("got %v\nwant %q", fs, tc.want)
			}
			for _, f := range fs {
				told := f.Rule == alias || f.Rule == kmsKey || f.Rule == registry.RuleEntryRepaired
				if (f.Severity == finding.Warning) != told || !strings.HasPrefix(f.File, "signers.") || f.Line < 1 || f.Message == "" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// After a move only formatting is free.
func TestMismatches(t *testing.T) {
	x, y, z := entry("x", "a"), entry("y", "b"), entry("z", "c")
	before, after := archive(item(z)), archive(item(z), item(x))
	for name, tc := range map[string]struct {
		registry, archive, head, headArchive string
		gained                               int
		want                                 string
	}{
		"the same":                               {list(y), after, list(y), after, 1, ""},
		"another layout":                         {list(y), after, strings.ReplaceAll(list(y), ",", ",\n "), strings.ReplaceAll(after, `"retired":[`, `"retired": [`), 1, ""},
		"the new item in another order":          {list(y), after, list(y), archive(item(z), item(x, `"reason":"age","rotation":"r1",`, `"rotation":"r1","reason":"age",`)), 1, ""},
		"the new item's entry in another layout": {list(y), after, list(y), archive(item(z), item(strings.ReplaceAll(x, ":", ": "))), 1, registry.RuleMoveMismatch},
		"an old item in another layout":          {list(y), after, list(y), archive(item(strings.ReplaceAll(z, ":", ": ")), item(x)), 1, registry.RuleArchiveRewrite},
		"a signer that stays is gone":            {list(x, y), before, list(y), before, 0, registry.RuleMoveMismatch},
		"a signer that goes is there":            {list(y), after, list(x, y), after, 1, registry.RuleMoveMismatch},
		"an entry edited":                        {list(y), after, list(entry("y", "b", `"description":"p"`)), after, 1, registry.RuleMoveMismatch},
		"an alias added":                         {list(y), after, list(entry("y", "b", `"aliases":["z2"]`)), after, 1, registry.RuleMoveMismatch},
		"another order":                          {list(x, y), before, list(y, x), before, 0, registry.RuleMoveMismatch},
		"another container":                      {list(x, y), before, `{"signers":` + list(x, y) + `}`, before, 0, registry.RuleMoveMismatch},
		"a member beside the list":               {`{"signers":` + list(y) + `}`, before, `{"signers":` + list(y) + `,"version":1}`, before, 0, registry.RuleMoveMismatch},
		"a member of the archive":                {list(y), before, list(y), strings.Replace(before, `"version":1`, `"version":1,"x-a":1`, 1), 0, registry.RuleMoveMismatch},
		"the new item is not there":              {list(y), after, list(y), before, 1, registry.RuleMoveMismatch},
		"no archive at all":                      {list(y), archive(item(x)), list(y), "", 1, registry.RuleMoveMismatch},
		"one item more":                          {list(y), after, list(y), archive(item(z), item(x), item(entry("w", "d"))), 1, registry.RuleUnarchivedEntry},
		"an archive of no need":                  {list(y), "", list(y), archive(), 0, registry.RuleMoveMismatch},
		"another boundary":                       {list(y), after, list(y), archive(item(z), item(x, ":7,", ":8,")), 1, registry.RuleMoveMismatch},
		"another digest":                         {list(y), after, list(y), archive(item(z), item(x, "aaaa", "bbbb")), 1, registry.RuleMoveMismatch},
		"another state":                          {list(y), after, list(y), archive(item(z), item(x, `"retired",`, `"compromised",`)), 1, registry.RuleMoveMismatch},
		"another time":                           {list(y), after, list(y), archive(item(z), item(x, "03:04:05", "03:04:06")), 1, registry.RuleMoveMismatch},
		"another reason":                         {list(y), after, list(y), archive(item(z), item(x, "age", "old")), 1, registry.RuleMoveMismatch},
		"another rotation":                       {list(y), after, list(y), archive(item(z), item(x, `"r1"`, `"r2"`)), 1, registry.RuleMoveMismatch},
		"another signer":                         {list(y), after, list(y), archive(item(z), item(entry("w", "d"))), 1, registry.RuleMoveMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			fs := registry.Mismatches(parse(t, tc.registry), parseArchive(t, tc.archive), parse(t, tc.head), parseArchive(t, tc.headArchive), tc.gained)
			if rules(fs) != tc.want {
				t.Errorf("got %v\nwant %q", fs, tc.want)
			}
		})
	}
}

// arn is a key's full ARN.
func arn(n int) string {
	return fmt.Sprintf("arn:aws:kms:eu-west-1:111122223333:key/%08x-1111-4111-8111-111111111111", n)
}

// No change that passes Parse, Validate and Edits takes away what an id
// verified with, or lets an id in by the archive.
func TestEditsKeepEveryKey(t *testing.T) {
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
			if finding.Count(registry.Edits(base.r, base.a, head.r, head.a), finding.Error) > 0 {
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
	if len(states) < 12 || passed <= len(states) {
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

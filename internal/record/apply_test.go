package record_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// ids are those in the registry, then those in the archive with state and position.
func ids(f record.Files) string {
	var list []string
	for _, s := range f.Registry.Signers {
		list = append(list, s.ID)
	}
	list = append(list, "|")
	for _, s := range f.Archive.Retired {
		list = append(list, s.ID+":"+string(s.State)+":"+string(rune('0'+s.Boundary.Position)))
	}
	return strings.Join(list, " ")
}

// What each move makes of registry, archive and record.
func TestApply(t *testing.T) {
	three := Apply(opened(), In(record.IDFor("c"), Open(0, "c", "")))
	for name, tc := range map[string]struct {
		base     record.Files
		id       string
		move     record.Move
		files    string // that are written
		ids      string
		phase    record.Phase
		inFlight bool
	}{
		"the first signer":       {Load(registry.New, ""), record.IDFor("a"), Open(0, "a", ""), "rotate signers", "a |", record.Standby, false},
		"a standby":              {First("a"), rec, Open(0, "b", ""), "rotate signers", "a b |", record.Standby, false},
		"a replacement":          {First("a"), rec, Open(0, "b", "a"), "rotate signers", "a b |", record.Published, true},
		"an HMAC signer":         {First("a"), record.IDFor("mac1"), Open(0, "mac1", "a"), "rotate signers", "a mac1 |", record.Published, true},
		"a standby is promoted":  {standby(), rec, Promote(hour, "b", "a"), "rotate", "a b |", record.Published, true},
		"a first one promoted":   {First("a", "b"), rec, Promote(hour, "b", "a"), "rotate", "a b |", record.Published, true},
		"retired":                {opened(), rec, Retire(50*hour, opened(), "a", 7), "archive rotate signers", "b | a:retired:7", record.Archived, false},
		"retired with a third":   {three, rec, Retire(50*hour, three, "a", 7), "archive rotate signers", "b c | a:retired:7", record.Archived, false},
		"withdrawn":              {opened(), rec, Withdraw(hour, "b"), "archive rotate signers", "a | b:retired:0", record.WithdrawnPhase, false},
		"rolled back":            {opened(), rec, RollBack(hour, "a"), "rotate", "a b |", record.RolledBackPhase, false},
		"rolled back, archived":  {retired(), rec, RollBack(60*hour, "a"), "rotate signers", "b a | a:retired:7", record.RolledBackPhase, false},
		"left behind, archived":  {returned(), rec, Retire(120*hour, returned(), "b", 8), "archive rotate signers", "a | a:retired:7 b:retired:8", record.RolledBackPhase, false},
		"the outgoing one leaks": {opened(), record.CompromiseID("a"), Compromise(hour, "a", 7), "archive compromise signers", "b | a:compromised:7", record.CompromisedPhase, false},
		"the incoming one leaks": {opened(), record.CompromiseID("b"), Compromise(hour, "b", 7), "archive compromise signers", "a | b:compromised:7", record.CompromisedPhase, false},
		"one that never rotated": {First("a", "b"), record.CompromiseID("a"), Compromise(hour, "a", 7), "archive compromise signers", "b | a:compromised:7", record.CompromisedPhase, false},
	} {
		t.Run(name, func(t *testing.T) {
			before, archive := string(tc.base.Registry.Bytes()), string(tc.base.Archive.Bytes())
			after, err := tc.base.Apply(tc.id, tc.move)
			if err != nil {
				t.Fatal(err)
			}
			var files []string
			for _, path := range slices.Sorted(maps.Keys(after.Changed(tc.base))) {
				name := strings.TrimPrefix(strings.TrimPrefix(path, "tools/"), "rotations/")
				files = append(files, strings.Split(strings.TrimPrefix(strings.TrimSuffix(name, ".json"), "signers."), "-")[0])
			}
			slices.Sort(files)
			if got := strings.Join(files, " "); got != tc.files || ids(after) != tc.ids {
				t.Errorf("writes %q and leaves %q, want %q and %q", got, ids(after), tc.files, tc.ids)
			}
			if got := after.Phase(*after.Record(tc.id)); got != tc.phase || (len(after.InFlight()) == 1) != tc.inFlight {
				t.Errorf("phase %s, in flight %v; want %s, %v", got, after.InFlight(), tc.phase, tc.inFlight)
			}
			if string(tc.base.Registry.Bytes()) != before || string(tc.base.Archive.Bytes()) != archive {
				t.Error("the base has changed")
			}
		})
	}
}

// What a move must say, and in which files it can be made.
func TestApplyRefuses(t *testing.T) {
	other := func(s record.Signer, fingerprint, arn string) record.Signer {
		if fingerprint != "" {
			s.Fingerprint = fingerprint
		}
		if arn != "" {
			s.KMSKeyARN = arn
		}
		return s
	}
	open := func(edit func(m *record.Open)) *record.Open { m := Open(100*hour, "b", "a"); edit(m); return m }
	foreign := strings.Replace(ARN("a"), "111122223333", "666666666666", 1)
	wrong := strings.Repeat("0", 64)
	proof := &pubkey.Possession{Challenge: "x", Digest: wrong, Signature: "AAAA"}
	c := record.IDFor("c")
	left := Apply(returned(), In(rec, Retire(120*hour, returned(), "b", 8)))
	leaked := Apply(opened(), In(record.CompromiseID("a"), Compromise(hour, "a", 7)))
	for name, tc := range map[string]struct {
		base record.Files
		id   string
		move record.Move
		says string
	}{
		// Opening.
		"open: an id that is taken":         {First("a", "b"), rec, Open(0, "b", "a"), `"b" belongs to the published signer "b"`},
		"open: in other letters":            {First("a", "B"), rec, Open(0, "b", "a"), `belongs to the published signer "B"`},
		"open: a retired id":                {retired(), record.IDFor("a2"), open(func(m *record.Open) { m.Signer.ID, m.Replaces = "a", nil }), `"a" was retired before`},
		"open: a retired key":               {retired(), record.IDFor("a2"), open(func(m *record.Open) { m.Signer, m.Key, m.Replaces = Signer("a"), Key("a"), nil; m.Signer.ID = "a2" }), "duplicate-"},
		"open: a bad id":                    {First("a"), rec, open(func(m *record.Open) { m.Signer.ID = "b c" }), `signer id "b c"`},
		"open: an alias that is taken":      {First("a"), rec, open(func(m *record.Open) { m.Signer.KMSKeyARN = ARN("a") }), "duplicate-id"},
		"open: another fingerprint":         {First("a"), rec, open(func(m *record.Open) { m.Signer.Fingerprint = wrong }), "is not the one that the record names"},
		"open: another algorithm":           {First("a"), rec, open(func(m *record.Open) { m.Signer.Algorithm = pubkey.RSASHA256 }), "is not the one that the record names"},
		"open: no key":                      {First("a"), rec, open(func(m *record.Open) { m.Key = pubkey.Key{} }), "is not the one that the record names"},
		"open: an HMAC signer with a key":   {First("a"), rec, open(func(m *record.Open) { m.Signer = Signer("mac1") }), "is not the one that the record names"},
		"open: an alias of a KMS key":       {First("a"), rec, open(func(m *record.Open) { m.Signer.KMSKeyARN = "alias/audit" }), "is not the full ARN"},
		"open: a proof that proves nothing": {First("a"), rec, open(func(m *record.Open) { m.Possession = proof }), "possession of the key is not proven"},
		"open: replaces nobody's signer":    {First("a"), rec, Open(0, "b", "x"), "signer x is not in tools/signers.json"},
		"open: replaces an alias":           {First("a"), rec, open(func(m *record.Open) { m.Replaces.ID = ARN("a") }), "is not in tools/signers.json"},
		"open: replaces another key":        {First("a"), rec, open(func(m *record.Open) { *m.Replaces = other(Signer("a"), wrong, "") }), "names another key for signer a"},
		"open: replaces another KMS key":    {First("a"), rec, open(func(m *record.Open) { *m.Replaces = other(Signer("a"), "", foreign) }), "names another KMS key for signer a"},
		"open: replaces, without a KMS key": {First("a"), rec, open(func(m *record.Open) { m.Replaces.KMSKeyARN = "" }), "names another KMS key for signer a"},
		"open: replaces itself":             {First("a"), record.IDFor("a"), Open(0, "a", "a"), "belongs to the published signer"},
		"open: two rotations at once":       {opened(), c, Open(2*hour, "c", "b"), "rotation " + rec + " is in flight"},
		"open: a second record":             {standby(), "rotate-other", Open(2*hour, "b", ""), "has the record " + rec},
		"open: in a record that is there":   {standby(), rec, Open(2*hour, "c", ""), `"open", cannot be made after a signer that stands by`},
		"open: the name of a compromise":    {First("a"), "compromise-b", Open(0, "b", "a"), `begins with "rotate-"`},

		// Promoting.
		"promote: one that is not there":     {First("a"), rec, Promote(0, "b", "a"), "signer b is not in"},
		"promote: itself":                    {First("a", "b"), rec, Promote(0, "b", "b"), "cannot replace itself"},
		"promote: for nobody's signer":       {First("a", "b"), rec, Promote(0, "b", "x"), "signer x is not in"},
		"promote: in the record of another":  {Apply(standby(), In(c, Open(0, "c", ""))), c, Promote(hour, "b", "a"), "is about signer c, not about b"},
		"promote: in a record of its own":    {standby(), "rotate-other", Promote(hour, "b", "a"), "has the record " + rec},
		"promote: while another goes on":     {Apply(opened(), In(c, Open(0, "c", ""))), c, Promote(hour, "c", "b"), "is in flight"},
		"promote: one that replaced already": {retired(), rec, Promote(60*hour, "b", "a"), `"promote", cannot be made`},
		"promote: another key":               {standby(), rec, &record.Promote{By: By(hour), Signer: other(Signer("b"), wrong, ""), Replaces: Signer("a"), Policy: Policy}, "is about signer b, not about b"},

		// Retiring.
		"retire: the one that stays":       {opened(), rec, Retire(50*hour, opened(), "b", 7), "signer a leaves, not b"},
		"retire: one of others":            {Apply(opened(), In(c, Open(0, "c", ""))), rec, Retire(50*hour, opened(), "c", 7), "signer a leaves, not c"},
		"retire: a standby's record":       {standby(), rec, Retire(50*hour, standby(), "a", 7), `"retire", cannot be made`},
		"retire: twice":                    {retired(), rec, Retire(60*hour, retired(), "a", 7), `"retire", cannot be made`},
		"retire: without a record":         {First("a", "b"), rec, Retire(50*hour, First("a", "b"), "a", 7), `"retire", cannot be made`},
		"retire: a compromise's record":    {leaked, record.CompromiseID("a"), Retire(50*hour, leaked, "b", 7), `"retire", cannot be made`},
		"retire: the leaked one, again":    {leaked, rec, Retire(50*hour, leaked, "a", 7), "signer a is not in"},
		"retire: after the one that stays": {Apply(Apply(opened(), In(c, Open(0, "c", ""))), In(record.CompromiseID("b"), Compromise(hour, "b", 7))), rec, Retire(50*hour, opened(), "a", 7), "signer b, which replaces a, is not in"},
		"retire: another KMS key":          {opened(), rec, &record.Retire{By: By(50 * hour), Signer: other(Signer("a"), "", foreign), Gates: []record.Gate{}}, "names another KMS key"},
		"retire: before it was opened":     {opened(), rec, Retire(-hour, opened(), "a", 7), "was made before the move that it follows"},

		// Withdrawing.
		"withdraw: the old one":              {opened(), rec, Withdraw(hour, "a"), "published signer b, not a"},
		"withdraw: after the archive":        {retired(), rec, Withdraw(60*hour, "b"), `"withdraw", cannot be made`},
		"withdraw: after a rollback":         {returned(), rec, Withdraw(80*hour, "b"), `"withdraw", cannot be made`},
		"withdraw: a standby":                {standby(), rec, Withdraw(hour, "b"), `"withdraw", cannot be made`},
		"withdraw: where the old one leaked": {Apply(leaked, In(c, Open(2*hour, "c", ""))), rec, Withdraw(3*hour, "b"), "signer a, which goes on, is not in"},

		// Rolling back.
		"roll back: to the new one":     {opened(), rec, RollBack(hour, "b"), "replaced signer a, not b"},
		"roll back: twice":              {returned(), rec, RollBack(80*hour, "a"), `"roll back", cannot be made`},
		"roll back: after it ended":     {left, rec, RollBack(200*hour, "a"), `"roll back", cannot be made`},
		"roll back: a standby":          {standby(), rec, RollBack(hour, "a"), `"roll back", cannot be made`},
		"roll back: to one that leaked": {leaked, rec, RollBack(2*hour, "a"), "such a key never comes back"},
		"roll back: by another KMS key": {retired(), rec, &record.RollBack{By: By(60 * hour), Signer: other(Signer("a"), "", foreign)}, "names another KMS key"},

		// Compromises.
		"compromise: nobody's signer":        {opened(), record.CompromiseID("x"), Compromise(hour, "x", 7), "signer x is not in"},
		"compromise: the only one":           {First("a"), record.CompromiseID("a"), Compromise(hour, "a", 7), "has one signer only, a"},
		"compromise: in a rotation's record": {opened(), rec, Compromise(hour, "a", 7), `"compromise", cannot be made`},
		"compromise: by a rotation's name":   {opened(), "rotate-x", Compromise(hour, "a", 7), `begins with "compromise-"`},
		"compromise: another key":            {opened(), record.CompromiseID("a"), &record.Compromise{By: By(hour), Signer: other(Signer("a"), wrong, "")}, "names another key"},

		// Everything.
		"nobody made it": {First("a"), rec, open(func(m *record.Open) { m.Actor = "" }), "does not say when, by whom and why"},
		"for no reason":  {First("a"), rec, open(func(m *record.Open) { m.Reason = "" }), "does not say when, by whom and why"},
		"at no time":     {First("a"), rec, open(func(m *record.Open) { m.At = time.Time{} }), "does not say when, by whom and why"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.base.Apply(tc.id, tc.move)
			if _, is := errors.AsType[*record.Refused](err); !is || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want a refusal that says %q", err, tc.says)
			}
		})
	}
}

// What the records say about signers beside their own state.
func TestFiles(t *testing.T) {
	f := retired()
	for id, want := range map[string]string{"a": rec, "b": rec, ARN("a"): rec, ARN("b"): rec, "c": ""} {
		got := ""
		if r := f.Naming(id); r != nil {
			got = r.ID
		}
		if got != want {
			t.Errorf("%s is named by %q, want %q", id, got, want)
		}
	}
	for id, known := range map[string]bool{"b": true, "a": false, ARN("b"): false} {
		if got := f.Publishing(id) != nil; got != known {
			t.Errorf("the record of %s is there: %t, want %t", id, got, known)
		}
	}
	for id, want := range map[string]string{"a": ARN("a"), "b": ARN("b"), ARN("b"): "", "x": ""} {
		if got := f.Located(record.Signer{ID: id}).KMSKeyARN; got != want {
			t.Errorf("the KMS key of %s is %q, want %q", id, got, want)
		}
	}
	if got := f.Located(record.Signer{ID: "b", KMSKeyARN: "arn:of-the-record"}).KMSKeyARN; got != ARN("b") {
		t.Errorf("the registry's KMS key goes before the record's, got %q", got)
	}
	leaked := Apply(opened(), In(record.CompromiseID("a"), Compromise(hour, "a", 7)))
	if got := leaked.Phase(*leaked.Record(rec)); got != record.CompromisedPhase || leaked.Unsettled(*leaked.Record(rec)) {
		t.Errorf("the rotation of a signer that leaked is %s", got)
	}
	// A signer that was brought back is nobody's to withdraw, and can be replaced again.
	again := Apply(returned(), In(rec, Retire(120*hour, returned(), "b", 8)), In(record.IDFor("c"), Open(130*hour, "c", "a")))
	if ids(again) != "a c | a:retired:7 b:retired:8" || len(again.InFlight()) != 1 {
		t.Errorf("%s, in flight %v", ids(again), again.InFlight())
	}
}

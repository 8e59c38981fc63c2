package record_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
)

const hour = time.Hour

// rec is the record in which b is published.
var rec = record.IDFor("b")

// The files of a rotation of a by b, as far as they have come.
func opened() record.Files   { return Apply(First("a"), In(rec, Open(0, "b", "a"))) }
func retired() record.Files  { f := opened(); return Apply(f, In(rec, Retire(50*hour, f, "a", 7))) }
func returned() record.Files { return Apply(retired(), In(rec, RollBack(60*hour, "a"))) }
func standby() record.Files  { return Apply(First("a"), In(rec, Open(0, "b", ""))) }

// What is written is read again, as it was, and nothing else is a record.
func TestParse(t *testing.T) {
	full := record.Record{ID: rec, Moves: []record.Move{
		Open(0, "b", ""), Promote(hour, "b", "a"), Retire(50*hour, First("a"), "a", 7), RollBack(60*hour, "a"), Retire(120*hour, First("a"), "b", 8),
	}}
	text := string(full.JSON())
	back, err := record.Parse("r.json", []byte(text))
	if err != nil || string(back.JSON()) != text {
		t.Fatalf("got %s, %v\nwant %s", back.JSON(), err, text)
	}
	if _, err := record.Parse("r.json", []byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		t.Errorf("a checkout with other line ends: %v", err)
	}
	single := func(id string, m record.Move) string {
		return string(record.Record{ID: id, Moves: []record.Move{m}}.JSON())
	}
	open, compromise := single(rec, Open(0, "b", "a")), single("compromise-a", Compromise(0, "a", 7))
	withdrawn := string(record.Record{ID: rec, Moves: []record.Move{Open(0, "b", "a"), Withdraw(hour, "b")}}.JSON())
	for _, text := range []string{open, compromise, withdrawn} {
		if _, err := record.Parse("r.json", []byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	for name, tc := range map[string]struct{ text, old, new, says string }{
		"not JSON":                   {open, "{", "", "r.json:2:12: not JSON"},
		"no moves":                   {`{"version": 1, "id": "rotate-b", "moves": []}`, "", "", "/moves"},
		"another version":            {open, `"version": 1`, `"version": 2`, "/version"},
		"an id of another form":      {open, `"id": "rotate-`, `"id": "../`, "/id"},
		"an unknown move":            {open, `"move": "open"`, `"move": "close"`, "/moves/0/move"},
		"a move without a name":      {open, `"move": "open",`, ``, "/moves/0: move is required"},
		"an unknown member":          {open, `"actor"`, `"x": 1, "actor"`, "x"},
		"a member of another move":   {open, `"actor"`, `"boundary": {"position": 1, "digest": "` + strings.Repeat("0", 64) + `"}, "actor"`, "boundary"},
		"nobody":                     {open, `"octocat"`, `""`, "/moves/0/actor"},
		"no reason":                  {open, `"yearly rotation"`, `""`, "/moves/0/reason"},
		"a time with an offset":      {open, `12:00:00Z`, `13:00:00+01:00`, "/moves/0/at"},
		"a time with a fraction":     {open, `12:00:00Z`, `12:00:00.5Z`, "/moves/0/at"},
		"a day that is none":         {open, `2026-01-03T`, `2026-02-30T`, "day out of range"},
		"no overlap":                 {open, `"overlap": "48h0m0s"`, `"overlap": "0s"`, "overlap 0s is out of range"},
		"a short overlap":            {open, `"overlap": "48h0m0s"`, `"overlap": "3h0m0s"`, "shorter than 24h0m0s"},
		"an overlap in other words":  {open, `"overlap": "48h0m0s"`, `"overlap": "48h"`, "its text is not as this tool writes it"},
		"another layout":             {open, `"version": 1`, `"version":  1`, "its text is not as this tool writes it"},
		"another order":              {open, `"version": 1,`, ``, "version is required"},
		"a name twice":               {open, `"version": 1,`, `"version": 1, "version": 1,`, "twice"},
		"a number in other digits":   {compromise, `"position": 7`, `"position": 7.0`, "not"},
		"a boundary without digest":  {compromise, `"position": 7,`, `"position": 7`, "r.json:"},
		"a position below zero":      {compromise, `"position": 7`, `"position": -1`, "/boundary/position"},
		"a compromise of a rotation": {compromise, `"id": "compromise-a"`, `"id": "rotate-a"`, `begins with "compromise-"`},
		"a rotation of a compromise": {open, `"id": "rotate-`, `"id": "compromise-`, `begins with "rotate-"`},
		"moves in another order":     {single(rec, Withdraw(0, "b")), "", "", `move 1, "withdraw", cannot be made`},
		"two moves at once":          {withdrawn, `13:00:00Z`, `11:00:00Z`, "was made before the move that it follows"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(tc.text, tc.old, tc.new, 1)
			if changed == tc.text && tc.old != "" {
				t.Fatalf("%q is not in the text", tc.old)
			}
			_, err := record.Parse("r.json", []byte(changed))
			if _, is := errors.AsType[*jsondoc.Error](err); !is || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an error that says %q", err, tc.says)
			}
		})
	}
}

// Each stage and each move: the table decides alone.
func TestStages(t *testing.T) {
	a := Signer("a")
	after := map[record.Stage][]record.Move{
		record.New:       nil,
		record.Standing:  {Open(0, "b", "")},
		record.Replacing: {Open(0, "b", "a")},
		record.Replaced:  {Open(0, "b", "a"), Retire(50*hour, First("a"), "a", 7)},
		record.Back:      {Open(0, "b", "a"), RollBack(hour, "a")},
		record.Ended:     {Open(0, "b", "a"), Withdraw(hour, "b")},
	}
	next := []record.Move{
		Open(100*hour, "b", "a"), Promote(100*hour, "b", "a"), Retire(100*hour, First("a"), "a", 7),
		Withdraw(100*hour, "b"), RollBack(100*hour, "a"), Compromise(100*hour, "a", 7),
	}
	want := map[record.Stage]string{
		record.New: "open promote compromise", record.Standing: "promote", record.Replacing: "retire withdraw roll back",
		record.Replaced: "roll back", record.Back: "retire", record.Ended: "",
	}
	for stage, moves := range after {
		if got := (record.Record{Moves: moves}).State().Stage; got != stage {
			t.Errorf("stage %q, want %q", got, stage)
		}
		var can []string
		for _, m := range next {
			id := rec
			if m.Kind() == record.Compromised {
				id = record.CompromiseID("a")
			}
			if stage != record.New && m.Kind() == record.Compromised {
				id = rec
			}
			if _, err := record.Parse("r.json", record.Record{ID: id, Moves: append(moves[:len(moves):len(moves)], m)}.JSON()); err == nil {
				can = append(can, string(m.Kind()))
			}
		}
		if got := strings.Join(can, " "); got != want[stage] {
			t.Errorf("%s: %q can be made, want %q", stage, got, want[stage])
		}
	}
	s := (record.Record{Moves: after[record.Back]}).State()
	if s.Leaving.ID != "b" || s.Staying.ID != "a" || !s.Since.Equal(Start.Add(hour)) || s.Outgoing.ID != a.ID || s.Policy != Policy {
		t.Errorf("after a rollback: %+v", s)
	}
}

func TestPolicy(t *testing.T) {
	p := func(overlap, propagation, drain time.Duration, short bool) record.Policy {
		return record.Policy{Overlap: record.Duration(overlap), Propagation: record.Duration(propagation), Drain: record.Duration(drain), ShortAllowed: short}
	}
	for name, tc := range map[string]struct {
		policy record.Policy
		says   string
	}{
		"two days":                     {p(48*hour, 0, 0, false), ""},
		"a day":                        {p(24*hour, 0, 0, false), ""},
		"ninety days":                  {p(90*24*hour, 0, 0, false), ""},
		"none":                         {p(0, 0, 0, true), "out of range"},
		"too long":                     {p(90*24*hour+1, 0, 0, true), "out of range"},
		"less than a day":              {p(24*hour-1, 0, 0, false), "shorter than 24h0m0s"},
		"less than a day, by choice":   {p(time.Minute, 0, 0, true), ""},
		"shorter than what it waits":   {p(48*hour, 24*hour, 24*hour, false), "at least 49h0m0s"},
		"as long as what it waits":     {p(49*hour, 24*hour, 24*hour, false), ""},
		"propagation below zero":       {p(48*hour, -1, 0, true), "propagation"},
		"drain below zero":             {p(48*hour, 0, -1, true), "drain"},
		"propagation of half a year":   {p(48*hour, 180*24*hour, 0, true), "propagation"},
		"drain of half a year":         {p(48*hour, 0, 180*24*hour, true), "drain"},
		"shorter than that, by choice": {p(48*hour, 24*hour, 24*hour, true), ""},
	} {
		if err := tc.policy.Check(); (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
	}
}

// Ids are fit for a file and an alias, and tell signers apart.
func TestIDs(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"a", "A", "a/b", "a:b", "a-b", "arn:aws:kms:eu-west-1:111122223333:key/" + strings.Repeat("1", 200), "-", "日本"} {
		for _, got := range []string{record.IDFor(id), record.CompromiseID(id)} {
			if other, twice := seen[got]; twice || len(got) > 90 || strings.ContainsAny(got, "/:. ") {
				t.Errorf("%q has the id %q (as %q)", id, got, other)
			}
			seen[got] = id
		}
	}
}

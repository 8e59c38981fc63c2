package rotation

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// life plays random moves, as Apply allows them.
type life struct {
	*rand.Rand
	files record.Files
	at    time.Duration
	names int
	event int64
}

func newLife(seed uint64) *life {
	l := &life{Rand: rand.New(rand.NewPCG(seed, 14)), files: First("s0", "s1")}
	l.names = 2
	return l
}

// any is the id of a registered signer.
func (l *life) any() string {
	return l.files.Registry.Signers[l.IntN(len(l.files.Registry.Signers))].ID
}

// next tries random moves until one can be made, and makes it; the base is what was
// before. Days pass, and events are signed.
func (l *life) next() (base record.Files, id string, m record.Move) {
	for {
		l.event += 1 + l.Int64N(9)
		l.at += time.Duration(1+l.IntN(80)) * time.Hour
		id = ""
		if len(l.files.Records) > 0 {
			id = l.files.Records[l.IntN(len(l.files.Records))].ID
		}
		switch l.IntN(8) {
		case 0, 1:
			fresh := fmt.Sprintf("s%d", l.names)
			if l.names++; l.names%5 == 0 {
				fresh = "mac" + fresh
			}
			replaces := ""
			if l.IntN(3) > 0 {
				replaces = l.any()
			}
			id, m = record.IDFor(fresh), Open(l.at, fresh, replaces)
		case 2:
			from, to := l.any(), l.any()
			if id = record.IDFor(to); l.files.Publishing(to) != nil {
				id = l.files.Publishing(to).ID
			}
			m = Promote(l.at, to, from)
		case 3, 4:
			m = Retire(l.at, l.files, l.any(), l.event, allPassed()...)
		case 5:
			m = Withdraw(l.at, l.any())
		case 6:
			m = RollBack(l.at, "s0")
			if r := l.files.Record(id); r != nil && r.State().Outgoing != nil {
				m = RollBack(l.at, r.State().Outgoing.ID)
			}
		case 7:
			if l.IntN(3) > 0 {
				continue
			}
			leak := l.any()
			id, m = record.CompromiseID(leak), Compromise(l.at, leak, l.event)
		}
		base = l.files
		after, err := base.Apply(id, m)
		if err != nil {
			continue
		}
		if ret, is := m.(*record.Retire); is && ret.At.Before(base.Record(id).State().Since.Add(48*time.Hour)) {
			continue // the overlap is not over
		}
		l.files = after
		return base, id, m
	}
}

// states are so many pairs of files that follow each other by one move.
func states(n int) (list []pull) {
	for seed := uint64(1); len(list) < n; seed++ {
		l := newLife(seed)
		for range 12 {
			base, _, _ := l.next()
			list = append(list, pull{base, l.files})
		}
	}
	return list[:n]
}

// Every move that Apply makes, from whatever state, passes the gate.
func TestEveryMovePasses(t *testing.T) {
	kinds := map[record.Kind]int{}
	all := states(600)
	for i, p := range all {
		if fs := p.judged(t, nil); finding.Count(fs, finding.Error) > 0 {
			t.Fatalf("move %d is refused: %v", i, fs)
		}
		for _, r := range p.head.Records {
			if was := p.base.Record(r.ID); was == nil || len(was.Moves) < len(r.Moves) {
				kinds[r.Last().Kind()]++
			}
		}
	}
	if len(kinds) != 6 || kinds[record.Withdrawn] < 5 || kinds[record.Compromised] < 5 {
		t.Errorf("the moves that were made: %v", kinds)
	}
	t.Logf("%d moves pass: %v", len(all), kinds)
}

// mutant is one change of one value.
type mutant struct {
	file, path string
	text       string
}

// mutants are all texts of a JSON document in which one value, name or element is
// another one, or is not there, or is there twice.
func mutants(file string, src []byte) (list []mutant) {
	var doc any
	if err := json.Unmarshal(src, &doc); err != nil {
		panic(err)
	}
	var walk func(path string, v any, put func(any))
	add := func(path string) {
		text, _ := json.MarshalIndent(doc, "", "  ")
		list = append(list, mutant{file, path, string(text) + "\n"})
	}
	walk = func(path string, v any, put func(any)) {
		other := func(x any, how string) { put(x); add(path + " " + how); put(v) }
		switch v := v.(type) {
		case map[string]any:
			for _, name := range sortedKeys(v) {
				was := v[name]
				walk(path+"/"+name, was, func(x any) { v[name] = x })
				delete(v, name)
				add(path + "/" + name + " gone")
				v[name+"2"] = was
				add(path + "/" + name + " renamed")
				delete(v, name+"2")
				v[name] = was
			}
			v["stray"] = "value"
			add(path + " a member more")
			delete(v, "stray")
		case []any:
			for i := range v {
				walk(path+"/"+strconv.Itoa(i), v[i], func(x any) { v[i] = x })
				other(slices.Delete(slices.Clone(v), i, i+1), strconv.Itoa(i)+" gone")
				other(append(slices.Clone(v), v[i]), strconv.Itoa(i)+" twice")
			}
			if len(v) > 1 {
				r := slices.Clone(v)
				slices.Reverse(r)
				other(r, "in another order")
			}
		case string:
			for _, x := range otherTexts(v) {
				other(x, "is "+strconv.Quote(x))
			}
			other(1.0, "is a number")
			other(nil, "is null")
		case float64:
			other(v+1, "one more")
			other(v-1, "one less")
			other(0.0, "zero")
			other(strconv.Itoa(int(v)), "a text")
		case bool:
			other(!v, "the contrary")
		}
	}
	walk("", doc, func(x any) { doc = x })
	return list
}

// otherTexts are values that stand for the kinds of text in these files: ids, keys,
// digests, times, states, links.
func otherTexts(v string) (list []string) {
	for _, x := range []string{"", "x", v + "x", "s0", "s1", Signer("s1").Fingerprint, ARN("s1"), Key("s1").PEM(), strings.Repeat("0", 64), "2026-01-01T00:00:00Z",
		"retired", "compromised", "passed", "waiting", "off", "open", "promote", "retire", "withdraw", "roll back", "compromise", "ed25519", "hmac-sha256", record.IDFor("s0")} {
		if x != v {
			list = append(list, x)
		}
	}
	return list
}

func sortedKeys(m map[string]any) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// free reports whether a changed registry may pass: a pull request of no move that
// makes an edit which the gate lists as free.
func free(base, head record.Files) bool {
	fs := registry.Edits(base.Registry, base.Archive, head.Registry, head.Archive)
	return finding.Count(fs, finding.Error) == 0
}

var every = flag.Int("every", 293, "play one of so many mutations of each state, another one each time")

// From each reachable state, every change of one value of registry, archive or a
// record is refused that is neither a move nor one of the listed edits: in a pull
// request that makes a move, whatever is changed besides; in one that makes none,
// whatever is not free. What cannot be read is refused by its reader. A change of a
// value that only the author of a move vouches for makes another move of it.
func TestEveryMutationIsRefused(t *testing.T) {
	const n = 500
	var tried, unread, passed, free, word int
	for i, p := range states(n) {
		moves := append([]mutant{}, mutants("registry", p.head.Registry.Bytes())...)
		if len(p.head.Archive.Bytes()) > 0 {
			moves = append(moves, mutants("archive", p.head.Archive.Bytes())...)
		}
		for _, r := range p.head.Records {
			moves = append(moves, mutants(r.ID, r.JSON())...)
		}
		for k := i % *every; k < len(moves); k += *every {
			m := moves[k]
			for _, base := range []record.Files{p.base, p.head} { // with the move, and without any
				tried++
				head, ok := m.apply(p.head)
				if !ok {
					unread++
					continue
				}
				q := pull{base, head}
				fs := q.judged(t, func(c *Change) { c.Now = Start.Add(24 * 365 * hour); c.Age = 0 })
				if finding.Count(fs, finding.Error) > 0 {
					continue
				}
				if m.isFree(base, head) {
					free++
					continue
				}
				if m.isWord(base, head) {
					word++
					continue
				}
				passed++
				if passed < 10 {
					t.Errorf("state %d: %s%s passes (a move: %t)", i, m.file, m.path, len(head.Records) > 0 && base.Registry == p.base.Registry)
				}
			}
		}
	}
	if tried < 10_000 || free == 0 || word == 0 {
		t.Errorf("%d mutations, %d free, %d of a word: the test says little", tried, free, word)
	}
	t.Logf("%d states, %d mutations: %d unreadable, %d listed as free, %d another move by its author's word, %d passed", n, tried, unread, free, word, passed)
}

// apply puts the mutant into files; false where no reader takes them.
func (m mutant) apply(f record.Files) (record.Files, bool) {
	reg, arch, records := f.Registry.Bytes(), f.Archive.Bytes(), f.Records
	switch m.file {
	case "registry":
		reg = []byte(m.text)
	case "archive":
		arch = []byte(m.text)
	default:
		r, err := record.Parse("r.json", []byte(canonicalRecord(m.text)))
		if err != nil || r.ID != m.file {
			return f, false
		}
		records = slices.Clone(records)
		records[slices.IndexFunc(records, func(r record.Record) bool { return r.ID == m.file })] = r
	}
	files, err := registry.Load(f.Registry.Name, reg, f.Archive.Name, arch)
	if err != nil || finding.Count(append(files.Findings, registry.Validate(files.Registry, files.Archive, Start.Add(24*365*hour))...), finding.Error) > 0 {
		return f, false
	}
	return record.Files{Registry: files.Registry, Archive: files.Archive, Records: records, Dir: f.Dir}, true
}

// canonicalRecord writes the members of a record's text in the order of the tool, as
// far as it is a record: a mutant must not be refused for its layout alone.
func canonicalRecord(text string) string {
	var r record.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return text
	}
	var is, was any
	json.Unmarshal(r.JSON(), &is)
	json.Unmarshal([]byte(text), &was)
	if fmt.Sprint(is) != fmt.Sprint(was) {
		return text // a member would be lost
	}
	return string(r.JSON())
}

// isFree reports whether this mutant is one of the listed edits of the registry, in a
// change that makes no move.
func (m mutant) isFree(base, head record.Files) bool {
	return m.file == "registry" && len(base.Records) == len(head.Records) && base.Archive.SHA256() == head.Archive.SHA256() && free(base, head)
}

// words are the values of a new move that nothing in the repository can contradict:
// SECURITY.md lists them. Reasons of moves that write the registry or the archive
// are in there, too, and are compared.
var words = regexp.MustCompile(`^/moves/(\d+)/(actor|reason|runUrl|policy/(drain|propagation|overlap|shortOverlapAllowed)|` +
	`gates/\d+/detail|evidence/(events|head|checkpoint|reportSha256)|cutover/position|publishedIn|window)( |/|$)`)

// isWord reports whether this mutant changes the author's word in the new move.
func (m mutant) isWord(base, head record.Files) bool {
	at := words.FindStringSubmatch(m.path)
	is, was := head.Record(m.file), base.Record(m.file)
	if at == nil || is == nil || at[1] != strconv.Itoa(len(is.Moves)-1) || was != nil && len(was.Moves) == len(is.Moves) {
		return false
	}
	kind := is.Last().Kind()
	return at[2] != "reason" || kind == record.Promoted || kind == record.RolledBack
}

package actions_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	sequences = flag.Int("sequences", 20, "how many random histories TestModel plays")
	first     = flag.Uint64("first", 0, "the seed of the first of them")
)

// steps is the length of a history.
const steps = 50

// TestModel plays random histories of a repository, its chain and its keys with
// the actions themselves, as a runner would start them, against a GitHub over a
// bare repository, a KMS and a CloudTrail: people add signers, merge, close,
// deploy where guard-deploy lets them, write, wait, finalize, go back, declare
// keys stolen and disable them, in any order, and any run may be killed at any
// call. After each step what a user relies on must hold; see laws.
//
// A history follows from its seed: go test ./actions -run TestModel -first=SEED
// -sequences=1 plays it again.
func TestModel(t *testing.T) {
	hurried(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	did, next := map[string]int{}, *first
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= *first+uint64(*sequences) && !t.Failed()
	}
	for range 2 * runtime.GOMAXPROCS(0) { // each waits for a process most of the time
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				h, err := newHistory(t, seed)
				if err != nil {
					t.Error(err)
					return
				}
				if bad := cmp.Or(h.play(), h.end()); bad != "" {
					t.Errorf("seed %d: %s\n%s", seed, bad, strings.Join(h.log, "\n"))
				}
				mu.Lock()
				for what, n := range h.did {
					did[what] += n
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, what := range slices.Sorted(maps.Keys(did)) {
		t.Logf("%7d %s", did[what], what)
	}
	for _, m := range moves {
		often = append(often, "move "+m.name)
	}
	if *sequences >= 500 {
		often = append(often, seldom...)
	}
	for _, what := range often {
		if did[what] == 0 && *sequences >= 20 {
			t.Errorf("it never came to this: %s", what)
		}
	}
}

// often is what happens in any twenty histories, beside every move, and seldom
// what happens in any five hundred: else they show nothing.
var (
	often = []string{
		"merged add-signer", "merged finalize", "killed add-signer", "killed finalize", "killed guard-deploy",
		"deployed", "refused by guard-deploy", "a key disabled", "a checkpoint written",
	}
	seldom = []string{
		"merged promote-signer", "merged rollback", "merged compromise", "killed rollback", "killed verify-chain",
		"refused by the gate", "half a change is refused", "another value is refused", "a conflict", "an alarm", "a key enabled",
	}
)

// moves are what people, machines and thieves do, each so many times as often.
// One that has nothing to act on says so, and another is made.
var moves = []struct {
	name   string
	weight int
	make   func(*history) (made bool)
}{
	{"add", 4, (*history).add},
	{"merge", 9, (*history).merge},
	{"forge", 5, (*history).forge},
	{"close", 1, (*history).closeOne},
	{"deploy", 5, (*history).deploy},
	{"write", 6, (*history).write},
	{"wait", 6, (*history).wait},
	{"check", 3, (*history).check},
	{"finalize", 7, (*history).finalize},
	{"rollback", 2, (*history).rollback},
	{"compromise", 1, (*history).compromise},
	{"disable", 2, (*history).disable},
	{"stray", 1, (*history).stray},
}

// runbook is the order in which a careful team makes them. Every other move is
// its next one, so that histories get somewhere; the rest comes in between.
var runbook = []string{"add", "merge", "wait", "deploy", "write", "wait", "finalize", "merge", "disable"}

// play makes the moves of a history until a law is broken.
func (h *history) play() (bad string) {
	if bad = h.begin(); bad != "" {
		return bad
	}
	var urn []string
	for _, m := range moves {
		urn = append(urn, slices.Repeat([]string{m.name}, m.weight)...)
	}
	page := 0
	for h.step = 1; h.step <= steps; h.step++ {
		for made := false; !made; {
			if h.IntN(2) == 0 {
				made = h.move(runbook[page%len(runbook)])
				page++
			} else {
				made = h.move(pick(h.Rand, urn))
			}
		}
		if bad = h.judge(); bad != "" {
			return bad
		}
	}
	return ""
}

func (h *history) move(name string) (made bool) {
	for _, m := range moves {
		if m.name == name && m.make(h) {
			h.did["move "+name]++
			return true
		}
	}
	return false
}

// begin publishes and deploys the first signer.
func (h *history) begin() string {
	spec := specs[h.IntN(len(specs))]
	h.run("add-signer", "--key-spec="+spec, "--signer-id=s0", "--reason=the first one")
	h.merge()
	h.skew.Add(int64(10 * time.Minute))
	h.look()
	if len(h.now.signers) != 1 {
		return cmp.Or(h.bad, "the first signer was not published")
	}
	h.deployed = []string{h.now.signers[0].KMSKeyID}
	h.events(2)
	return h.judge()
}

var specs = []string{"ECC_NIST_EDWARDS25519", "ECC_NIST_EDWARDS25519", "ECC_NIST_EDWARDS25519", "RSA_2048", "HMAC_256"}

// pick picks one, the zero value of nothing.
func pick[T any](r *rand.Rand, from []T) (one T) {
	if len(from) > 0 {
		one = from[r.IntN(len(from))]
	}
	return one
}

// add opens a rotation, goes on with one whose run was killed, or tries what is
// not allowed: an id or a key that was used before, a second rotation at once.
func (h *history) add() bool {
	if h.flying() && h.IntN(6) > 0 || h.named > 9 {
		return false
	}
	id := fmt.Sprintf("s%d", h.named)
	switch h.IntN(6) {
	case 0:
		id = fmt.Sprintf("s%d", h.IntN(h.named))
	case 1, 2:
		id = fmt.Sprintf("s%d", h.named-1)
	default:
		h.named++
	}
	args := []string{"--signer-id=" + id, "--reason=a rotation"}
	if h.IntN(6) == 0 {
		args = append(args, "--kms-key-id="+pick(h.Rand, h.arns))
	} else {
		args = append(args, "--key-spec="+specs[int(h.seed+uint64(h.named))%len(specs)])
	}
	switch h.IntN(5) {
	case 0: // a standby
		args = append(args, "--replaces=none")
	case 1, 2, 3:
		args = append(args, "--replaces="+h.owner(h.deployed[len(h.deployed)-1]))
	}
	h.risk("add-signer", args...)
	return true
}

// forge asks the gate about a pull request of which a person has left out a file, or
// changed a value of registry or archive. Where it lets that pass, a law is broken.
func (h *history) forge() bool {
	number := h.anyOpen()
	if number == 0 {
		return false
	}
	was, back := h.github.Files("main"), h.github.Snapshot()
	if _, err := h.github.Merge(number); err != nil {
		return false
	}
	type forgery struct{ what, path, text string }
	var list []forgery
	is := h.github.Files("main")
	for _, path := range slices.Sorted(maps.Keys(is)) {
		if is[path] == was[path] {
			continue
		}
		if was[path] != "" {
			list = append(list, forgery{"half a change", path, was[path]})
		}
		for _, value := range []string{`"deployedAt": "2`, `"retiredAt": "2`} { // of the newest entry, or item
			if i := strings.LastIndex(is[path], value); i >= 0 {
				i += len(value)
				list = append(list, forgery{"another value", path, is[path][:i-1] + "1" + is[path][i:]})
			}
		}
	}
	f := pick(h.Rand, list)
	if len(list) < 2 || h.gate() != "" { // a record alone may be left out
		h.fail(back())
		return false
	}
	_, err := h.github.CommitFile("main", f.path, f.text, "mallory")
	h.fail(err)
	why := h.gate()
	h.fail(back())
	if why == "" {
		h.fail(fmt.Errorf("%s of #%d passes the gate: %s", f.what, number, f.path))
	}
	h.did[f.what+" is refused"]++
	h.say("%s of #%d (%s) is refused: %s", f.what, number, f.path, why)
	return true
}

// flying tells whether a rotation is under way: one signer replaces another, and
// both are registered.
func (h *history) flying() bool {
	registered := func(id string) bool {
		return slices.ContainsFunc(h.now.signers, func(s entry) bool { return s.ID == id })
	}
	return slices.ContainsFunc(h.now.rotations, func(r rotationRecord) bool {
		m := r.Moves[len(r.Moves)-1]
		return r.replacing() && registered(m.Signer.ID) && registered(m.Replaces.ID)
	})
}

// merge puts a pull request into the merge queue: it is merged, the gate judges
// what main would be, and what it refuses does not become main.
func (h *history) merge() bool {
	number := h.anyOpen()
	if number == 0 {
		return false
	}
	kind := strings.Split(h.github.Pull(number).Branch, "/")[1]
	back := h.github.Snapshot()
	if _, err := h.github.Merge(number); err != nil {
		h.say("#%d (%s) conflicts with main", number, kind)
		h.did["a conflict"]++
		return true
	}
	if why := h.gate(); why != "" {
		h.fail(back())
		h.say("#%d (%s) is refused: %s", number, kind, why)
		h.did["refused by the gate"]++
		h.did["refused by the gate: "+kind+", "+rule(why)]++
		return true
	}
	h.say("#%d (%s) is merged", number, kind)
	h.did["merged "+kind]++
	return true
}

// anyOpen is the number of some open pull request, 0 of none.
func (h *history) anyOpen() int {
	var open []int
	for _, p := range h.github.Pulls() {
		if p.State == "open" {
			open = append(open, p.Number)
		}
	}
	return pick(h.Rand, open)
}

func (h *history) closeOne() bool {
	number := h.anyOpen()
	if number == 0 {
		return false
	}
	h.fail(h.github.ClosePull(number))
	h.say("#%d is closed", number)
	h.did["closed"]++
	return true
}

// deploy configures a signer where guard-deploy lets it pass; sometimes the
// last one writes on until the deployment has rolled everywhere.
func (h *history) deploy() bool {
	s := h.now.signers[len(h.now.signers)-1] // mostly what was published last
	switch h.IntN(8) {
	case 0:
		s = pick(h.Rand, h.now.signers)
	case 1:
		s = pick(h.Rand, h.now.all())
	}
	key, old := s.KMSKeyID, h.deployed[len(h.deployed)-1]
	if h.IntN(10) == 0 {
		key = pick(h.Rand, h.arns)
	}
	if key == old && h.IntN(10) > 0 {
		return false
	}
	switch o := h.risk("guard-deploy", "--signer-id="+s.ID, "--kms-key-id="+key); o.code {
	case 0:
		h.deployed = []string{key}
		if h.IntN(4) == 0 && old != key {
			h.deployed = []string{old, key}
		}
		h.did["deployed"]++
	case -1:
	default:
		h.did["refused by guard-deploy"]++
	}
	return true
}

func (h *history) write() bool {
	h.events(1 + h.IntN(3))
	if s := pick(h.Rand, h.now.all()); h.IntN(12) == 0 && (h.now.active(s.KMSKeyID) || h.IntN(3) == 0) {
		h.say("a writer that was forgotten uses the key of %s", s.ID)
		h.sign(s.KMSKeyID)
	}
	for _, arn := range h.arns {
		if h.stolen[arn] && h.IntN(6) == 0 {
			h.say("the thief of %s writes", h.owner(arn))
			h.sign(arn)
		}
	}
	return true
}

func (h *history) wait() bool {
	d := []time.Duration{10 * time.Minute, time.Hour, 49 * time.Hour, 49 * time.Hour, 80 * time.Hour}[h.IntN(5)]
	if d >= time.Hour && h.IntN(6) > 0 { // a deployment has rolled everywhere by then
		h.deployed = h.deployed[len(h.deployed)-1:]
	}
	h.say("%s pass", d)
	h.skew.Add(int64(d))
	return true
}

func (h *history) check() bool {
	h.scheduled("verify-chain", "--checkpoint-branch="+checkpoints, "--events-path=events.ndjson", "--registry-path=main/"+publishedIn+"signers.json")
	return true
}

func (h *history) finalize() bool {
	args := []string{"--events-path=events.ndjson"}
	if h.now.checkpoint.Count > 0 && h.IntN(2) == 0 {
		args = append(args, "--checkpoint-branch="+checkpoints)
	}
	h.scheduled("finalize", args...)
	return true
}

// scheduled is a run that nobody gives other inputs to: none may end as one that
// was used wrongly, because it would do so for ever.
func (h *history) scheduled(action string, args ...string) {
	if o := h.risk(action, args...); o.code == 2 {
		h.fail(fmt.Errorf("%s is used rightly, and ends with 2", action))
	}
}

func (h *history) rollback() bool {
	rec := pick(h.Rand, h.now.rotations)
	if !rec.replacing() && !rec.retired() && h.IntN(6) > 0 {
		return false
	}
	args := []string{"--rotation=" + rec.ID, "--reason=it fails"}
	if h.IntN(2) == 0 {
		args = append(args, "--events-path=events.ndjson")
	}
	if h.IntN(2) == 0 {
		args = append(args, "--enable-kms-key=true")
	}
	h.risk("rollback", args...)
	return true
}

// compromise: a key is found in the wrong hands, which may have used it.
func (h *history) compromise() bool {
	if len(h.now.signers) < 2 && h.IntN(6) > 0 {
		return false
	}
	s := pick(h.Rand, h.now.signers)
	if h.IntN(3) == 0 {
		h.stolen[s.KMSKeyID] = true
		h.say("the thief of %s writes", s.ID)
		h.sign(s.KMSKeyID)
	}
	args := []string{"--mode=compromise", "--signer-id=" + s.ID, "--reason=found in a log", "--events-path=events.ndjson"}
	upTo := len(h.now.events)
	if h.now.checkpoint.Count > 0 && h.IntN(2) == 0 {
		upTo = h.now.checkpoint.Count
		args = append(args, "--checkpoint-branch="+checkpoints)
	} else {
		args = append(args, "--trusted-until=head")
	}
	h.now.declared[s.ID] = append(h.now.declared[s.ID], upTo)
	h.risk("rollback", args...)
	return true
}

func (h *history) disable() bool {
	if len(h.now.archived) == 0 {
		return false
	}
	h.scheduled("finalize", "--events-path=events.ndjson", "--disable-kms-key=true")
	return true
}

// stray: a system that nobody remembers uses a key for something else.
func (h *history) stray() bool {
	arn := pick(h.Rand, h.arns)
	if h.kms.State(arn) != "Enabled" {
		return false
	}
	_, err := h.pen(arn)(context.Background(), [32]byte{})
	h.fail(err)
	h.used(arn)
	h.say("something else signs with the key of %s", h.owner(arn))
	h.did["a stray signature"]++
	return true
}

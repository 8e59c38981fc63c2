package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// checkpoints is the branch that verify-chain keeps its checkpoints on.
const checkpoints = "audit-checkpoint"

// publishedIn is where the registry, its archive and its records stand.
const publishedIn = "kernel/tools/"

// history is one random history: the services, and what people know.
type history struct {
	*rand.Rand
	*stage
	seed uint64
	env  []string
	step int
	log  []string
	did  map[string]int
	bad  string // what no move may come to

	named    int      // signer ids so far
	arns     []string // the KMS keys, in the order in which they were made
	deployed []string // those that writers use, two while a deployment rolls
	stolen   map[string]bool
	pens     map[string]func(context.Context, [32]byte) ([]byte, error)
	now      moment
	judged   string // what the last verdict was about
}

func newHistory(t *testing.T, seed uint64) (*history, error) {
	work, err := os.MkdirTemp(made.dir, "history-")
	if err != nil {
		return nil, err
	}
	h := &history{
		Rand: rand.New(rand.NewPCG(seed, 50)), stage: &stage{all: t, work: work}, seed: seed, did: map[string]int{}, named: 1,
		stolen: map[string]bool{}, pens: map[string]func(context.Context, [32]byte) ([]byte, error){},
		now: moment{trusted: map[string]int{}, declared: map[string][]int{}, uses: map[string][]time.Time{}},
	}
	h.newKMS(15 * time.Minute)
	if h.github, err = githubtest.New(githubtest.Options{Token: canaryToken, Now: h.stage.now, Files: map[string]string{"README.md": "# kernel\n"}}); err != nil {
		return nil, err
	}
	for name, value := range h.kms.Env() {
		h.env = append(h.env, name+"="+value)
	}
	h.env = append(h.env, "GITHUB_ACTIONS=true", "GITHUB_WORKSPACE="+work, "GITHUB_ACTOR=release-captain", "GITHUB_RUN_ID=77",
		"GITHUB_REPOSITORY=acme/kernel", "GITHUB_SERVER_URL=https://github.com", "GITHUB_API_URL="+h.github.URL(), "HOME="+work)
	return h, nil
}

// end closes the services and says what no history may end with.
func (h *history) end() string {
	defer os.RemoveAll(h.work)
	return h.stage.close()
}

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%2d ", h.step)+fmt.Sprintf(format, args...))
}

// fail remembers an error that no move may meet.
func (h *history) fail(err error) {
	if err != nil && h.bad == "" {
		h.bad = err.Error()
	}
}

// run runs an action as a step of a job does.
func (h *history) run(action string, args ...string) outcome { return h.start(0, nil, action, args...) }

// risk runs an action on a machine that dies every so often, at one of the
// action's calls, before the service has heard of it or after.
func (h *history) risk(action string, args ...string) outcome {
	if h.IntN(8) > 0 {
		return h.run(action, args...)
	}
	crash := pick(h.Rand, crashes)
	return h.start(1+h.IntN(12), &crash, action, args...)
}

// crashes are the faults that kill.
var crashes = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !f.kill })

func (h *history) start(call int, crash *fault, action string, args ...string) outcome {
	env := append(slices.Clone(h.env), "AUDIT_SIGNER_CLOCK_AHEAD="+time.Duration(h.skew.Load()).String())
	if action != "validate-registry" {
		env = append(env, "INPUT_TOKEN="+canaryToken)
	}
	dir := hurry.dir
	if action == "verify-chain" {
		dir = made.dir // whose verdict no busy machine may keep from coming
	}
	cmd, finish := prepare(h.work, filepath.Join(h.work, "run"), env, filepath.Join(dir, action), args...)
	if crash != nil {
		h.arm(call, crash, cmd)
	}
	h.fail(cmd.Start())
	o, err := finish()
	h.fail(err)
	if crash != nil {
		h.github.SetFault(nil)
		h.kms.SetFault(nil)
	}
	switch {
	case o.code == -1:
		h.did["killed "+action]++
	case strings.Contains(o.log, "goroutine ") || strings.Contains(o.log, "defect of the action"):
		h.fail(fmt.Errorf("%s panicked:\n%s", action, o.log))
	}
	h.did[fmt.Sprintf("%s ended with %d", action, o.code)]++
	h.say("%s %s: %d %s", action, strings.Join(args, " "), o.code, complaint(o.log))
	return o
}

// complaint is the first error of a log.
func complaint(log string) string {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "::error") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// rule is the rule of a complaint.
func rule(complaint string) string {
	_, title, _ := strings.Cut(complaint, "title=")
	name, _, _ := strings.Cut(title, "::")
	return name
}

// events lets the writers write.
func (h *history) events(n int) {
	for range n {
		h.sign(pick(h.Rand, h.deployed))
	}
}

// sign appends an event by a key; a service stores nothing that it cannot sign.
func (h *history) sign(arn string) {
	if h.kms.State(arn) != "Enabled" {
		return
	}
	h.fail(h.append(1, arn, h.pen(arn)))
	h.used(arn)
	h.now.events = append(h.now.events, written{arn, fmt.Sprintf("%x", h.head)})
	h.say("event %d by %s", len(h.now.events), h.owner(arn))
}

func (h *history) pen(arn string) func(context.Context, [32]byte) ([]byte, error) {
	if h.pens[arn] == nil {
		sign, err := key{stage: h.stage, arn: arn}.signer()
		h.fail(err)
		h.pens[arn] = sign
	}
	return h.pens[arn]
}

func (h *history) used(arn string) { h.now.uses[arn] = append(h.now.uses[arn], h.stage.now()) }

// owner is the signer of a key, for people.
func (h *history) owner(arn string) string {
	for _, s := range h.now.all() {
		if s.KMSKeyID == arn {
			return s.ID
		}
	}
	return arn
}

// gate holds what main would be against what it is, as the required check of a
// merge queue does; it gives the reason of a refusal.
func (h *history) gate() string {
	h.checkout("next")
	args := []string{"--registry-path=next/" + publishedIn + "signers.json"}
	if len(h.now.signers) > 0 {
		base := "main/" + publishedIn
		args = append(args, "--base-registry-path="+base+"signers.json", "--base-archive-path="+base+"signers.archive.json",
			"--base-rotations-path="+base+"rotations", "--events-path=events.ndjson")
	}
	if o := h.run("validate-registry", args...); o.code != 0 {
		return fmt.Sprint(o.code, " ", complaint(o.log))
	}
	return ""
}

// checkout writes what main holds into a folder.
func (h *history) checkout(dir string) map[string]string {
	h.fail(os.RemoveAll(filepath.Join(h.work, dir)))
	files := h.github.Files("main")
	for path, text := range files {
		file := filepath.Join(h.work, dir, path)
		h.fail(os.MkdirAll(filepath.Dir(file), 0o755))
		h.fail(os.WriteFile(file, []byte(text), 0o644))
	}
	return files
}

// look makes h.now what can be seen from outside, and returns what it was.
func (h *history) look() (was moment) {
	was = h.now
	is := &h.now
	is.at, is.keys, is.open = h.stage.now(), map[string]string{}, nil
	for _, arn := range h.kms.Keys() {
		if is.keys[arn] = h.kms.State(arn); !slices.Contains(h.arns, arn) {
			h.arns = append(h.arns, arn)
		}
	}
	for _, p := range h.github.Pulls() {
		if p.State == "open" {
			is.open = append(is.open, operation(p.Branch, p.Title, h.github.Head(p.Branch).Message, p.Body))
		}
	}
	if commit := h.github.Head("main").ID; commit != is.main {
		is.main = commit
		h.read(h.checkout("main"))
	}
	if text, found := h.github.File(checkpoints, "checkpoint.json"); found {
		is.checkpoint = mark{}
		h.fail(json.Unmarshal([]byte(text), &is.checkpoint))
	}
	is.trusted = is.ledger(was)
	return was
}

// read parses what main publishes, by eyes of its own.
func (h *history) read(files map[string]string) {
	var registry struct{ Signers []entry }
	var archive struct{ Retired []retired }
	for name, into := range map[string]any{"signers.json": &registry, "signers.archive.json": &archive} {
		if text, found := files[publishedIn+name]; found {
			h.fail(json.Unmarshal([]byte(text), into))
		}
	}
	h.now.signers, h.now.archived, h.now.rotations = registry.Signers, archive.Retired, nil
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, publishedIn+"rotations/") {
			var r rotationRecord
			h.fail(json.Unmarshal([]byte(files[name]), &r))
			h.now.rotations = append(h.now.rotations, r)
		}
	}
}

// judge verifies the chain with what main publishes, and holds all against the
// laws.
func (h *history) judge() (bad string) {
	was := h.look()
	if about := fmt.Sprint(h.now.main, len(h.now.events)); about != h.judged {
		h.judged = about
		o := h.run("verify-chain", "--events-path=events.ndjson", "--registry-path=main/"+publishedIn+"signers.json", "--report-path=report.json")
		text, err := os.ReadFile(filepath.Join(h.work, "report.json"))
		h.now.report = report{}
		if h.fail(errors.Join(err, os.Remove(filepath.Join(h.work, "report.json")), json.Unmarshal(text, &h.now.report))); h.bad != "" {
			return h.bad + "\n" + o.log
		}
	}
	h.count(was)
	for _, l := range laws {
		if why := l.broken(was, h.now); why != "" {
			return l.name + ": " + why
		}
	}
	return h.bad
}

// count remembers what the history has come to.
func (h *history) count(was moment) {
	if h.now.report.Verdict != was.report.Verdict && h.now.report.Verdict == "failed" {
		h.did["an alarm"]++
	}
	if was.checkpoint != h.now.checkpoint {
		h.did["a checkpoint written"]++
	}
	for arn, state := range h.now.keys {
		if was.keys[arn] != "" && was.keys[arn] != state {
			h.did["a key "+strings.ToLower(state)]++
		}
	}
}

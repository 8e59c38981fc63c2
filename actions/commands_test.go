package actions_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// commands are the words that stories are told in. Each says its own usage.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exit":      act,
	"interrupt": interrupt,

	// What the last run said.
	"output":   output,
	"summary":  summary,
	"conforms": conforms,

	// GitHub and the people there.
	"repo":     repo,
	"merge":    merge,
	"close":    closePull,
	"forge":    forge,
	"person":   person,
	"propose":  propose,
	"link":     link,
	"github":   github,
	"writes":   writes,
	"pull":     pull,
	"pulls":    pulls,
	"show":     show,
	"publish":  publish,
	"variable": variable,

	// Those who verify events.
	"verifier": verifier,
	"asked":    asked,

	// The key service.
	"kms":       kms,
	"key":       importKey,
	"newkey":    newKey,
	"sign":      sign,
	"key-state": keyState,
	"key-is":    keyIs,
	"keys":      countKeys,
	"calls":     countCalls,
	"deny":      deny,
	"stale":     stale,

	// Events and time.
	"registry": writeRegistry,
	"public":   writePublic,
	"events":   appendEvents,
	"mark":     markEvent,
	"back-to":  backTo,
	"writing":  writing,
	"postgres": postgres,
	"sql":      sql,
	"tamper":   tamper,
	"clock":    clock,

	// The checkout of a job.
	"checkout": checkout,
	"event":    event,
	"sparse":   sparse,
}

// mark NAME: the digest of the newest event is $NAME, its id $NAME_ID.
func markEvent(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "mark NAME")
	s := stageOf(ts)
	ts.Setenv(args[0], hex.EncodeToString(s.head))
	ts.Setenv(args[0]+"_ID", fmt.Sprintf("00000000-0000-4000-8000-%012d", s.events))
}

// back-to $NAME: the next event follows that one, beside what follows it already.
func backTo(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "back-to $NAME")
	head, err := hex.DecodeString(args[0])
	ts.Check(err)
	stageOf(ts).head = head
}

func usage(ts *testscript.TestScript, wrong bool, text string) {
	if wrong {
		ts.Fatalf("usage: %s", text)
	}
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

// match compares a text with a regular expression, or with its absence.
func match(ts *testscript.TestScript, neg bool, what, text, pattern string) {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	if re.MatchString(text) == neg {
		ts.Fatalf("the %s is %q, which %s match %q", what, text, map[bool]string{true: "must not", false: "does not"}[neg], pattern)
	}
}

func output(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 2 && !(neg && len(args) == 1), "[!] output NAME REGEXP; ! output NAME: it is not set")
	value, set := parseOutputs(ts.ReadFile(stageOf(ts).outputs))[args[0]]
	if len(args) == 1 {
		if set {
			ts.Fatalf("output %s is set to %q", args[0], value)
		}
		return
	}
	if !set {
		ts.Fatalf("output %s is not set", args[0])
	}
	match(ts, neg, "output "+args[0], value, "^(?:"+args[1]+")$")
}

func summary(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 1, "[!] summary REGEXP")
	match(ts, neg, "summary", ts.ReadFile(stageOf(ts).summary), args[0])
}

func conforms(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "conforms SCHEMA FILE")
	violations, err := schemas.Violations(schemas.Name(args[0]), []byte(ts.ReadFile(args[1])))
	ts.Check(err)
	for _, v := range violations {
		ts.Fatalf("%s breaks the schema %s: %s", args[1], args[0], v)
	}
}

// repo starts GitHub anew, with a repository whose kernel/tools holds the files.
func repo(ts *testscript.TestScript, neg bool, args []string) {
	const text = "repo [-now] [-permissions contents:write,pull_requests:write] [FILE...]: its first commit is a day old, unless -now"
	usage(ts, neg, text)
	s := stageOf(ts)
	var made atomic.Bool
	made.Store(len(args) > 0 && args[0] == "-now")
	if made.Load() {
		args = args[1:]
	}
	now := func() time.Time {
		if !made.Load() {
			return s.now().AddDate(0, 0, -1)
		}
		return s.now()
	}
	o := githubtest.Options{Token: canaryToken, Now: now, Environments: []string{"production"}, Files: map[string]string{"README.md": "# kernel\n"}}
	if len(args) > 1 && args[0] == "-permissions" {
		o.Permissions = map[string]string{}
		for _, p := range strings.Split(args[1], ",") {
			name, level, _ := strings.Cut(p, ":")
			o.Permissions[name] = level
		}
		args = args[2:]
	}
	for _, file := range args {
		o.Files["kernel/tools/"+file] = ts.ReadFile(file)
	}
	if bad := s.closeGitHub(); bad != "" {
		ts.Fatalf("%s", bad)
	}
	var err error
	s.github, err = githubtest.New(o)
	ts.Check(err)
	made.Store(true)
	ts.Setenv("GITHUB_API_URL", s.github.URL())
}

// publish is a person's push: to kernel/tools on the default branch, or to
// another branch.
func publish(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1 && len(args) != 3, "publish FILE [BRANCH PATH]: push it to kernel/tools on main, or to a path of another branch")
	branch, path := "main", "kernel/tools/"+args[0]
	if len(args) == 3 {
		branch, path = args[1], args[2]
	}
	_, err := stageOf(ts).github.CommitFile(branch, path, ts.ReadFile(args[0]), "octocat")
	ts.Check(err)
}

func merge(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "merge N")
	_, err := stageOf(ts).github.Merge(number(ts, args[0]))
	ts.Check(err)
}

func closePull(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "close N")
	ts.Check(stageOf(ts).github.ClosePull(number(ts, args[0])))
}

// forge pushes a file to the branch of a pull request, and a commit on top that
// says of itself what the one before says: that it is the action's own.
func forge(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 3, "forge N PATH FILE")
	s := stageOf(ts)
	branch := s.github.Pull(number(ts, args[0])).Branch
	was := s.github.Head(branch)
	_, err := s.github.CommitFile(branch, args[1], ts.ReadFile(args[2]), "mallory")
	ts.Check(err)
	tip := s.github.Head(branch)
	commit := mallory(ts, "POST", "git/commits", map[string]any{"message": strings.ReplaceAll(was.Message, was.Tree, tip.Tree), "tree": tip.Tree, "parents": []string{tip.ID}})
	mallory(ts, "PATCH", "git/refs/heads/"+branch, map[string]any{"sha": commit})
}

// mallory calls GitHub as somebody who may push, and returns the id of what that
// made.
func mallory(ts *testscript.TestScript, method, path string, body any) (id string) {
	text, err := json.Marshal(body)
	ts.Check(err)
	req, err := http.NewRequest(method, stageOf(ts).github.URL()+"/repos/acme/kernel/"+path, bytes.NewReader(text))
	ts.Check(err)
	for name, value := range map[string]string{"Authorization": "Bearer " + canaryToken, "Content-Type": "application/json", "Accept": "application/vnd.github+json", "User-Agent": "mallory"} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	var made struct{ SHA string }
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || res.StatusCode/100 != 2 {
		ts.Fatalf("%s %s: %s %v", method, path, res.Status, err)
	}
	return made.SHA
}

// propose opens a pull request of somebody who may push.
func propose(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "propose BRANCH BASE")
	mallory(ts, "POST", "pulls", map[string]any{"title": "a pull request", "head": args[0], "base": args[1]})
}

// link pushes a symbolic link to main.
func link(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "link PATH TARGET")
	_, err := stageOf(ts).github.CommitLink("main", args[0], args[1], "octocat")
	ts.Check(err)
}

// person pushes a commit to the branch of a pull request.
func person(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 3, "person N PATH FILE")
	g := stageOf(ts).github
	_, err := g.CommitFile(g.Pull(number(ts, args[0])).Branch, args[1], ts.ReadFile(args[2]), "octocat")
	ts.Check(err)
}

// github makes GitHub refuse: github up | wait SECONDS | STATUS OPERATION-PATH.
func github(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1 && len(args) != 2, "github up | github wait SECONDS | github cut METHOD | github refuse END-OF-PATH")
	g := stageOf(ts).github
	switch args[0] {
	case "up":
		g.SetFault(nil)
	case "wait":
		g.SetFault(func(*http.Request, int) *githubtest.Fault {
			return &githubtest.Fault{Status: http.StatusForbidden, Header: http.Header{"Retry-After": {args[1]}}, Body: `{"message": "You have exceeded a secondary rate limit"}`}
		})
	case "cut":
		g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
			if r.Method != args[1] {
				return nil
			}
			return &githubtest.Fault{Close: true}
		})
	case "refuse":
		g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
			if !strings.HasSuffix(r.URL.Path, args[1]) {
				return nil
			}
			return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
		})
	default:
		ts.Fatalf("github %s?", args[0])
	}
}

// writes wants so many writes at GitHub since the last time it was asked.
func writes(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) > 1, "writes [+N]")
	s := stageOf(ts)
	now := s.github.Writes()
	if len(args) == 1 && now-s.writes != number(ts, strings.TrimPrefix(args[0], "+")) {
		ts.Fatalf("%d writes at GitHub since the last look, want %s", now-s.writes, args[0])
	}
	s.writes = now
}

// variable wants a variable of an environment.
func variable(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 3 && !(neg && len(args) == 2), "variable ENVIRONMENT NAME REGEXP; ! variable ENVIRONMENT NAME: it is not set")
	value, set := stageOf(ts).github.Variables(args[0])[args[1]]
	if set == (neg && len(args) == 2) {
		ts.Fatalf("variable %s of %s: set is %v (%q)", args[1], args[0], set, value)
	}
	if len(args) == 3 {
		match(ts, neg, "variable "+args[1], value, "^(?:"+args[2]+")$")
	}
}

func pulls(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "pulls N: so many pull requests there are")
	if all := stageOf(ts).github.Pulls(); len(all) != number(ts, args[0]) {
		ts.Fatalf("there are %d pull requests, want %s: %+v", len(all), args[0], all)
	}
}

func pull(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 3, "[!] pull N title|body|state|branch|labels|reviewers|teams|assignees|comments|message REGEXP")
	g := stageOf(ts).github
	p := g.Pull(number(ts, args[0]))
	if p.Number == 0 {
		ts.Fatalf("there is no pull request %s", args[0])
	}
	var comments []string
	for _, c := range p.Comments {
		comments = append(comments, c.Author+": "+c.Body)
	}
	text, ok := map[string]string{
		"title": p.Title, "body": p.Body, "state": p.State, "branch": p.Branch, "base": p.Base,
		"labels": strings.Join(p.Labels, ","), "reviewers": strings.Join(p.Reviewers, ","), "teams": strings.Join(p.TeamReviewers, ","),
		"assignees": strings.Join(p.Assignees, ","), "comments": strings.Join(comments, "\n"), "message": g.Head(p.Branch).Message,
	}[args[1]]
	usage(ts, !ok, "pull N title|body|…")
	match(ts, neg, args[1]+" of pull request "+args[0], text, args[2])
}

// show writes a file of a branch, or of a pull request's branch, into the work
// folder, for cmp, grep and conforms.
func show(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 3 && !(neg && len(args) == 2), "show BRANCH|N PATH FILE; ! show BRANCH|N PATH: there is none")
	g := stageOf(ts).github
	branch := args[0]
	if n, err := strconv.Atoi(branch); err == nil {
		branch = g.Pull(n).Branch
	}
	text, found := g.File(branch, args[1])
	if found == neg {
		ts.Fatalf("%s of %s: found is %v", args[1], branch, found)
	}
	if found {
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(text), 0o644))
	}
}

func kms(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) > 1, "kms [TRAIL-DELAY]: start the key service")
	var delay time.Duration
	if len(args) == 1 {
		var err error
		delay, err = time.ParseDuration(args[0])
		ts.Check(err)
	}
	stageOf(ts).startKMS(ts, delay)
}

// importKey puts a key into KMS and its ARN into a variable.
func importKey(ts *testscript.TestScript, neg bool, args []string) {
	const text = "key VARIABLE rsa2048|rsa3072|rsa4096|ed25519|hmac|SPEC [alias/NAME|usage=…|origin=…|secret=…]"
	usage(ts, neg || len(args) < 2, text)
	s := stageOf(ts)
	if s.kms == nil {
		s.startKMS(ts, 0)
	}
	k := kmstest.Key{Spec: args[1]}
	if args[1] == strings.ToLower(args[1]) {
		k.Spec = ""
		var err error
		if k.Material, err = throwAway(args[1]); args[1] == "hmac" {
			k.Material, err = kmstest.Generate("HMAC_256")
		}
		ts.Check(err)
	}
	for _, option := range args[2:] {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "usage":
			k.Usage = value
		case "origin":
			k.Origin = value
		case "secret":
			k.Material = []byte(value)
		default:
			k.Aliases = append(k.Aliases, option)
		}
	}
	ts.Setenv(args[0], s.kms.Import(k))
}

func newKey(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "newkey VARIABLE: the ARN of the key that add-signer has made")
	for name, arn := range stageOf(ts).kms.Aliases() {
		if strings.HasPrefix(name, "alias/audit-signer-") {
			ts.Setenv(args[0], arn)
			return
		}
	}
	ts.Fatalf("add-signer has made no key")
}

// sign lets some other system sign with a key, or try to.
func sign(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) != 1, "sign ARN; ! sign ARN: KMS refuses")
	k, err := stageOf(ts).key(args[0])
	ts.Check(err)
	do, err := k.signer()
	ts.Check(err)
	_, err = do(context.Background(), [32]byte{})
	switch {
	case !neg:
		ts.Check(err)
	case err == nil:
		ts.Fatalf("%s signs", args[0])
	}
}

func keyState(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "key-state ARN STATE: a person puts the key into it")
	stageOf(ts).kms.SetState(args[0], args[1])
}

func keyIs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "key-is ARN STATE: that is the state it is found in")
	if state := stageOf(ts).kms.State(args[0]); state != args[1] {
		ts.Fatalf("the key is %s, want %s", state, args[1])
	}
}

func countKeys(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "keys N: so many KMS keys there are")
	if all := stageOf(ts).kms.Keys(); len(all) != number(ts, args[0]) {
		ts.Fatalf("there are %d KMS keys, want %s", len(all), args[0])
	}
}

func countCalls(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "calls OPERATION N: so often it was called")
	if n := stageOf(ts).kms.Count(args[0]); n != number(ts, args[1]) {
		ts.Fatalf("KMS %s was called %d times, want %s", args[0], n, args[1])
	}
}

func deny(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) < 1 || neg && len(args) > 1, "deny OPERATION [ARN...]: of these keys, or of all; ! deny OPERATION")
	if neg {
		stageOf(ts).kms.Allow(args[0])
		return
	}
	stageOf(ts).kms.Deny(args[0], args[1:]...)
}

// stale lets the next calls of an operation meet a replica that has not heard
// of the last changes.
func stale(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "stale OPERATION N: the next N calls of it do not know of the last minute")
	var left atomic.Int64
	left.Store(int64(number(ts, args[1])))
	stageOf(ts).kms.SetFault(func(operation string, _ *http.Request) *kmstest.Fault {
		if operation != args[0] || left.Add(-1) < 0 {
			return nil
		}
		return &kmstest.Fault{Stale: true}
	})
}

// writeRegistry writes a registry of entries ID=KEY; further ids after commas
// are aliases.
func writeRegistry(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "registry FILE ID[,ALIAS...]=rsa2048|…|ARN ...")
	var entries []string
	for _, arg := range args[1:] {
		ids, name, _ := strings.Cut(arg, "=")
		k, err := stageOf(ts).key(name)
		ts.Check(err)
		spec, err := k.spec()
		ts.Check(err)
		id, aliases, _ := strings.Cut(ids, ",")
		fields := []string{`"signerId": ` + jsondoc.Quote(id), `"algorithm": ` + jsondoc.Quote(map[string]string{"RSA": "rsa-sha256", "ED": "ed25519", "HMAC": "hmac-sha256"}[spec])}
		if spec != "HMAC" {
			text, err := k.publicPEM()
			ts.Check(err)
			fields = append(fields, `"publicKey": `+jsondoc.Quote(text))
		}
		if aliases != "" {
			fields = append(fields, `"aliases": ["`+strings.ReplaceAll(aliases, ",", `", "`)+`"]`)
		}
		if k.arn != "" {
			fields = append(fields, `"kmsKeyId": `+jsondoc.Quote(k.arn))
		}
		entries = append(entries, "    {\n      "+strings.Join(fields, ",\n      ")+"\n    }")
	}
	text := "{\n  \"signers\": [\n" + strings.Join(entries, ",\n") + "\n  ]\n}\n"
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, []byte(text), 0o644))
}

func writePublic(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "public FILE KEY: its public half, as PEM")
	k, err := stageOf(ts).key(args[1])
	ts.Check(err)
	text, err := k.publicPEM()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

func appendEvents(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2 || len(args) > 4, "events N SIGNER-ID [KEY [pss|twice|prehashed]]; the key is the id's where that is an ARN")
	s, name, form := stageOf(ts), args[1], ""
	if len(args) > 2 {
		name = args[2]
	}
	if len(args) > 3 {
		form = args[3]
	}
	k, err := s.key(name)
	ts.Check(err)
	sign, err := k.signer()
	if form != "" {
		sign, err = k.wrong(form)
	}
	ts.Check(err)
	ts.Check(s.append(number(ts, args[0]), args[1], sign))
}

// writing lets a signer append events to the database, one after the other,
// while the story goes on.
func writing(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg != (len(args) == 0) || len(args) > 2, "writing SIGNER-ID KEY; ! writing: no more")
	s := stageOf(ts)
	if neg {
		ts.Check(s.pen.stop())
		s.pen = nil
		return
	}
	k, err := s.key(args[1])
	ts.Check(err)
	sign, err := k.signer()
	ts.Check(err)
	s.pen = &pen{end: make(chan struct{}), done: make(chan error)}
	go s.pen.write(func() error { return s.append(1, args[0], sign) })
}

// postgres makes a database with the audit table, and points the actions at it
// by a connection string whose password nobody asks for and nobody may see.
func postgres(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) > 1, "postgres [NDJSON]")
	s := stageOf(ts)
	if _, ok := auditdbtest.Find(); !ok && os.Getenv("CI") != "true" {
		s.t.Skip("SKIPPED, and so not tested: " + auditdbtest.Install)
	}
	ctx, plain := context.Background(), auditdbtest.New(s.all)
	ts.Check(auditdbtest.CreateTable(ctx, plain, auditdbtest.AgentManager))
	if len(args) == 1 {
		rows, err := os.Open(ts.MkAbs(args[0]))
		ts.Check(err)
		defer rows.Close()
		_, err = auditdbtest.Load(ctx, plain, "audit_events", rows)
		ts.Check(err)
	}
	u, err := url.Parse(plain)
	ts.Check(err)
	u.User = url.UserPassword(u.User.Username(), canaryPassword)
	s.database = plain
	ts.Setenv("INPUT_DATABASE_URL", u.String())
	ts.Setenv("SERVER", u.Host)
	ts.Setenv("DATABASE", strings.TrimPrefix(u.Path, "/"))
}

func sql(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "sql STATEMENT")
	_, err := auditdbtest.Exec(context.Background(), stageOf(ts).database, args[0])
	ts.Check(err)
}

// tamper replaces text in one line of a file.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 4, "tamper FILE LINE REGEXP REPLACEMENT; the line counts from 1, 0 is every line; an empty replacement of .* removes it")
	lines := strings.SplitAfter(ts.ReadFile(args[0]), "\n")
	re, err := regexp.Compile(args[2])
	ts.Check(err)
	hit := false
	for i := range lines {
		if n := number(ts, args[1]); n != 0 && n != i+1 || !re.MatchString(lines[i]) {
			continue
		}
		hit = true
		if lines[i] = re.ReplaceAllString(lines[i], args[3]); strings.TrimSpace(lines[i]) == "" {
			lines[i] = ""
		}
	}
	if !hit {
		ts.Fatalf("no such text in line %s of %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "")), 0o644))
}

func clock(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "clock +48h: so much later it is, for GitHub, AWS, the actions and the writers of events")
	d, err := time.ParseDuration(strings.TrimPrefix(args[0], "+"))
	ts.Check(err)
	ts.Setenv("AUDIT_SIGNER_CLOCK_AHEAD", time.Duration(stageOf(ts).skew.Add(int64(d))).String())
}

// checkout clones the repository as actions/checkout does: the default branch,
// or a pull request's branch merged onto it.
func checkout(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 1 || len(args) > 3, "checkout DIR [N|main [DEPTH]]")
	g := stageOf(ts).github
	dir := ts.MkAbs(args[0])
	ts.Check(ts.Exec("git", "clone", "--quiet", g.RepoDir(), dir))
	in := func(args ...string) { ts.Check(ts.Exec("git", append([]string{"-C", dir}, args...)...)) }
	if len(args) > 1 && args[1] != "main" {
		in("merge", "--quiet", "--no-ff", "-m", "merge", "origin/"+g.Pull(number(ts, args[1])).Branch)
	}
	if len(args) == 3 {
		shallow := dir + ".shallow"
		ts.Check(ts.Exec("git", "clone", "--quiet", "--depth", args[2], "file://"+dir, shallow))
		ts.Check(os.RemoveAll(dir))
		ts.Check(os.Rename(shallow, dir))
	}
}

// event sets what started the run.
func event(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 1, "event NAME [N | BEFORE AFTER]")
	payload := map[string]any{}
	g := stageOf(ts).github
	switch len(args) {
	case 2:
		n := number(ts, args[1])
		payload["pull_request"] = map[string]any{"number": n, "base": map[string]string{"sha": g.Head("main").ID}, "head": map[string]string{"sha": g.Pull(n).Commit}}
	case 3:
		payload["before"], payload["after"] = args[1], args[2]
	}
	text, err := json.Marshal(payload)
	ts.Check(err)
	path := filepath.Join(ts.Getenv("WORK"), ".tmp", "event.json")
	ts.Check(os.WriteFile(path, text, 0o644))
	ts.Setenv("GITHUB_EVENT_NAME", args[0])
	ts.Setenv("GITHUB_EVENT_PATH", path)
}

func sparse(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "sparse FILE: one of 2 GiB, most of it holes")
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(2 << 30))
}

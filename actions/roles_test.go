package actions_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// requested is what each action has asked of AWS and of GitHub in all stories.
var requested = struct {
	sync.Mutex
	aws    map[string]map[string]bool // by action: IAM actions
	github map[string][]githubtest.Request
}{aws: map[string]map[string]bool{}, github: map[string][]githubtest.Request{}}

// watch remembers what an action asks until it is called off.
func (s *stage) watch(action string) (off func()) {
	var aws, github int
	if s.kms != nil {
		aws = len(s.kms.Calls())
	}
	if s.github != nil {
		github = len(s.github.Requests())
	}
	return func() {
		requested.Lock()
		defer requested.Unlock()
		if s.kms != nil {
			if requested.aws[action] == nil {
				requested.aws[action] = map[string]bool{}
			}
			for _, c := range s.kms.Calls()[aws:] {
				service := "kms"
				if c.Operation == "LookupEvents" {
					service = "cloudtrail"
				}
				requested.aws[action][service+":"+c.Operation] = true
			}
		}
		if s.github != nil {
			requested.github[action] = append(requested.github[action], s.github.Requests()[github:]...)
		}
	}
}

var (
	policySection = regexp.MustCompile("(?s)\n## The policy of `([a-z-]+)`[^\n]*\n(.*?)```json\n(.*?)```")
	tokenRow      = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (none|[a-z_]+: [a-z].*?) \\|$")
	trustPolicy   = regexp.MustCompile("(?s)## The trust policy\n.*?```json\n(.*?)```")
)

// checkRoles compares what the actions asked for with what docs/roles.md lets
// them: all of it, and nothing besides, if every story was told.
func checkRoles(t *testing.T) {
	text, err := os.ReadFile("../docs/roles.md")
	if err != nil {
		t.Error(err)
		return
	}
	run, skip := flag.Lookup("test.run").Value.String(), flag.Lookup("test.skip").Value.String()
	whole := (run == "" || run == "TestStories") && skip == ""
	requested.Lock()
	defer requested.Unlock()

	policies := map[string]map[string]bool{}
	for _, m := range policySection.FindAllStringSubmatch(string(text), -1) {
		if policies[m[1]] == nil {
			policies[m[1]] = map[string]bool{}
		}
		maps.Copy(policies[m[1]], actionsOf(t, m[1], m[3]))
	}
	for action, calls := range requested.aws {
		for call := range calls {
			if !policies[action][call] {
				t.Errorf("%s calls %s, which its policy in docs/roles.md does not allow", action, call)
			}
		}
	}
	for action, allowed := range policies {
		for _, call := range slices.Sorted(maps.Keys(allowed)) {
			// A key is tagged by the call that makes it, which needs both permissions.
			if whole && !requested.aws[action][call] && call != "kms:TagResource" {
				t.Errorf("docs/roles.md allows %s to %s, which it never calls", call, action)
			}
		}
	}

	tokens := map[string]map[string]string{}
	for _, m := range tokenRow.FindAllStringSubmatch(string(text), -1) {
		tokens[m[1]] = map[string]string{}
		for _, p := range strings.Split(m[2], ", ") {
			if name, level, ok := strings.Cut(p, ": "); ok {
				tokens[m[1]][name] = level
			}
		}
	}
	if len(tokens) != 6 {
		t.Errorf("docs/roles.md lists the token's permissions for %d actions", len(tokens))
	}
	for action, requests := range requested.github {
		used, told := map[string]string{}, map[string]bool{}
		for _, r := range requests {
			if r.Operation == "" {
				continue
			}
			needs, level := githubtest.Needs(r)
			met := len(needs) == 0
			for _, name := range needs {
				if have := tokens[action][name]; have == "write" || have == level {
					met = true
					if used[name] != "write" {
						used[name] = level
					}
				}
			}
			if !met && !told[r.Operation] {
				told[r.Operation] = true
				t.Errorf("%s sends %s, which needs %v: %s; docs/roles.md gives it %v", action, r.Operation, needs, level, tokens[action])
			}
		}
		if whole && !maps.Equal(used, tokens[action]) {
			t.Errorf("docs/roles.md gives %s a token with %v, and it uses %v", action, tokens[action], used)
		}
	}

	trust := trustPolicy.FindStringSubmatch(string(text))
	if trust == nil || !strings.Contains(trust[1], `"StringEquals"`) || strings.ContainsAny(trust[1], "*?") || strings.Contains(trust[1], "StringLike") {
		t.Error("the trust policy of docs/roles.md compares by StringEquals and without a wildcard")
	}
}

// actionsOf reads the actions that a policy allows, and refuses wildcards among
// them.
func actionsOf(t *testing.T, action, text string) map[string]bool {
	var policy struct {
		Version   string
		Statement []struct {
			Effect    string
			Action    any
			Resource  any
			Condition map[string]map[string]string
		}
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&policy); err != nil {
		t.Errorf("docs/roles.md, policy of %s: %v", action, err)
	}
	all := map[string]bool{}
	for _, s := range policy.Statement {
		names, _ := s.Action.([]any)
		if one, ok := s.Action.(string); ok {
			names = []any{one}
		}
		for _, name := range names {
			call, _ := name.(string)
			if strings.Contains(call, "*") || s.Effect != "Allow" || s.Resource == nil {
				t.Errorf("docs/roles.md, policy of %s: %v", action, s)
			}
			all[call] = true
		}
	}
	return all
}

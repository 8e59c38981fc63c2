package gha

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// maxEvent is above the 25 MB that GitHub allows a webhook payload
// (docs.github.com/en/webhooks/webhook-events-and-payloads).
const maxEvent = 32 << 20

// Event is what started the run, as far as this project needs it.
type Event struct {
	// Name is such as "pull_request", "push" or "schedule"; empty outside a
	// runner.
	Name string
	// BaseSHA and HeadSHA are the commits before and after the change of a
	// pull request, a merge group or a push, in lower-case hex; empty for
	// other events. BaseSHA is empty too for a push that creates its branch.
	BaseSHA, HeadSHA string
	// BaseRef is the branch that the change goes to and DefaultBranch the
	// repository's, both by their plain names; "" where the payload does not say.
	BaseRef, DefaultBranch string
	// Created and Forced are what a push says about itself.
	Created, Forced bool
}

// Compares reports whether the event is one that has a commit before and after.
func (e Event) Compares() bool {
	return e.Name == "pull_request" || e.Name == "merge_group" || e.Name == "push"
}

var commitSHA = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Event reads GITHUB_EVENT_NAME and the payload at GITHUB_EVENT_PATH.
func (r *Run) Event() (Event, error) {
	e := Event{Name: r.Getenv("GITHUB_EVENT_NAME")}
	path := r.Getenv("GITHUB_EVENT_PATH")
	if path == "" {
		return e, nil
	}
	content, err := r.ReadFile("GITHUB_EVENT_PATH", path, maxEvent)
	if err != nil {
		return Event{}, err
	}
	type commit struct{ Ref, SHA string }
	var payload struct {
		PullRequest struct{ Base, Head commit } `json:"pull_request"`
		MergeGroup  struct {
			Base    string `json:"base_sha"`
			Head    string `json:"head_sha"`
			BaseRef string `json:"base_ref"`
		} `json:"merge_group"`
		Ref, Before, After string
		Created, Forced    bool
		Repository         struct {
			DefaultBranch string `json:"default_branch"`
		}
	}
	if err := json.Unmarshal(content, &payload); err != nil {
		return Event{}, Misuse("GITHUB_EVENT_PATH %q: the payload is not the JSON of an event: %w; leave that variable to the runner", path, err)
	}
	e.DefaultBranch = payload.Repository.DefaultBranch
	switch e.Name {
	case "pull_request":
		pr := payload.PullRequest
		e.BaseSHA, e.HeadSHA, e.BaseRef = pr.Base.SHA, pr.Head.SHA, pr.Base.Ref
	case "merge_group":
		g := payload.MergeGroup
		e.BaseSHA, e.HeadSHA, e.BaseRef = g.Base, g.Head, g.BaseRef
	case "push":
		e.BaseSHA, e.HeadSHA, e.BaseRef = payload.Before, payload.After, payload.Ref
		e.Created, e.Forced = payload.Created, payload.Forced
		if e.BaseSHA != "" && strings.Trim(e.BaseSHA, "0") == "" { // it comes from commit 000…
			e.BaseSHA, e.Created = "", true
		}
	}
	if e.Name != "pull_request" { // whose branch has its plain name, whatever that begins with
		e.BaseRef = strings.TrimPrefix(e.BaseRef, "refs/heads/")
	}
	for _, sha := range []string{e.BaseSHA, e.HeadSHA} {
		if sha != "" && !commitSHA.MatchString(sha) {
			return Event{}, fmt.Errorf("the event %s of %q names the commit %q, which is no SHA; leave the event to the runner, or give base-ref", e.Name, path, sha)
		}
	}
	return e, nil
}

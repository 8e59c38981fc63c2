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
	var payload struct {
		PullRequest struct {
			Base, Head struct{ SHA string }
		} `json:"pull_request"`
		MergeGroup struct {
			Base string `json:"base_sha"`
			Head string `json:"head_sha"`
		} `json:"merge_group"`
		Before, After string
	}
	if err := json.Unmarshal(content, &payload); err != nil {
		return Event{}, Misuse("GITHUB_EVENT_PATH %q: the payload is not the JSON of an event: %w; leave that variable to the runner", path, err)
	}
	switch {
	case payload.PullRequest.Head.SHA != "":
		e.BaseSHA, e.HeadSHA = payload.PullRequest.Base.SHA, payload.PullRequest.Head.SHA
	case payload.MergeGroup.Head != "":
		e.BaseSHA, e.HeadSHA = payload.MergeGroup.Base, payload.MergeGroup.Head
	case e.Name == "push":
		e.BaseSHA, e.HeadSHA = payload.Before, payload.After
	}
	if strings.Trim(e.BaseSHA, "0") == "" {
		e.BaseSHA = "" // a push that creates its branch comes from commit 000…
	}
	for _, sha := range []string{e.BaseSHA, e.HeadSHA} {
		if sha != "" && !commitSHA.MatchString(sha) {
			return Event{}, fmt.Errorf("the event %s of %q names the commit %q, which is no SHA; leave the event to the runner, or give base-ref", e.Name, path, sha)
		}
	}
	return e, nil
}

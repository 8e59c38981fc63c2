package pullrequest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/google/go-github/v60/github"
)

var (
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	workflowForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// SetVariables sets Actions variables of an environment, or of the repository
// when environment is "". A variable that has its value already is not written.
// It returns the names that were, sorted. GITHUB_TOKEN cannot do this for an
// environment; an App token or a PAT can.
func (r *Repo) SetVariables(ctx context.Context, environment string, values map[string]string) (changed []string, err error) {
	folder := "actions/variables"
	if environment != "" {
		folder = "environments/" + url.PathEscape(environment) + "/variables"
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !variableForm.MatchString(name) {
			return changed, usage("%q is not a variable's name; use letters, digits and _", clip(name))
		}
		wrote, err := r.setVariable(ctx, folder, name, values[name])
		if err != nil {
			return changed, r.explain("cannot set variable "+name, err)
		}
		if wrote {
			changed = append(changed, name)
		}
	}
	return changed, nil
}

// setVariable asks by path: go-github's own calls for environments go to an
// address that GitHub no longer describes.
func (r *Repo) setVariable(ctx context.Context, folder, name, value string) (wrote bool, err error) {
	read := func() (found, same bool, err error) {
		var have github.ActionsVariable
		err = r.send(ctx, http.MethodGet, r.path("%s/%s", folder, name), nil, &have)
		if status(err) == http.StatusNotFound {
			return false, false, nil
		}
		return err == nil, err == nil && have.Value == value, err
	}
	found, same, err := read()
	if err != nil || same {
		return false, err
	}
	err = r.write(ctx, func() error {
		if found {
			return r.send(ctx, http.MethodPatch, r.path("%s/%s", folder, name), map[string]string{"value": value}, nil)
		}
		return r.send(ctx, http.MethodPost, r.path("%s", folder), map[string]string{"name": name, "value": value}, nil)
	}, func() (bool, error) {
		found, same, err = read()
		return same, err
	})
	return err == nil, err
}

// send makes a request for which go-github has no fitting call.
func (r *Repo) send(ctx context.Context, method, path string, body, into any) error {
	req, err := r.client.NewRequest(method, path, body)
	if err != nil {
		return err
	}
	_, err = r.client.Do(ctx, req, into)
	return err
}

// Dispatch starts a workflow by its file name on a branch. GitHub does not say
// afterwards which run came of it, so an answer that is lost is not repeated:
// it is an error that says to look.
func (r *Repo) Dispatch(ctx context.Context, workflow, ref string, inputs map[string]string) error {
	if !workflowForm.MatchString(workflow) {
		return usage("%q is not a workflow's file name; give one such as registry-gate.yml", clip(workflow))
	}
	if err := checkBranch(ref); err != nil {
		return err
	}
	body := map[string]any{"ref": ref}
	if len(inputs) > 0 {
		body["inputs"] = inputs
	}
	err := r.send(ctx, http.MethodPost, r.path("actions/workflows/%s/dispatches", workflow), body, nil)
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("cannot start workflow %s on %s", workflow, ref)
	if code := status(err); ambiguous(err, 1) {
		return remote("%s: GitHub's answer was lost (status %d), so it may or may not have started; look at the repository's Actions page and start it there if it has not", what, code)
	}
	return r.explain(what, err)
}

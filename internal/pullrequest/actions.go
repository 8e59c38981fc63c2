package pullrequest

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/google/go-github/v60/github"
)

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// SetVariables sets Actions variables of an environment. One that has its value
// already is not written. It returns the names that were, sorted. GITHUB_TOKEN
// cannot do this; an App token or a PAT can.
func (r *Repo) SetVariables(ctx context.Context, environment string, values map[string]string) (changed []string, err error) {
	folder := "environments/" + url.PathEscape(environment) + "/variables"
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

package githubtest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// description is GitHub's REST API description 23.0.2 (OpenAPI 3.0.3, MIT
// licence, from github/rest-api-description), cut to the operations used here.
//
//go:embed testdata/github-rest.json
var description []byte

// slashes lists the path templates whose parameter may hold slashes, which
// OpenAPI cannot say and the router must know. commits/{ref} is not among
// them: it would swallow commits/{sha}/pulls.
var slashes = []string{
	"contents/{path}", "git/ref/{ref}", "git/refs/{ref}", "git/matching-refs/{ref}",
	"branches/{branch}", "compare/{basehead}",
}

type contract struct {
	router routers.Router
}

// loadContract parses the description once for all servers of a process.
var loadContract = sync.OnceValues(func() (*contract, error) {
	text := description
	for _, template := range slashes {
		text = bytes.ReplaceAll(text, []byte(template), []byte(strings.Replace(template, "}", ":.+}", 1)))
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, fmt.Errorf("githubtest: GitHub's API description does not load: %w", err)
	}
	doc.Servers = openapi3.Servers{{URL: "/"}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("githubtest: GitHub's API description does not route: %w", err)
	}
	return &contract{router: router}, nil
})

// match finds the operation of a request. The input that it returns is what
// both checks need.
func (c *contract) match(r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	q := r.Clone(context.Background())
	q.URL = &url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	q.Body = io.NopCloser(bytes.NewReader(body))
	q.ContentLength = int64(len(body))
	route, params, err := c.router.FindRoute(q)
	if err != nil {
		return nil, err
	}
	return &openapi3filter.RequestValidationInput{
		Request: q, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		},
	}, nil
}

// checkRequest validates a request. It is stricter than the description: a
// query parameter or a body member that the description does not name is
// refused too, because GitHub would ignore it and a typing error would pass.
func (c *contract) checkRequest(in *openapi3filter.RequestValidationInput, body []byte) error {
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return brief(err)
	}
	known := map[string]bool{}
	for _, p := range append(in.Route.Operation.Parameters, in.Route.PathItem.Parameters...) {
		known[p.Value.Name] = p.Value.In == openapi3.ParameterInQuery
	}
	for name := range in.Request.URL.Query() {
		if !known[name] {
			return fmt.Errorf("query parameter %q is not in the description", name)
		}
	}
	var members map[string]json.RawMessage
	if len(body) == 0 || json.Unmarshal(body, &members) != nil {
		return nil
	}
	if in.Route.Operation.RequestBody == nil {
		return fmt.Errorf("a body is sent where the description has none")
	}
	schema := in.Route.Operation.RequestBody.Value.Content.Get("application/json").Schema.Value
	for name := range members {
		if len(schema.Properties) > 0 && schema.Properties[name] == nil {
			return fmt.Errorf("body member %q is not in the description", name)
		}
	}
	return nil
}

// checkResponse validates what the server is about to answer. Refusals whose
// status the description does not list (401, most 403) pass unseen.
func (c *contract) checkResponse(in *openapi3filter.RequestValidationInput, status int, body []byte) error {
	if status >= 400 && in.Route.Operation.Responses.Status(status) == nil {
		return nil
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Options: in.Options,
		Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes(body)); err != nil {
		return brief(err)
	}
	return nil
}

// brief keeps the first line: kin-openapi's errors embed whole schemas.
func brief(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%s", first)
}

// responseSchema returns the JSON schema of an answer, nil when it has none.
func responseSchema(op *openapi3.Operation, status int) *openapi3.Schema {
	ref := op.Responses.Status(status)
	if ref == nil {
		return nil
	}
	media := ref.Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return nil
	}
	return media.Schema.Value
}

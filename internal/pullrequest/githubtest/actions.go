package githubtest

import (
	"net/http"
	"slices"
	"strings"
)

// Status is one commit status.
type Status struct{ Commit, State, Context, Description, TargetURL string }

// variablesOf is the store of an environment, "" for the repository's own; nil
// where there is no such environment.
func (s *Server) variablesOf(environment string) map[string]string {
	if environment != "" && s.opts.Environments != nil && !slices.Contains(s.opts.Environments, environment) {
		return nil
	}
	if s.variables[environment] == nil {
		s.variables[environment] = map[string]string{}
	}
	return s.variables[environment]
}

func (s *Server) getVariable(c *call) answer {
	name := strings.ToUpper(c.params["name"])
	value, found := s.variablesOf(c.params["environment_name"])[name]
	if !found {
		return notFound()
	}
	return ok(object{"name": name, "value": value})
}

func (s *Server) createVariable(c *call) answer {
	var in struct{ Name, Value string }
	c.decode(&in)
	store, name := s.variablesOf(c.params["environment_name"]), strings.ToUpper(in.Name)
	if store == nil {
		return notFound()
	}
	if _, found := store[name]; found {
		return refuse(http.StatusConflict, "Already exists - Variable already exists")
	}
	store[name] = in.Value
	return created(object{})
}

func (s *Server) updateVariable(c *call) answer {
	var in struct{ Value *string }
	c.decode(&in)
	store, name := s.variablesOf(c.params["environment_name"]), strings.ToUpper(c.params["name"])
	if _, found := store[name]; !found {
		return notFound()
	}
	if in.Value != nil {
		store[name] = *in.Value
	}
	return answer{status: http.StatusNoContent}
}

func (s *Server) createStatus(c *call) answer {
	var in struct {
		State, Context, Description string
		TargetURL                   string `json:"target_url"`
	}
	c.decode(&in)
	if _, err := s.git.commit(c.params["sha"]); err != nil {
		return refuse(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.params["sha"])
	}
	if in.Context == "" {
		in.Context = "default"
	}
	s.statuses = append(s.statuses, Status{c.params["sha"], in.State, in.Context, in.Description, in.TargetURL})
	return created(object{"state": in.State, "context": in.Context, "description": in.Description, "creator": user(s.opts.Login)})
}

func (s *Server) rateLimit(*call) answer {
	limit, used, reset := s.used()
	rate := object{"limit": limit, "remaining": max(0, limit-used), "used": used, "reset": reset.Unix()}
	return ok(object{"rate": rate, "resources": object{"core": rate, "search": rate}})
}

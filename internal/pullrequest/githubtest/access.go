package githubtest

import (
	"hash/fnv"
	"net/http"
	"strings"
)

// operations is everything that the server plays, by GitHub's operation id.
var operations = map[string]func(*Server, *call) answer{
	"repos/get":                           (*Server).getRepo,
	"repos/get-branch":                    (*Server).getBranch,
	"repos/get-content":                   (*Server).getContent,
	"repos/list-commits":                  (*Server).listCommits,
	"repos/compare-commits-with-basehead": (*Server).compare,
	"repos/create-commit-status":          (*Server).createStatus,
	"git/get-ref":                         (*Server).getRef,
	"git/list-matching-refs":              (*Server).matchingRefs,
	"git/create-ref":                      (*Server).createRef,
	"git/update-ref":                      (*Server).updateRef,
	"git/get-commit":                      (*Server).getCommit,
	"git/create-commit":                   (*Server).createCommit,
	"git/create-blob":                     (*Server).createBlob,
	"git/get-blob":                        (*Server).getBlob,
	"git/create-tree":                     (*Server).createTree,
	"git/get-tree":                        (*Server).getTree,
	"pulls/create":                        (*Server).createPull,
	"pulls/list":                          (*Server).listPulls,
	"pulls/get":                           (*Server).getPull,
	"pulls/update":                        (*Server).updatePull,
	"pulls/merge":                         (*Server).mergePull,
	"pulls/list-files":                    (*Server).listFiles,
	"pulls/request-reviewers":             (*Server).requestReviewers,
	"issues/create-comment":               (*Server).createComment,
	"issues/list-comments":                (*Server).listComments,
	"issues/update-comment":               (*Server).updateComment,
	"issues/add-labels":                   (*Server).addLabels,
	"issues/add-assignees":                (*Server).addAssignees,
	"actions/get-environment-variable":    (*Server).getVariable,
	"actions/create-environment-variable": (*Server).createVariable,
	"actions/update-environment-variable": (*Server).updateVariable,
	"actions/get-repo-variable":           (*Server).getVariable,
	"actions/create-repo-variable":        (*Server).createVariable,
	"actions/update-repo-variable":        (*Server).updateVariable,
	"rate-limit/get":                      (*Server).rateLimit,
}

// permissions that satisfy an operation, any one of them, by its id or the
// folder of its id, as GitHub's "Permissions required for GitHub Apps" page
// lists them. What is missing here needs metadata alone, which every token has.
var permissions = map[string][]string{
	"git":                                 {"contents"},
	"repos/get-branch":                    {"contents"},
	"repos/get-content":                   {"contents"},
	"repos/list-commits":                  {"contents"},
	"repos/compare-commits-with-basehead": {"contents"},
	"repos/create-commit-status":          {"statuses"},
	"pulls":                               {"pull_requests"},
	"pulls/merge":                         {"contents"},
	"issues":                              {"issues", "pull_requests"},
	"actions/get-environment-variable":    {"environments"},
	"actions/create-environment-variable": {"environments"},
	"actions/update-environment-variable": {"environments"},
	"actions/get-repo-variable":           {"actions_variables"},
	"actions/create-repo-variable":        {"actions_variables"},
	"actions/update-repo-variable":        {"actions_variables"},
}

// Needs says which permissions a request of the log asks of a token, any one of
// them, and at which level; none where the metadata, which every token may read,
// are enough.
func Needs(r Request) (anyOf []string, level string) {
	folder, _, _ := strings.Cut(r.Operation, "/")
	need := permissions[r.Operation]
	if need == nil {
		need = permissions[folder]
	}
	if r.Method != http.MethodGet {
		return need, "write"
	}
	return need, "read"
}

// authorise answers 401, 403 or 404 as GitHub does, or lets the call pass.
func (s *Server) authorise(r *http.Request, operation string) (answer, bool) {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if kind != "" && !strings.EqualFold(kind, "bearer") && !strings.EqualFold(kind, "token") || token != s.opts.Token {
		return refuse(http.StatusUnauthorized, "Bad credentials"), true
	}
	home := "/repos/" + s.opts.Owner + "/" + s.opts.Name
	if path := r.URL.Path; strings.HasPrefix(path, "/repos/") && path != home && !strings.HasPrefix(path, home+"/") {
		return refuse(http.StatusNotFound, "Not Found"), true
	}
	need, level := Needs(Request{Operation: operation, Method: r.Method})
	if s.opts.Permissions == nil || need == nil {
		return answer{}, false
	}
	for _, name := range need {
		if have := s.opts.Permissions[name]; have == "write" || have == level {
			return answer{}, false
		}
	}
	a := refuse(http.StatusForbidden, "Resource not accessible by integration")
	a.header = http.Header{"X-Accepted-Github-Permissions": {strings.Join(need, "="+level+"; ") + "=" + level}}
	return a, true
}

// refuse is GitHub's error body.
func refuse(status int, message string) answer {
	return answer{status: status, value: object{
		"message": message, "documentation_url": "https://docs.github.com/rest",
	}}
}

// invalid is GitHub's 422 with one entry of errors.
func invalid(resource, field, code, message string) answer {
	a := refuse(http.StatusUnprocessableEntity, "Validation Failed")
	detail := object{"resource": resource, "code": code}
	if field != "" {
		detail["field"] = field
	}
	if message != "" {
		detail["message"] = message
	}
	a.value.(object)["errors"] = list{detail}
	return a
}

// user is an account by its login.
func user(login string) object {
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	return object{"login": login, "id": number(login), "type": kind}
}

// number is a stable id of a name.
func number(name string) int64 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int64(h.Sum32())
}

// person is a login as git knows it, or a "Name <address>" taken apart.
func (s *Server) person(author string) person {
	if name, rest, found := strings.Cut(author, " <"); found {
		return person{name: name, email: strings.TrimSuffix(rest, ">"), when: s.opts.Now()}
	}
	return person{name: author, email: author + "@users.noreply.github.com", when: s.opts.Now()}
}

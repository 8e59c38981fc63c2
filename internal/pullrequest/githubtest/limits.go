package githubtest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rate is what every answer says about the hourly limit (GitHub Docs, "Rate
// limits for the REST API").
func (s *Server) rate() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, used, reset := s.used()
	number := func(n int) []string { return []string{fmt.Sprint(n)} }
	return http.Header{
		"X-Ratelimit-Limit": number(limit), "X-Ratelimit-Used": number(used), "X-Ratelimit-Remaining": number(max(0, limit-used)),
		"X-Ratelimit-Reset": {fmt.Sprint(reset.Unix())}, "X-Ratelimit-Resource": {"core"},
	}
}

// used counts the requests of the hour that began with the oldest of them.
func (s *Server) used() (limit, used int, reset time.Time) {
	now := s.opts.Now()
	s.counted = slices.DeleteFunc(s.counted, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	limit, used, reset = s.opts.PerHour, len(s.counted), now.Add(time.Hour)
	if limit == 0 {
		limit = 5000
	}
	if used > 0 {
		reset = s.counted[0].Add(time.Hour)
	}
	return limit, used, reset
}

// limit counts a request and refuses it where a limit is reached: the hourly
// one with no header but those that every answer has, the secondary one with
// Retry-After.
func (s *Server) limit(r *http.Request) (answer, bool) {
	now := s.opts.Now()
	if limit, used, _ := s.used(); used >= limit {
		return refuse(http.StatusForbidden, "API rate limit exceeded for installation. If you reach out to GitHub Support for help, please include the request ID."), true
	}
	s.counted = append(s.counted, now)
	if r.Method == http.MethodGet || s.opts.WritesPerMinute == 0 {
		return answer{}, false
	}
	s.created = slices.DeleteFunc(s.created, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	if len(s.created) >= s.opts.WritesPerMinute {
		a := refuse(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		wait := time.Minute - now.Sub(s.created[0])
		a.header = http.Header{"Retry-After": {fmt.Sprint(int(wait.Seconds()) + 1)}}
		return a, true
	}
	s.created = append(s.created, now)
	return answer{}, false
}

// stale answers a read as a replica does that has not heard of the last change.
// A write is not delayed: it goes to the one place that knows.
func (s *Server) stale(r *http.Request, body []byte, n int) answer {
	s.mu.Lock()
	old, found := s.answered[r.URL.RequestURI()]
	s.mu.Unlock()
	fresh := s.answer(r, body, n)
	switch {
	case r.Method != http.MethodGet || fresh.status >= 300:
		return fresh
	case found:
		return old
	case strings.HasPrefix(string(fresh.text), "["):
		return answer{status: http.StatusOK, text: []byte("[]")}
	case s.young(r.URL.Path):
		return answer{status: http.StatusNotFound, text: []byte(`{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}`)}
	}
	return fresh // named by its content, or old enough
}

// young tells whether a path names a branch or pull request that was made since
// the last snapshot.
func (s *Server) young(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := strings.TrimPrefix(path, "/repos/"+s.opts.Owner+"/"+s.opts.Name+"/")
	if ref, ok := strings.CutPrefix(rest, "git/ref/"); ok {
		return !s.old["refs/"+ref]
	}
	if ref, ok := strings.CutPrefix(rest, "branches/"); ok {
		return !s.old["refs/heads/"+ref]
	}
	if number, ok := strings.CutPrefix(rest, "pulls/"); ok {
		number, _, _ = strings.Cut(number, "/")
		n, err := strconv.Atoi(number)
		return err == nil && n > s.oldPulls
	}
	return false
}

// settled makes what is there old.
func (s *Server) settled() {
	s.old, s.oldPulls = map[string]bool{}, len(s.pulls)
	for ref := range s.refs() {
		s.old[ref] = true
	}
}

// protected refuses a direct change of a protected branch.
func (s *Server) protected(ref string) (answer, bool) {
	branch := strings.TrimPrefix(ref, "refs/heads/")
	if !slices.Contains(s.opts.Protected, branch) {
		return answer{}, false
	}
	return refuse(http.StatusUnprocessableEntity, "Repository rule violations found\n\nChanges must be made through a pull request."), true
}

// Snapshot remembers everything that requests can change; what it returns puts
// it back. Objects that were written since then stay in the repository, where
// nothing points at them. The log is kept.
func (s *Server) Snapshot() (restore func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled()
	refs := s.refs()
	pulls, comments := clonePulls(s.pulls), s.comments
	verified, variables := maps.Clone(s.verified), map[string]map[string]string{}
	for name, all := range s.variables {
		variables[name] = maps.Clone(all)
	}
	statuses := slices.Clone(s.statuses)
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := s.refs()
		for ref, id := range now {
			if refs[ref] == "" {
				if err := s.git.setRef(ref, zeroID, id); err != nil {
					return err
				}
			}
		}
		for ref, id := range refs {
			if now[ref] == id {
				continue
			}
			if err := s.git.setRef(ref, id, cmp.Or(now[ref], zeroID)); err != nil {
				return err
			}
		}
		s.pulls, s.comments = clonePulls(pulls), comments
		s.verified, s.variables = maps.Clone(verified), map[string]map[string]string{}
		for name, all := range variables {
			s.variables[name] = maps.Clone(all)
		}
		s.statuses = slices.Clone(statuses)
		s.answered, s.counted, s.created = map[string]answer{}, nil, nil
		s.settled()
		return nil
	}
}

func clonePulls(pulls []*pull) []*pull {
	var all []*pull
	for _, p := range pulls {
		c := *p
		c.labels, c.assignees = slices.Clone(p.labels), slices.Clone(p.assignees)
		c.reviewers, c.teams = slices.Clone(p.reviewers), slices.Clone(p.teams)
		c.comments = nil
		for _, m := range p.comments {
			said := *m
			c.comments = append(c.comments, &said)
		}
		all = append(all, &c)
	}
	return all
}

// refs lists the branches with their commits.
func (s *Server) refs() map[string]string {
	all := s.git.refs()
	maps.DeleteFunc(all, func(ref, _ string) bool { return !strings.HasPrefix(ref, "refs/heads/") })
	return all
}

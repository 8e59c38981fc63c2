package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Comment is one comment of a pull request.
type Comment struct {
	ID                   int64
	Author, Body         string
	CreatedAt, UpdatedAt time.Time
}

func (s *Server) commentObject(p *pull, m *Comment) object {
	return object{
		"id": m.ID, "body": m.Body, "user": user(m.Author), "author_association": "NONE",
		"created_at": stamp(m.CreatedAt), "updated_at": stamp(m.UpdatedAt),
		"url":       s.api("issues/comments", fmt.Sprint(m.ID)),
		"issue_url": s.api("issues", fmt.Sprint(p.number)),
		"html_url":  fmt.Sprintf("https://github.example/%s/%s/pull/%d#issuecomment-%d", s.opts.Owner, s.opts.Name, p.number, m.ID),
	}
}

func (s *Server) say(p *pull, author, body string) *Comment {
	s.comments++
	m := &Comment{ID: s.comments, Author: author, Body: body, CreatedAt: s.opts.Now(), UpdatedAt: s.opts.Now()}
	p.comments = append(p.comments, m)
	return m
}

func (s *Server) createComment(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct{ Body string }
	c.decode(&in)
	return created(s.commentObject(p, s.say(p, s.opts.Login, in.Body)))
}

func (s *Server) listComments(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	found := list{}
	for _, m := range p.comments {
		found = append(found, s.commentObject(p, m))
	}
	return s.page(c, found)
}

func (s *Server) updateComment(c *call) answer {
	var in struct{ Body string }
	c.decode(&in)
	id, _ := strconv.ParseInt(c.params["comment_id"], 10, 64)
	for _, p := range s.pulls {
		for _, m := range p.comments {
			if m.ID == id {
				m.Body, m.UpdatedAt = in.Body, s.opts.Now()
				return ok(s.commentObject(p, m))
			}
		}
	}
	return notFound()
}

// union appends what is not there yet.
func union(have, more []string) []string {
	for _, m := range more {
		if !slices.Contains(have, m) {
			have = append(have, m)
		}
	}
	return have
}

func (s *Server) addLabels(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct{ Labels []json.RawMessage }
	c.decode(&in)
	for _, raw := range in.Labels {
		var name string
		if json.Unmarshal(raw, &name) == nil {
			p.labels = union(p.labels, []string{name})
		}
	}
	labels := list{}
	for _, name := range p.labels {
		labels = append(labels, object{"name": name})
	}
	return ok(labels)
}

func (s *Server) addAssignees(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct{ Assignees []json.RawMessage }
	c.decode(&in)
	for _, raw := range in.Assignees {
		var login string
		if json.Unmarshal(raw, &login) == nil {
			p.assignees = union(p.assignees, []string{login})
		}
	}
	full := s.pullObject(p)
	return created(object{
		"number": p.number, "title": p.title, "state": p.state(), "user": full["user"],
		"labels": full["labels"], "assignees": full["assignees"],
	})
}

// requestReviewers refuses, as GitHub does, the author, and a login that is no
// collaborator; here that is every login that starts with "stranger".
func (s *Server) requestReviewers(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct {
		Reviewers     []string
		TeamReviewers []string `json:"team_reviewers"`
	}
	c.decode(&in)
	for _, login := range in.Reviewers {
		if login == p.author {
			return refuse(http.StatusUnprocessableEntity, "Review cannot be requested from pull request author.")
		}
		if strings.HasPrefix(login, "stranger") {
			return refuse(http.StatusUnprocessableEntity, "Reviews may only be requested from collaborators. One or more of the users or teams you specified is not a collaborator of the "+s.opts.Owner+"/"+s.opts.Name+" repository.")
		}
	}
	p.reviewers, p.teams = union(p.reviewers, in.Reviewers), union(p.teams, in.TeamReviewers)
	return created(s.pullObject(p))
}

package githubtest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// pull is a pull request between two branches of the one repository.
type pull struct {
	number                         int
	title, body, author            string
	head, headCommit               string // headCommit is what it was when it closed
	base, baseCommit               string
	draft, closed                  bool
	labels, assignees              []string
	reviewers, teams               []string
	comments                       []*Comment
	createdAt, updatedAt, closedAt time.Time
	mergedAt                       time.Time
	mergeCommit                    string
}

func base64Text(content []byte) string { return base64.StdEncoding.EncodeToString(content) }

// tip is the head commit: the branch's while open, the last one afterwards.
func (s *Server) tip(p *pull) string {
	if id := s.git.tip(p.head); id != "" && !p.closed {
		return id
	}
	return p.headCommit
}

func (p *pull) state() string {
	if p.closed {
		return "closed"
	}
	return "open"
}

func (s *Server) pullObject(p *pull) object {
	side := func(branch, id string) object {
		return object{
			"label": s.opts.Owner + ":" + branch, "ref": branch, "sha": id,
			"user": user(s.opts.Owner), "repo": s.repoObject(),
		}
	}
	moment := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return stamp(t)
	}
	labels, reviewers, teams, assignees := list{}, list{}, list{}, list{}
	for _, name := range p.labels {
		labels = append(labels, object{"name": name})
	}
	for _, login := range p.reviewers {
		reviewers = append(reviewers, user(login))
	}
	for _, slug := range p.teams {
		teams = append(teams, object{"slug": slug, "name": slug})
	}
	for _, login := range p.assignees {
		assignees = append(assignees, user(login))
	}
	o := object{
		"number": p.number, "id": p.number, "title": p.title, "body": nil, "user": user(p.author), "state": p.state(), "draft": p.draft,
		"labels": labels, "requested_reviewers": reviewers, "requested_teams": teams, "assignees": assignees,
		"head": side(p.head, s.tip(p)), "base": side(p.base, p.baseCommit),
		"html_url":   fmt.Sprintf("https://github.example/%s/%s/pull/%d", s.opts.Owner, s.opts.Name, p.number),
		"created_at": stamp(p.createdAt), "updated_at": stamp(p.updatedAt),
		"closed_at": moment(p.closedAt), "merged_at": moment(p.mergedAt), "merged": !p.mergedAt.IsZero(),
		"merge_commit_sha": nil, "comments": len(p.comments),
	}
	if p.body != "" {
		o["body"] = p.body
	}
	if p.mergeCommit != "" {
		o["merge_commit_sha"] = p.mergeCommit
	}
	return o
}

func (s *Server) createPull(c *call) answer {
	var in struct {
		Title, Head, Base, Body string
		Draft                   bool
	}
	c.decode(&in)
	owner, head, qualified := strings.Cut(in.Head, ":")
	if !qualified {
		owner, head = s.opts.Owner, in.Head
	}
	if owner != s.opts.Owner || s.git.tip(head) == "" {
		return invalid("PullRequest", "head", "invalid", "")
	}
	if s.git.tip(in.Base) == "" {
		return invalid("PullRequest", "base", "invalid", "")
	}
	for _, p := range s.pulls {
		if !p.closed && p.head == head && p.base == in.Base {
			return invalid("PullRequest", "", "custom", "A pull request already exists for "+owner+":"+head+".")
		}
	}
	if s.git.isAncestor(s.git.tip(head), s.git.tip(in.Base)) {
		return invalid("PullRequest", "", "custom", "No commits between "+in.Base+" and "+head)
	}
	p := &pull{
		number: len(s.pulls) + 1, title: in.Title, body: in.Body, draft: in.Draft, author: s.opts.Login,
		head: head, base: in.Base, baseCommit: s.git.tip(in.Base), createdAt: s.opts.Now(), updatedAt: s.opts.Now(),
	}
	s.pulls = append(s.pulls, p)
	return created(s.pullObject(p))
}

// listPulls filters as GitHub does: a head without "owner:" filters nothing.
func (s *Server) listPulls(c *call) answer {
	q := c.URL.Query()
	state := q.Get("state")
	if state == "" {
		state = "open"
	}
	found := list{}
	for i := len(s.pulls) - 1; i >= 0; i-- {
		p := s.pulls[i]
		if head := q.Get("head"); strings.Contains(head, ":") && head != s.opts.Owner+":"+p.head {
			continue
		}
		if base := q.Get("base"); base != "" && base != p.base {
			continue
		}
		if state == "all" || state == p.state() {
			found = append(found, s.pullObject(p))
		}
	}
	return s.page(c, found)
}

func (s *Server) pull(c *call) *pull {
	text := c.params["pull_number"]
	if text == "" {
		text = c.params["issue_number"]
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > len(s.pulls) {
		return nil
	}
	return s.pulls[n-1]
}

func (s *Server) getPull(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	return ok(s.pullObject(p))
}

func (s *Server) updatePull(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct{ Title, Body, State, Base *string }
	c.decode(&in)
	if in.Title != nil {
		p.title = *in.Title
	}
	if in.Body != nil {
		p.body = *in.Body
	}
	if in.Base != nil {
		p.base, p.baseCommit = *in.Base, s.git.tip(*in.Base)
	}
	if in.State != nil && *in.State != p.state() {
		if !p.mergedAt.IsZero() {
			return invalid("PullRequest", "state", "invalid", "state cannot be changed. The pull request is merged.")
		}
		s.settle(p, *in.State == "closed")
	}
	p.updatedAt = s.opts.Now()
	return ok(s.pullObject(p))
}

func (s *Server) settle(p *pull, closed bool) {
	p.headCommit = s.tip(p)
	p.closed, p.closedAt = closed, time.Time{}
	if closed {
		p.closedAt = s.opts.Now()
	}
}

func (s *Server) mergePull(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	var in struct {
		SHA         string
		MergeMethod string `json:"merge_method"`
	}
	c.decode(&in)
	if in.MergeMethod != "" && in.MergeMethod != "merge" {
		return refuse(http.StatusMethodNotAllowed, "Only merge commits are allowed on this repository.")
	}
	if in.SHA != "" && in.SHA != s.tip(p) {
		return refuse(http.StatusConflict, "Head branch was modified. Review and try the merge again.")
	}
	id, err := s.merge(p, s.person(s.opts.Login))
	if err != nil {
		return refuse(http.StatusMethodNotAllowed, "Pull Request is not mergeable")
	}
	return ok(object{"sha": id, "merged": true, "message": "Pull Request successfully merged"})
}

// merge makes a merge commit with two parents on the base branch.
func (s *Server) merge(p *pull, who person) (string, error) {
	if p.closed || p.draft {
		return "", fmt.Errorf("githubtest: pull request %d is closed or a draft", p.number)
	}
	head, err := s.git.commit(s.tip(p))
	if err != nil {
		return "", err
	}
	base, tree := s.git.tip(p.base), head.tree
	if !s.git.isAncestor(base, head.id) {
		if tree, err = s.git.run(nil, "merge-tree", "--write-tree", base, head.id); err != nil {
			return "", fmt.Errorf("githubtest: pull request %d does not merge (a conflict, or a git older than 2.38): %w", p.number, err)
		}
	}
	message := fmt.Sprintf("Merge pull request #%d from %s/%s\n\n%s\n", p.number, s.opts.Owner, p.head, p.title)
	github := person{name: "GitHub", email: "noreply@github.com", when: s.opts.Now()}
	id, err := s.git.writeCommit(tree, []string{base, head.id}, who, github, message)
	if err != nil {
		return "", err
	}
	if err := s.git.setRef("refs/heads/"+p.base, id, base); err != nil {
		return "", err
	}
	s.verified[id] = true
	s.settle(p, true)
	p.mergedAt, p.mergeCommit = p.closedAt, id
	return id, nil
}

func (s *Server) listFiles(c *call) answer {
	p := s.pull(c)
	if p == nil {
		return notFound()
	}
	return s.page(c, s.diff(p.baseCommit, s.tip(p)))
}

// diff lists the files that differ between the merge base and the head.
func (s *Server) diff(base, head string) list {
	files := list{}
	raw, err := s.git.run(nil, "diff", "--raw", "--numstat", "--no-abbrev", "--no-renames", "-z", base+"..."+head)
	if err != nil {
		return files
	}
	byPath := map[string]object{}
	fields := strings.Split(strings.TrimSuffix(raw, "\x00"), "\x00")
	for i := 0; i < len(fields); i++ {
		if !strings.HasPrefix(fields[i], ":") {
			counts := strings.SplitN(fields[i], "\t", 3)
			if len(counts) == 3 && byPath[counts[2]] != nil {
				added, _ := strconv.Atoi(counts[0]) // "-" for a binary file counts as 0, as on GitHub
				deleted, _ := strconv.Atoi(counts[1])
				o := byPath[counts[2]]
				o["additions"], o["deletions"], o["changes"] = added, deleted, added+deleted
			}
			continue
		}
		words, path := strings.Fields(fields[i]), fields[i+1]
		i++
		status := map[string]string{"A": "added", "D": "removed", "M": "modified", "T": "changed"}[words[4]]
		o := object{"filename": path, "sha": words[3], "status": status, "additions": 0, "deletions": 0, "changes": 0}
		byPath[path] = o
		files = append(files, o)
	}
	return files
}

// page cuts a list as per_page and page ask, with GitHub's Link header.
func (s *Server) page(c *call, all list) answer {
	q := c.URL.Query()
	size, number := 30, 1
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		number = n
	}
	from := min((number-1)*size, len(all))
	to := min(from+size, len(all))
	a := ok(all[from:to])
	if to < len(all) {
		q.Set("page", strconv.Itoa(number+1))
		a.header = http.Header{"Link": {fmt.Sprintf(`<%s%s?%s>; rel="next"`, s.http.URL, c.URL.Path, q.Encode())}}
	}
	return a
}

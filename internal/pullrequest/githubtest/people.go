package githubtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Pull is a pull request as a person sees it.
type Pull struct {
	Number                                      int
	Title, Body, Author, State                  string
	Branch, Base, Commit                        string // Commit is the head commit
	Draft                                       bool
	Labels, Assignees, Reviewers, TeamReviewers []string
	Comments                                    []Comment
	MergedAt                                    time.Time // zero unless merged
	MergeCommit                                 string
}

// Pulls lists every pull request, oldest first.
func (s *Server) Pulls() []Pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Pull
	for _, p := range s.pulls {
		all = append(all, s.show(p))
	}
	return all
}

// Pull returns one pull request; its Number is 0 when there is none.
func (s *Server) Pull(number int) Pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 1 || number > len(s.pulls) {
		return Pull{}
	}
	return s.show(s.pulls[number-1])
}

func (s *Server) show(p *pull) Pull {
	out := Pull{
		Number: p.number, Title: p.title, Body: p.body, Author: p.author, State: p.state(),
		Branch: p.head, Base: p.base, Commit: s.tip(p), Draft: p.draft,
		Labels: slices.Clone(p.labels), Assignees: slices.Clone(p.assignees),
		Reviewers: slices.Clone(p.reviewers), TeamReviewers: slices.Clone(p.teams),
		MergedAt: p.mergedAt, MergeCommit: p.mergeCommit,
	}
	for _, m := range p.comments {
		out.Comments = append(out.Comments, *m)
	}
	return out
}

// Merge merges a pull request as a maintainer does, with a merge commit, and
// returns that commit.
func (s *Server) Merge(number int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 1 || number > len(s.pulls) {
		return "", fmt.Errorf("githubtest: there is no pull request %d", number)
	}
	return s.merge(s.pulls[number-1], s.person("octocat"))
}

// ClosePull closes a pull request without merging it: a person says no.
func (s *Server) ClosePull(number int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 1 || number > len(s.pulls) || s.pulls[number-1].closed {
		return fmt.Errorf("githubtest: there is no open pull request %d", number)
	}
	s.settle(s.pulls[number-1], true)
	return nil
}

// Say comments on a pull request as a person does.
func (s *Server) Say(number int, author, body string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 1 || number > len(s.pulls) {
		return fmt.Errorf("githubtest: there is no pull request %d", number)
	}
	s.say(s.pulls[number-1], author, body)
	return nil
}

// CommitFile pushes a commit that sets one file of a branch, which it makes
// when it is missing (without history, as an orphan). author is a login or
// "Name <address>". It returns the commit.
func (s *Server) CommitFile(branch, path, content, author string) (string, error) {
	return s.push(branch, path, author, inline("100644", path, content))
}

// CommitLink pushes a commit that makes path a symbolic link.
func (s *Server) CommitLink(branch, path, target, author string) (string, error) {
	return s.push(branch, path, author, inline("120000", path, target))
}

// CommitSubmodule pushes a commit that makes path a submodule at a commit.
func (s *Server) CommitSubmodule(branch, path, commit, author string) (string, error) {
	return s.push(branch, path, author, fmt.Sprintf("M 160000 %s %s\n", commit, path))
}

func (s *Server) push(branch, path, author, change string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.git.commitOnto(branch, s.person(author), "Update "+path, change)
}

// File reads a file of a branch.
func (s *Server) File(branch, path string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, kind, content, err := s.git.object("refs/heads/" + branch + ":" + path)
	return string(content), err == nil && kind == "blob"
}

// Files reads all files of a branch, by path.
func (s *Server) Files(branch string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string]string{}
	var walk func(tree, prefix string)
	walk = func(tree, prefix string) {
		_, level, _ := s.git.tree(tree)
		for _, e := range level {
			switch e.kind {
			case "tree":
				walk(e.id, prefix+e.name+"/")
			case "blob":
				_, _, content, _ := s.git.object(e.id)
				files[prefix+e.name] = string(content)
			}
		}
	}
	walk("refs/heads/"+branch, "")
	return files
}

// Commit is one commit as git has it.
type Commit struct {
	ID, Tree, Message string
	Parents           []string
	Verified          bool
}

// Head returns the commit at the tip of a branch; its ID is "" when the branch
// does not exist.
func (s *Server) Head(branch string) Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.git.commit(s.git.tip(branch))
	if err != nil {
		return Commit{}
	}
	return Commit{ID: c.id, Tree: c.tree, Message: c.message, Parents: c.parents, Verified: s.verified[c.id]}
}

// Branches lists the branches, sorted.
func (s *Server) Branches() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, ref := range slices.Sorted(maps.Keys(s.refs())) {
		names = append(names, strings.TrimPrefix(ref, "refs/heads/"))
	}
	return names
}

// Variables returns the variables of an environment, "" for the repository's.
func (s *Server) Variables(environment string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for name, value := range s.variables[environment] {
		out[name] = value
	}
	return out
}

// Statuses returns the commit statuses, oldest first.
func (s *Server) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses)
}

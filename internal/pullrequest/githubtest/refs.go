package githubtest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (s *Server) refObject(ref, id string) object {
	return object{
		"ref": ref, "node_id": "REF_" + ref, "url": s.api("git", ref),
		"object": object{"type": "commit", "sha": id, "url": s.api("git/commits", id)},
	}
}

func (s *Server) getRef(c *call) answer {
	ref := "refs/" + c.params["ref"]
	id, _, _, err := s.git.object(ref)
	if err != nil {
		return notFound()
	}
	return ok(s.refObject(ref, id))
}

func (s *Server) matchingRefs(c *call) answer {
	found := list{}
	all := s.git.refs()
	for _, ref := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(ref, "refs/"+c.params["ref"]) {
			found = append(found, s.refObject(ref, all[ref]))
		}
	}
	return ok(found)
}

func (s *Server) createRef(c *call) answer {
	var in struct{ Ref, SHA string }
	c.decode(&in)
	if strings.Count(in.Ref, "/") < 2 || !strings.HasPrefix(in.Ref, "refs/") {
		return refuse(http.StatusUnprocessableEntity, "Reference name must start with 'refs/' and have at least two slashes.")
	}
	if _, err := s.git.commit(in.SHA); err != nil || len(in.SHA) != len(zeroID) {
		return refuse(http.StatusUnprocessableEntity, "Object does not exist")
	}
	if _, _, _, err := s.git.object(in.Ref); err == nil {
		return refuse(http.StatusUnprocessableEntity, "Reference already exists")
	}
	if err := s.git.setRef(in.Ref, in.SHA, zeroID); err != nil {
		return refuse(http.StatusUnprocessableEntity, "Reference update failed")
	}
	return created(s.refObject(in.Ref, in.SHA))
}

func (s *Server) updateRef(c *call) answer {
	var in struct {
		SHA   string
		Force bool
	}
	c.decode(&in)
	ref := "refs/" + c.params["ref"]
	old, _, _, err := s.git.object(ref)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "Reference does not exist")
	}
	if _, err := s.git.commit(in.SHA); err != nil || len(in.SHA) != len(zeroID) {
		return refuse(http.StatusUnprocessableEntity, "Object does not exist")
	}
	if a, refused := s.protected(ref); refused {
		return a
	}
	if !in.Force && !s.git.isAncestor(old, in.SHA) {
		return refuse(http.StatusUnprocessableEntity, "Update is not a fast forward")
	}
	if err := s.git.setRef(ref, in.SHA, old); err != nil {
		return refuse(http.StatusUnprocessableEntity, "Reference update failed")
	}
	return ok(s.refObject(ref, in.SHA))
}

func (s *Server) repoObject() object {
	full := s.opts.Owner + "/" + s.opts.Name
	return object{
		"id": number(full), "name": s.opts.Name, "full_name": full, "owner": user(s.opts.Owner),
		"default_branch": "main", "private": true, "html_url": "https://github.example/" + full,
	}
}

func (s *Server) getRepo(*call) answer { return ok(s.repoObject()) }

func (s *Server) getBranch(c *call) answer {
	name := c.params["branch"]
	head, err := s.git.commit(s.git.tip(name))
	if err != nil {
		return refuse(http.StatusNotFound, "Branch not found")
	}
	return ok(object{"name": name, "commit": s.repoCommit(head), "protected": slices.Contains(s.opts.Protected, name)})
}

// repoCommit is a commit as the repository's commit list shows it.
func (s *Server) repoCommit(c commit) object {
	low := s.commitObject(c)
	return object{
		"sha": c.id, "html_url": s.api("commit", c.id), "url": s.api("commits", c.id),
		"author": user(c.author.name), "committer": user(c.committer.name), "parents": low["parents"],
		"commit": object{
			"message": c.message, "author": low["author"], "committer": low["committer"],
			"tree": low["tree"], "verification": low["verification"],
		},
	}
}

// getContent shows a file, or a folder's entries. As on GitHub, a file beyond
// 1 MB comes without its content.
func (s *Server) getContent(c *call) answer {
	commitish := c.URL.Query().Get("ref")
	if commitish == "" {
		commitish = "main"
	}
	base, err := s.git.commit(s.resolve(commitish))
	if err != nil {
		return refuse(http.StatusNotFound, "No commit found for the ref "+commitish)
	}
	path := strings.Trim(c.params["path"], "/")
	e, found := s.entry(base.tree, path)
	if !found {
		return notFound()
	}
	if e.kind != "tree" {
		return ok(s.contentObject(path, e, true))
	}
	entries := list{}
	_, level, _ := s.git.tree(e.id)
	for _, below := range level {
		entries = append(entries, s.contentObject(strings.TrimPrefix(path+"/"+below.name, "/"), below, false))
	}
	return ok(entries)
}

// resolve turns a branch's name into its commit and leaves an id as it is.
func (s *Server) resolve(name string) string {
	if id := s.git.tip(strings.TrimPrefix(name, "refs/heads/")); id != "" {
		return id
	}
	return name
}

// entry finds what stands at a path of a tree; "" is the tree itself.
func (s *Server) entry(tree, path string) (treeEntry, bool) {
	e := treeEntry{mode: "040000", kind: "tree", id: tree}
	for name := range strings.SplitSeq(path, "/") {
		if path == "" {
			break
		}
		_, level, err := s.git.tree(e.id)
		i := slices.IndexFunc(level, func(e treeEntry) bool { return e.name == name })
		if err != nil || i < 0 {
			return treeEntry{}, false
		}
		e = level[i]
	}
	return e, true
}

func (s *Server) contentObject(path string, e treeEntry, whole bool) object {
	o := object{"name": e.name, "path": path, "sha": e.id, "size": 0, "type": "file", "url": s.api("contents", path)}
	switch {
	case e.kind == "tree":
		o["type"] = "dir"
	case e.kind == "commit" && whole:
		o["type"], o["submodule_git_url"] = "submodule", "https://github.example/"
	case e.mode == "120000" && whole:
		_, _, target, _ := s.git.object(e.id)
		o["type"], o["target"], o["size"] = "symlink", string(target), len(target)
	case e.kind == "blob":
		_, _, content, _ := s.git.object(e.id)
		o["size"] = len(content)
		if whole {
			o["encoding"], o["content"] = "none", ""
			if len(content) <= 1<<20 {
				o["encoding"], o["content"] = "base64", base64Text(content)
			}
		}
	}
	return o
}

func (s *Server) listCommits(c *call) answer {
	q := c.URL.Query()
	from := q.Get("sha")
	if from == "" {
		from = "main"
	}
	args := []string{"rev-list", s.resolve(from)}
	for _, bound := range []string{"since", "until"} {
		if v := q.Get(bound); v != "" {
			args = append(args, "--"+bound+"="+v)
		}
	}
	args = append(args, "--")
	if path := q.Get("path"); path != "" {
		args = append(args, path)
	}
	ids, err := s.git.run(nil, args...)
	if err != nil {
		return notFound()
	}
	return s.page(c, s.commitList(ids))
}

func (s *Server) commitList(ids string) list {
	commits := list{}
	for id := range strings.FieldsSeq(ids) {
		if found, err := s.git.commit(id); err == nil {
			commits = append(commits, s.repoCommit(found))
		}
	}
	return commits
}

func (s *Server) compare(c *call) answer {
	baseName, headName, _ := strings.Cut(c.params["basehead"], "...")
	base, err1 := s.git.commit(s.resolve(baseName))
	head, err2 := s.git.commit(s.resolve(headName))
	if err1 != nil || err2 != nil {
		return notFound()
	}
	shared, err := s.git.run(nil, "merge-base", base.id, head.id)
	if err != nil {
		return refuse(http.StatusNotFound, "No common ancestor between "+baseName+" and "+headName+".")
	}
	merge, _ := s.git.commit(shared)
	ahead, _ := s.git.run(nil, "rev-list", "--reverse", base.id+".."+head.id)
	behind, _ := s.git.run(nil, "rev-list", head.id+".."+base.id)
	a, b := len(strings.Fields(ahead)), len(strings.Fields(behind))
	status := "diverged"
	switch {
	case a == 0 && b == 0:
		status = "identical"
	case a == 0:
		status = "behind"
	case b == 0:
		status = "ahead"
	}
	return ok(object{
		"status": status, "ahead_by": a, "behind_by": b, "total_commits": a,
		"base_commit": s.repoCommit(base), "merge_base_commit": s.repoCommit(merge),
		"commits": s.commitList(ahead), "files": s.diff(base.id, head.id),
	})
}

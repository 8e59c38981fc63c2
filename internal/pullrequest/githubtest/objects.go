package githubtest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

func (s *Server) api(parts ...string) string {
	return s.http.URL + "/repos/" + s.opts.Owner + "/" + s.opts.Name + "/" + strings.Join(parts, "/")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func ok(value any) answer      { return answer{status: http.StatusOK, value: value} }
func created(value any) answer { return answer{status: http.StatusCreated, value: value} }
func notFound() answer         { return refuse(http.StatusNotFound, "Not Found") }

func (s *Server) createBlob(c *call) answer {
	var in struct{ Content, Encoding string }
	c.decode(&in)
	content := []byte(in.Content)
	if in.Encoding == "base64" {
		var err error
		if content, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(in.Content, "\n", "")); err != nil {
			return refuse(http.StatusUnprocessableEntity, "content is not valid Base64")
		}
	}
	id, err := s.git.write("blob", content)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, err.Error())
	}
	return created(object{"sha": id, "url": s.api("git/blobs", id)})
}

func (s *Server) getBlob(c *call) answer {
	id, kind, content, err := s.git.object(c.params["file_sha"])
	if err != nil || kind != "blob" {
		return notFound()
	}
	return ok(object{
		"sha": id, "size": len(content), "encoding": "base64", "url": s.api("git/blobs", id),
		"content": base64.StdEncoding.EncodeToString(content),
	})
}

func (s *Server) createTree(c *call) answer {
	var in struct {
		BaseTree string `json:"base_tree"`
		Tree     []struct {
			Path, Mode, Type string
			SHA              json.RawMessage
			Content          *string
		}
	}
	c.decode(&in)
	var err error
	tree := ""
	if in.BaseTree != "" {
		if tree, _, err = s.git.tree(in.BaseTree); err != nil {
			return refuse(http.StatusUnprocessableEntity, "base_tree is not a valid tree oid")
		}
	}
	for _, e := range in.Tree {
		entry := &treeEntry{mode: e.Mode, kind: e.Type}
		switch {
		case (e.SHA == nil) == (e.Content == nil):
			return refuse(http.StatusUnprocessableEntity, "Must supply either tree.sha or tree.content. Request will be rejected if both are present.")
		case e.Content != nil:
			if entry.id, err = s.git.write("blob", []byte(*e.Content)); err != nil {
				return refuse(http.StatusUnprocessableEntity, err.Error())
			}
		case string(e.SHA) != "null":
			json.Unmarshal(e.SHA, &entry.id)
			if _, kind, _, err := s.git.object(entry.id); e.Type != "commit" && (err != nil || kind != e.Type) {
				return refuse(http.StatusUnprocessableEntity, "tree.sha "+entry.id+" is not a valid "+e.Type)
			}
		default: // taken away; GitHub wants it to be there
			if _, found := s.entry(tree, e.Path); !found {
				return refuse(http.StatusUnprocessableEntity, "GitRPC::BadObjectState")
			}
			entry = nil
		}
		if tree, err = s.graft(tree, strings.Split(e.Path, "/"), entry); err != nil {
			return refuse(http.StatusUnprocessableEntity, "tree contains a malformed path: "+e.Path)
		}
	}
	if tree == "" {
		return refuse(http.StatusUnprocessableEntity, "Invalid tree info")
	}
	return created(s.treeObject(tree, false))
}

// graft puts an entry (nil: nothing) at a path below a tree ("": empty) and
// returns the new tree's id, "" when nothing is left in it.
func (s *Server) graft(tree string, path []string, entry *treeEntry) (string, error) {
	name := path[0]
	if name == "" || name == "." || name == ".." || strings.EqualFold(name, ".git") {
		return "", errMissing
	}
	var entries []treeEntry
	if tree != "" {
		var err error
		if _, entries, err = s.git.tree(tree); err != nil {
			return "", err
		}
	}
	below, kept := "", entries[:0:0]
	for _, e := range entries {
		if e.name != name {
			kept = append(kept, e)
		} else if e.kind == "tree" {
			below = e.id
		}
	}
	if len(path) > 1 {
		id, err := s.graft(below, path[1:], entry)
		if err != nil {
			return "", err
		}
		if id != "" {
			kept = append(kept, treeEntry{mode: "040000", kind: "tree", id: id, name: name})
		}
	} else if entry != nil {
		kept = append(kept, treeEntry{mode: entry.mode, kind: entry.kind, id: entry.id, name: name})
	}
	if len(kept) == 0 {
		return "", nil
	}
	return s.git.writeTree(kept)
}

func (s *Server) getTree(c *call) answer {
	id, _, err := s.git.tree(c.params["tree_sha"])
	if err != nil {
		return notFound()
	}
	return ok(s.treeObject(id, c.URL.Query().Has("recursive")))
}

func (s *Server) treeObject(id string, recursive bool) object {
	entries := list{}
	var walk func(id, prefix string)
	walk = func(id, prefix string) {
		_, level, _ := s.git.tree(id)
		for _, e := range level {
			o := object{"path": prefix + e.name, "mode": e.mode, "type": e.kind, "sha": e.id, "url": s.api("git", e.kind+"s", e.id)}
			if e.kind == "blob" {
				_, _, content, _ := s.git.object(e.id)
				o["size"] = len(content)
			}
			entries = append(entries, o)
			if e.kind == "tree" && recursive {
				walk(e.id, prefix+e.name+"/")
			}
		}
	}
	walk(id, "")
	return object{"sha": id, "url": s.api("git/trees", id), "tree": entries, "truncated": false}
}

func (s *Server) createCommit(c *call) answer {
	type identity struct {
		Name, Email string
		Date        *time.Time
	}
	var in struct {
		Message, Tree     string
		Parents           []string
		Author, Committer *identity
		Signature         string
	}
	c.decode(&in)
	tree, _, err := s.git.tree(in.Tree)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "Tree SHA does not exist")
	}
	for _, p := range in.Parents {
		if _, err := s.git.commit(p); err != nil {
			return refuse(http.StatusUnprocessableEntity, "Parent SHA does not exist or is not a commit object")
		}
	}
	bot := person{name: s.opts.Login, email: s.opts.Login + "@users.noreply.github.com", when: s.opts.Now()}
	author, committer := bot, bot
	if in.Author != nil {
		author = person{name: in.Author.Name, email: in.Author.Email, when: s.opts.Now()}
		committer = author
	}
	if in.Committer != nil {
		committer = person{name: in.Committer.Name, email: in.Committer.Email, when: s.opts.Now()}
	}
	id, err := s.git.writeCommit(tree, in.Parents, author, committer, in.Message)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, err.Error())
	}
	// GitHub signs what a bot commits, as long as it names nobody.
	s.verified[id] = in.Author == nil && in.Committer == nil && in.Signature == "" && user(s.opts.Login)["type"] == "Bot"
	made, err := s.git.commit(id)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, err.Error())
	}
	return created(s.commitObject(made))
}

func (s *Server) getCommit(c *call) answer {
	found, err := s.git.commit(c.params["commit_sha"])
	if err != nil {
		return notFound()
	}
	return ok(s.commitObject(found))
}

// commitObject is a commit as the Git Data API shows it.
func (s *Server) commitObject(c commit) object {
	identity := func(p person) object {
		return object{"name": p.name, "email": p.email, "date": stamp(p.when)}
	}
	parents := list{}
	for _, p := range c.parents {
		parents = append(parents, object{"sha": p, "url": s.api("git/commits", p), "html_url": s.api("commit", p)})
	}
	verification := object{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil}
	if s.verified[c.id] {
		verification["verified"], verification["reason"] = true, "valid"
		verification["signature"] = "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"
		verification["payload"], verification["verified_at"] = c.message, stamp(c.committer.when)
	}
	return object{
		"sha": c.id, "node_id": "C_" + c.id, "url": s.api("git/commits", c.id), "html_url": s.api("commit", c.id),
		"author": identity(c.author), "committer": identity(c.committer), "message": c.message,
		"tree":    object{"sha": c.tree, "url": s.api("git/trees", c.tree)},
		"parents": parents, "verification": verification,
	}
}

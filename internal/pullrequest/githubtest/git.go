package githubtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const zeroID = "0000000000000000000000000000000000000000"

var errMissing = errors.New("no such object")

// gitRepo is a real bare repository, driven by git's plumbing. What is asked
// often goes through long-lived processes (cat-file, hash-object, mktree and
// update-ref read commands from a pipe), because starting a process costs more
// than everything else here. The server's lock serialises its use.
type gitRepo struct {
	dir     string
	running map[string]*coprocess // by command line
}

// person is who wrote a commit, and when.
type person struct {
	name, email string
	when        time.Time
}

func (p person) line() string {
	return fmt.Sprintf("%s <%s> %d +0000", p.name, p.email, p.when.Unix())
}

// treeEntry is one line of a tree; mode is six octal digits.
type treeEntry struct{ mode, kind, id, name string }

type coprocess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newGitRepo(dir string) (*gitRepo, error) {
	g := &gitRepo{dir: dir, running: map[string]*coprocess{}}
	if _, err := g.run(nil, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", dir); err != nil {
		return nil, err
	}
	return g, nil
}

// command prepares git on this repository, whatever GIT_ variables a
// surrounding hook has set.
func (g *gitRepo) command(args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-c", "core.fsync=none", "-c", "gc.auto=0"}, args...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_DIR="+g.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "LC_ALL=C")
	return cmd
}

func (g *gitRepo) run(stdin []byte, args ...string) (string, error) {
	cmd := g.command(args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("githubtest: git %s: %w: %s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// ask sends a command to a long-lived process and returns the first line of
// its answer; more can be read from the process. One that refuses a command
// ends, and the next call starts another.
func (g *gitRepo) ask(command string, args ...string) (*coprocess, string, error) {
	key := strings.Join(args, " ")
	c := g.running[key]
	if c == nil {
		c = &coprocess{cmd: g.command(args...)}
		out, err := c.cmd.StdoutPipe()
		if err != nil {
			return nil, "", err
		}
		if c.in, err = c.cmd.StdinPipe(); err != nil {
			return nil, "", err
		}
		if err := c.cmd.Start(); err != nil {
			return nil, "", fmt.Errorf("githubtest: git %s: %w", key, err)
		}
		c.out = bufio.NewReader(out)
		g.running[key] = c
	}
	_, err := io.WriteString(c.in, command)
	if err == nil {
		var line string
		if line, err = c.out.ReadString('\n'); err == nil {
			return c, strings.TrimSuffix(line, "\n"), nil
		}
	}
	delete(g.running, key)
	c.stop()
	return nil, "", fmt.Errorf("githubtest: git %s refuses %q", key, command)
}

func (c *coprocess) stop() {
	c.in.Close()
	c.cmd.Wait()
}

func (g *gitRepo) close() {
	for _, c := range g.running {
		c.stop()
	}
}

// object reads whatever name stands for: an id, a ref, or tree:path.
func (g *gitRepo) object(name string) (id, kind string, content []byte, err error) {
	if name == "" || strings.ContainsAny(name, "\n\x00") {
		return "", "", nil, errMissing
	}
	cat, head, err := g.ask(name+"\n", "cat-file", "--batch")
	if err != nil {
		return "", "", nil, err
	}
	fields := strings.Fields(head)
	if len(fields) != 3 || len(fields[0]) != len(zeroID) {
		return "", "", nil, errMissing
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil {
		return "", "", nil, errMissing
	}
	content = make([]byte, size+1) // git ends it with a newline of its own
	if _, err := io.ReadFull(cat.out, content); err != nil {
		return "", "", nil, err
	}
	return fields[0], fields[1], content[:size], nil
}

// tip is the commit that a branch points at, "" when there is none.
func (g *gitRepo) tip(branch string) string {
	id, _, _, err := g.object("refs/heads/" + branch)
	if err != nil {
		return ""
	}
	return id
}

// refs reads where all refs point, from the files that git keeps them in: those
// that it has packed first, because a loose one is newer.
func (g *gitRepo) refs() map[string]string {
	all := map[string]string{}
	packed, _ := os.ReadFile(filepath.Join(g.dir, "packed-refs"))
	for line := range strings.Lines(string(packed)) {
		if id, ref, _ := strings.Cut(strings.TrimSpace(line), " "); len(id) == len(zeroID) {
			all[ref] = id
		}
	}
	filepath.WalkDir(filepath.Join(g.dir, "refs"), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // gone since the folder was read
		}
		if id, err := os.ReadFile(file); err == nil && len(id) > len(zeroID) {
			ref, _ := filepath.Rel(g.dir, file)
			all[filepath.ToSlash(ref)] = strings.TrimSpace(string(id))
		}
		return nil
	})
	return all
}

// tree lists what a tree-ish holds, one level deep.
func (g *gitRepo) tree(name string) (id string, entries []treeEntry, err error) {
	id, _, raw, err := g.object(name + "^{tree}")
	if err != nil {
		return "", nil, err
	}
	for len(raw) > 0 {
		head, rest, found := bytes.Cut(raw, []byte{0})
		mode, entry, spaced := strings.Cut(string(head), " ")
		if !found || !spaced || len(rest) < 20 {
			return "", nil, fmt.Errorf("githubtest: tree %s is malformed", id)
		}
		e := treeEntry{mode: fmt.Sprintf("%06s", mode), name: entry, id: hex.EncodeToString(rest[:20]), kind: "blob"}
		switch e.mode {
		case "040000":
			e.kind = "tree"
		case "160000":
			e.kind = "commit"
		}
		entries, raw = append(entries, e), rest[20:]
	}
	return id, entries, nil
}

// write stores an object; hash-object takes it from a file.
func (g *gitRepo) write(kind string, content []byte) (string, error) {
	file := filepath.Join(g.dir, "incoming-object")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", fmt.Errorf("githubtest: %w", err)
	}
	_, id, err := g.ask(file+"\n", "hash-object", "-w", "-t", kind, "--no-filters", "--stdin-paths")
	return id, err
}

func (g *gitRepo) writeTree(entries []treeEntry) (string, error) {
	var input strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&input, "%s %s %s\t%s\x00", e.mode, e.kind, e.id, e.name)
	}
	_, id, err := g.ask(input.String()+"\x00", "mktree", "--batch", "-z")
	return id, err
}

func (g *gitRepo) writeCommit(tree string, parents []string, author, committer person, message string) (string, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&text, "parent %s\n", p)
	}
	fmt.Fprintf(&text, "author %s\ncommitter %s\n\n%s", author.line(), committer.line(), message)
	return g.write("commit", text.Bytes())
}

// setRef moves a ref from old to new, or creates it when old is zeroID; git
// itself compares and swaps.
func (g *gitRepo) setRef(ref, new, old string) error {
	if strings.ContainsAny(ref, " \t\r\n\"\x00") {
		return fmt.Errorf("githubtest: %q is not a ref", ref)
	}
	c, _, err := g.ask(fmt.Sprintf("start\nupdate %s %s %s\ncommit\n", ref, new, old), "update-ref", "--stdin")
	if err != nil {
		return err
	}
	if line, _ := c.out.ReadString('\n'); line != "commit: ok\n" {
		delete(g.running, "update-ref --stdin")
		c.stop()
		return fmt.Errorf("githubtest: git update-ref refuses to move %s", ref)
	}
	return nil
}

// isAncestor walks the history of new.
func (g *gitRepo) isAncestor(old, new string) bool {
	seen := map[string]bool{}
	for todo := []string{new}; len(todo) > 0; {
		id := todo[len(todo)-1]
		if todo = todo[:len(todo)-1]; id == old {
			return true
		}
		if c, err := g.commit(id); err == nil && !seen[id] {
			seen[id] = true
			todo = append(todo, c.parents...)
		}
	}
	return false
}

// commitOnto writes one entry on top of a branch as a person would with git
// push. body is fast-import's file-change command.
func (g *gitRepo) commitOnto(branch string, who person, message, change string) (string, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "commit refs/heads/%s\nauthor %s\ncommitter %s\ndata %d\n%s\n", branch, who.line(), who.line(), len(message), message)
	if tip := g.tip(branch); tip != "" {
		fmt.Fprintf(&script, "from %s\n", tip)
	}
	script.WriteString(change)
	if _, err := g.run([]byte(script.String()), "fast-import", "--quiet", "--date-format=raw"); err != nil {
		return "", err
	}
	return g.tip(branch), nil
}

// inline is fast-import's command that puts content at path.
func inline(mode, path, content string) string {
	return fmt.Sprintf("M %s inline %s\ndata %d\n%s\n", mode, path, len(content), content)
}

type commit struct {
	id, tree          string
	parents           []string
	author, committer person
	message           string
}

func (g *gitRepo) commit(name string) (commit, error) {
	id, kind, raw, err := g.object(name)
	if err != nil {
		return commit{}, err
	}
	if kind != "commit" {
		return commit{}, errMissing
	}
	c := commit{id: id}
	head, message, _ := strings.Cut(string(raw), "\n\n")
	c.message = message
	for line := range strings.SplitSeq(head, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "tree":
			c.tree = rest
		case "parent":
			c.parents = append(c.parents, rest)
		case "author":
			c.author = parsePerson(rest)
		case "committer":
			c.committer = parsePerson(rest)
		}
	}
	return c, nil
}

func parsePerson(line string) person {
	name, rest, _ := strings.Cut(line, " <")
	email, stamp, _ := strings.Cut(rest, "> ")
	var seconds int64
	fmt.Sscan(stamp, &seconds)
	return person{name: name, email: email, when: time.Unix(seconds, 0).UTC()}
}

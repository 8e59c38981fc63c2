package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// result is what an action left behind.
type result struct {
	exit    int
	outputs map[string]string
	log     string
}

// act runs an action as a runner would: inputs by environment, outputs and
// summary in files. want is the exit code that this step must end with.
func (w *world) act(ctx context.Context, want int, action, dir string, inputs map[string]string) (result, error) {
	w.runs++
	base := filepath.Join(out, "steps", fmt.Sprintf("%02d-%s", w.runs, action))
	outputs := abs(base + ".outputs")
	if err := os.WriteFile(outputs, nil, 0o644); err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, action))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GITHUB_ACTIONS=true", "GITHUB_API_URL="+w.github.URL(), "GITHUB_SERVER_URL="+w.github.URL(), "GITHUB_REPOSITORY=acme/kernel",
		"GITHUB_ACTOR=release-captain", "GITHUB_RUN_ID="+strconv.Itoa(1000+w.runs), "GITHUB_WORKSPACE="+abs(dir),
		"GITHUB_OUTPUT="+outputs, "GITHUB_STEP_SUMMARY="+abs(base+".summary.md"))
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		cmd.Env = append(cmd.Env, name+"="+inputs[name])
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	err := cmd.Run()
	r := result{log: log.String()}
	if writeErr := os.WriteFile(base+".log", log.Bytes(), 0o644); writeErr != nil {
		return r, writeErr
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.exit = exit.ExitCode()
	} else if err != nil {
		return r, err
	}
	if r.exit != want {
		return r, fmt.Errorf("%s ended with %d, not %d:\n%s", action, r.exit, want, r.log)
	}
	r.outputs, err = readOutputs(outputs)
	return r, err
}

// readOutputs reads a file of name<<delimiter blocks, as runners do.
func readOutputs(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	outputs := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, delimiter, ok := strings.Cut(lines.Text(), "<<")
		if !ok {
			continue
		}
		var value []string
		for lines.Scan() && lines.Text() != delimiter {
			value = append(value, lines.Text())
		}
		outputs[name] = strings.Join(value, "\n")
	}
	return outputs, lines.Err()
}

// common are the inputs of the actions that talk to GitHub.
func common(more map[string]string) map[string]string {
	inputs := map[string]string{"INPUT_TOKEN": token, "INPUT_REGISTRY_PATH": registryF}
	maps.Copy(inputs, more)
	return inputs
}

// checkout makes a working copy of a branch; with a pull request's branch
// merged onto it, as actions/checkout does for pull_request.
func (w *world) checkout(ctx context.Context, name, merge string) (string, error) {
	dir := filepath.Join(out, "checkouts", name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := git(ctx, ".", "clone", "--quiet", w.github.RepoDir(), dir); err != nil {
		return "", err
	}
	if merge == "" {
		return dir, nil
	}
	return dir, git(ctx, dir, "-c", "user.name=drill", "-c", "user.email=drill@example.invalid", "merge", "--quiet", "--no-ff", "-m", "merge", "origin/"+merge)
}

func git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, text)
	}
	return nil
}

// gate runs validate-registry on a pull request, as the consumer's CI does.
func (w *world) gate(ctx context.Context, p pull) (string, error) {
	dir, err := w.checkout(ctx, "gate-"+p.number, p.branch)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(p.number)
	if err != nil {
		return "", err
	}
	event, err := json.Marshal(map[string]any{"pull_request": map[string]any{
		"number": n, "base": map[string]string{"sha": w.github.Head("main").ID}, "head": map[string]string{"sha": w.github.Pull(n).Commit},
	}})
	if err != nil {
		return "", err
	}
	path := abs(filepath.Join(out, "event-"+p.number+".json"))
	if err := os.WriteFile(path, event, 0o644); err != nil {
		return "", err
	}
	r, err := w.act(ctx, 0, "validate-registry", dir, map[string]string{
		"INPUT_REGISTRY_PATH": registryF, "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": path, "INPUT_REPORT_PATH": abs(filepath.Join(out, "gate-"+p.number+".json")),
	})
	return r.outputs["signers"] + " signer(s), " + r.outputs["verdict"], err
}

// merge is what the reviewer does.
func (w *world) merge(p pull) error {
	n, err := strconv.Atoi(p.number)
	if err != nil {
		return err
	}
	view := w.github.Pull(n)
	text := "# " + view.Title + "\n\n" + view.Body
	if err := os.WriteFile(filepath.Join(out, "pull-request-"+p.number+".md"), []byte(text), 0o644); err != nil {
		return err
	}
	_, err = w.github.Merge(n)
	return err
}

// branchOf is the branch of a pull request.
func (w *world) branchOf(number string) string {
	for _, p := range w.github.Pulls() {
		if strconv.Itoa(p.Number) == number {
			return p.Branch
		}
	}
	return ""
}

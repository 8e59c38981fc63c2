package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// Inputs are those that say where events come from and what they are held
// against beside registry and archive. Actions that verify embed them.
type Inputs struct {
	DatabaseURL     gha.Secret `input:"database-url"`
	EventsPath      string     `input:"events-path"`
	Table           string     `input:"table"`
	HMACSecretsPath string     `input:"hmac-secrets-path"`
	ExceptionsPath  string     `input:"exceptions-path"`
	CheckpointPath  string     `input:"checkpoint-path"`
	// CheckpointBranch is read by Branch, for which it takes a repository.
	CheckpointBranch string `input:"checkpoint-branch"`
}

// Read opens nothing but small files; the events are read by Verify. done
// removes what was put aside of standard input.
func (in Inputs) Read(r *gha.Run) (s Source, t Terms, done func(), err error) {
	done = func() {}
	switch {
	case in.CheckpointPath != "" && in.CheckpointBranch != "":
		return s, t, done, gha.Misuse("both checkpoint-path and checkpoint-branch are set: choose the place in which the checkpoint is kept")
	case in.DatabaseURL == "" && in.EventsPath == "":
		return s, t, done, gha.Misuse("there is nothing to read: set database-url (a secret, by environment) or events-path")
	case in.DatabaseURL != "" && in.EventsPath != "":
		return s, t, done, gha.Misuse("both database-url and events-path are set: choose one source")
	case in.EventsPath == "-":
		s.Name = "standard input"
		if s.Open, done, err = spool(r); err != nil {
			return s, t, done, err
		}
	case in.EventsPath != "":
		s.Name = in.EventsPath
		if err := s.find(r, in.EventsPath); err != nil { // a wrong path is to be known before anything else is done
			return s, t, done, err
		}
	default:
		s.DatabaseURL, s.Table = in.DatabaseURL.Reveal(), in.Table
	}
	if in.HMACSecretsPath != "" {
		text, err := r.ReadFile("hmac-secrets-path", in.HMACSecretsPath, jsondoc.MaxSize)
		if err != nil {
			return s, t, done, err
		}
		if t.Secrets, err = trust.ParseSecrets(in.HMACSecretsPath, text); err != nil {
			return s, t, done, err
		}
	}
	reviewed, err := in.reviewed(r)
	if err != nil {
		return s, t, done, err
	}
	t.Exceptions = reviewed.Exceptions
	if in.CheckpointPath != "" {
		if t.Checkpoint, err = in.Checkpoint(r); err != nil {
			return s, t, done, err
		}
	}
	if t.Without, err = without(r); err != nil {
		return s, t, done, err
	}
	t.Logf = r.Logf
	t.Progress = Progress(r)
	return s, t, done, nil
}

// without reads the switch for the fast paths of signature verification, which
// is for tests and for the day on which one of them is suspected.
func without(r *gha.Run) (sigverify.Paths, error) {
	const name = "AUDIT_SIGNER_FAST_PATHS"
	paths, err := sigverify.ParsePaths(r.Getenv(name))
	if err != nil {
		return 0, gha.Misuse("%s: %v", name, err)
	}
	if paths != sigverify.AllPaths {
		r.Logf("%s=%s: signatures are checked without some fast paths", name, r.Getenv(name))
	}
	return sigverify.AllPaths &^ paths, nil
}

// reviewed reads the file at exceptions-path, if there is one.
func (in Inputs) reviewed(r *gha.Run) (list trust.Reviewed, err error) {
	if in.ExceptionsPath == "" {
		return list, nil
	}
	text, err := r.ReadFile("exceptions-path", in.ExceptionsPath, jsondoc.MaxSize)
	if err != nil {
		return list, err
	}
	return trust.ParseReviewed(in.ExceptionsPath, text)
}

// Branch reads the newest checkpoint of checkpoint-branch, as it is under the
// reviewed resets. Where there is no such branch, it is the one that was recorded
// elsewhere, nil if none was.
func (in Inputs) Branch(ctx context.Context, r *gha.Run, repo *pullrequest.Repo, recorded *checkpoint.Checkpoint) (*Branch, *checkpoint.Checkpoint, error) {
	reviewed, err := in.reviewed(r)
	if err != nil {
		return nil, nil, err
	}
	b, c, err := ReadBranch(ctx, repo, in.CheckpointBranch, reviewed.Resets)
	if broken, ok := errors.AsType[*Broken](err); ok {
		r.Findings([]finding.Finding{broken.Finding})
	}
	if err == nil && c == nil && recorded != nil {
		c = recorded.Under(reviewed.Resets)
	}
	return b, c, err
}

// Checkpoint reads the file at checkpoint-path, as it is under the reviewed
// resets.
func (in Inputs) Checkpoint(r *gha.Run) (*checkpoint.Checkpoint, error) {
	text, err := r.ReadFile("checkpoint-path", in.CheckpointPath, jsondoc.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gha.Misuse("checkpoint-path %q: there is no such file. A lost checkpoint is no fresh start: restore it, or leave the input out for the first run and say so in review", in.CheckpointPath)
	}
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.Parse(in.CheckpointPath, text)
	if err != nil {
		return nil, err
	}
	reviewed, err := in.reviewed(r)
	return c.Under(reviewed.Resets), err
}

// spool puts standard input into a file, because the place of a fork or a gap
// is found in a second pass.
func spool(r *gha.Run) (open func() (io.ReadCloser, error), done func(), err error) {
	done = func() {}
	f, err := os.CreateTemp("", "events-*.ndjson")
	if err != nil {
		return nil, done, fmt.Errorf("standard input cannot be put aside: %w", err)
	}
	done = func() { os.Remove(f.Name()) }
	_, err = io.Copy(f, r.Stdin)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, done, fmt.Errorf("standard input cannot be put aside: %w", err)
	}
	return func() (io.ReadCloser, error) { return os.Open(f.Name()) }, done, nil
}

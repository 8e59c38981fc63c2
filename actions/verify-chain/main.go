// Command verify-chain reads every event of an audit chain and judges it: its
// digest, its place, its signature, and whether its signer may speak there.
//
// Exit 0 means that nothing is wrong in what was read, 1 that something is,
// 3 that it could not be told; only 0 is a success.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	audit.Inputs
	Mode               string        `input:"mode"`
	Shards             int           `input:"shards"`
	Shard              string        `input:"shard"`
	JoinReports        string        `input:"join-reports"`
	Token              gha.Secret    `input:"token"`
	RegistryPath       string        `input:"registry-path"`
	ArchivePath        string        `input:"archive-path"`
	RequireCheckpoint  bool          `input:"require-checkpoint"`
	AllowEmpty         bool          `input:"allow-empty"`
	StrictNumbers      bool          `input:"strict-numbers"`
	ExpectSigner       string        `input:"expect-signer"`
	WaitFor            time.Duration `input:"wait-for"`
	ReportPath         string        `input:"report-path"`
	HTMLPath           string        `input:"html-path"`
	NextCheckpointPath string        `input:"next-checkpoint-path"`
	RetryBudget        time.Duration `input:"retry-budget"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	if err := in.check(); err != nil {
		return err
	}
	ctx, err := gha.Within(ctx, in.RetryBudget)
	if err != nil {
		return err
	}
	if in.Mode == "plan" {
		return plan(ctx, r, in)
	}
	files, err := trusted(r, in)
	if err != nil {
		return err
	}
	source, terms, done, err := in.Read(r)
	defer done()
	if err != nil {
		return err
	}
	terms.Registry, terms.Archive = files.Registry, files.Archive
	terms.AllowEmpty, terms.StrictNumbers = in.AllowEmpty, in.StrictNumbers
	terms.Resume, terms.Unknown = in.Mode == "incremental", new(trust.Claims)
	in.ExpectSigner = entryOf(in.ExpectSigner, files)
	if in.Mode == "shard" {
		return shard(ctx, r, in, source, terms, files)
	}
	around := beside(ctx, r, in, files)
	for range races {
		var branch *audit.Branch
		if in.CheckpointBranch != "" {
			if branch, terms.Checkpoint, err = fromBranch(ctx, r, in, around); err != nil {
				return err
			}
		}
		started := r.Now()
		read := verify
		if in.Mode == "join" {
			read = join
		}
		rep, table, err := read(ctx, r, in, source, terms)
		if err != nil {
			return err
		}
		if in.Mode != "join" {
			rep.StartedAt = started.UTC()
		}
		rep.Duration = r.Now().Sub(rep.StartedAt).Round(time.Millisecond).String()
		next, err := remember(r, in, rep, terms.Checkpoint, table)
		if err != nil {
			return err
		}
		if branch != nil && next != nil && (terms.Checkpoint == nil || !next.Says(terms.Checkpoint)) {
			raced, err := branch.Write(ctx, next)
			if err != nil {
				return err
			}
			if raced {
				r.Logf("another run has written the next checkpoint to branch %s: verifying again, against that one", in.CheckpointBranch)
				continue
			}
		}
		if branch != nil && !branch.Exists() && terms.Checkpoint != nil {
			lost(in, rep, terms.Checkpoint)
		}
		explain(ctx, r, in, around, rep, terms.Unknown)
		return tell(r, in, around, rep, next)
	}
	return fmt.Errorf("other runs wrote to branch %s %d times while this one verified: let one workflow write there at a time, then run again", in.CheckpointBranch, races)
}

// races is how often another run may be faster.
const races = 3

// check refuses inputs that contradict each other.
func (in inputs) check() error {
	switch {
	case !slices.Contains([]string{"verify", "incremental", "plan", "shard", "join"}, in.Mode):
		return gha.Misuse("mode %q: only verify, incremental, plan, shard and join are known, choose one", in.Mode)
	case in.Mode == "shard" && in.Shard == "":
		return gha.Misuse("mode is shard, and shard is empty: set it to an element of the matrix that mode plan gives")
	case in.Mode != "shard" && in.Shard != "":
		return gha.Misuse("shard is set, and mode is %s: set mode to shard, or leave shard out", in.Mode)
	case in.Mode == "shard" && in.ReportPath == "":
		return gha.Misuse("mode is shard, and report-path is empty: set it to where the report for mode join is to be written")
	case in.Mode == "join" && in.JoinReports == "":
		return gha.Misuse("mode is join, and join-reports is empty: set it to the folder that holds the reports of all shards")
	case in.Mode != "join" && in.JoinReports != "":
		return gha.Misuse("join-reports is set, and mode is %s: set mode to join, or leave join-reports out", in.Mode)
	case (in.Mode == "plan" || in.Mode == "shard") && (in.ExpectSigner != "" || in.HTMLPath != "" || in.NextCheckpointPath != ""):
		return gha.Misuse("mode is %s, which knows a part of the chain at most: give expect-signer, html-path and next-checkpoint-path to mode join", in.Mode)
	case in.Mode != "verify" && in.Mode != "incremental" && in.WaitFor > 0:
		return gha.Misuse("wait-for is set, and mode is %s, which reads nothing twice: wait for the signer with mode verify or incremental, or before mode plan", in.Mode)
	case in.RequireCheckpoint && in.CheckpointPath == "" && in.CheckpointBranch == "":
		return gha.Misuse("require-checkpoint is true, and neither checkpoint-path nor checkpoint-branch is set: name the checkpoint of the last verification")
	}
	return nil
}

// trusted reads registry and archive; a verdict that rests on an unsound file
// is worth nothing.
func trusted(r *gha.Run, in inputs) (*registry.Files, error) {
	text, err := r.ReadFile("registry-path", in.RegistryPath, jsondoc.MaxSize)
	if err != nil {
		return nil, err
	}
	if in.ArchivePath == "" {
		in.ArchivePath = registry.ArchiveBeside(in.RegistryPath)
	}
	archive, err := r.ReadFile("archive-path", in.ArchivePath, jsondoc.MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files, err := registry.Load(in.RegistryPath, text, in.ArchivePath, archive)
	if err != nil {
		return nil, err
	}
	findings := append(files.Findings, registry.Validate(files.Registry, files.Archive, r.Now())...)
	finding.Sort(findings)
	r.Findings(findings)
	if finding.Count(findings, finding.Error) > 0 {
		return nil, gha.Misuse("the registry is not sound, so nothing was verified; repair it first (see the findings above)")
	}
	return files, nil
}

// entryOf gives the signer that has id as its own or as an alias.
func entryOf(id string, f *registry.Files) string {
	if s, ok := f.Registry.Find(id); ok {
		return s.ID
	}
	if s, ok := f.Archive.Find(id); ok {
		return s.ID
	}
	return id
}

// verify reads the chain, and reads it again with growing pauses until the
// expected signer has signed or the time is up.
func verify(ctx context.Context, r *gha.Run, in inputs, s audit.Source, t audit.Terms) (*chain.Report, checkpoint.Table, error) {
	deadline, pause := r.Now().Add(in.WaitFor), 2*time.Second
	for {
		rep, table, err := audit.Verify(ctx, s, t)
		if err != nil || in.ExpectSigner == "" || rep.Use(in.ExpectSigner).Events > 0 || rep.Verdict == chain.Failed {
			return rep, table, err
		}
		left := deadline.Sub(r.Now())
		if left <= 0 {
			return rep, table, nil
		}
		r.Logf("no event by %s yet; signer ids seen: %s; reading again", in.ExpectSigner, rotation.SignersSeen(rep))
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return nil, table, ctx.Err()
		}
		pause = min(2*pause, time.Minute)
	}
}

// tell reports the outcome in every form, the next checkpoint last: it must
// never promise more than what has been reported.
func tell(r *gha.Run, in inputs, files record.Files, rep *chain.Report, next *checkpoint.Checkpoint) error {
	r.Findings(rep.Findings)
	r.Summary(report.Chain(rep) + report.Reminders(rotation.Reminders(files, r.Now())))
	r.Ticket(report.ChainTicket(rep))
	if in.ReportPath != "" {
		if err := r.WriteFile("report-path", in.ReportPath, report.JSON(rep)); err != nil {
			return err
		}
		r.Output("report-path", in.ReportPath)
	}
	if in.HTMLPath != "" {
		page := report.Page(report.Evidence{Chain: rep, Registry: files.Registry, Archive: files.Archive, Origin: report.Origin(r.Origin()), Inputs: r.Given()})
		if err := r.WriteFile("html-path", in.HTMLPath, page); err != nil {
			return err
		}
	}
	if next != nil && in.NextCheckpointPath != "" {
		if err := r.WriteFile("next-checkpoint-path", in.NextCheckpointPath, next.JSON()); err != nil {
			return err
		}
		r.Output("checkpoint-path", in.NextCheckpointPath)
	}
	counts := map[string]int64{}
	for id, use := range rep.Signers {
		counts[id] = use.Events
	}
	r.Output("verdict", string(rep.Verdict))
	r.Output("events", strconv.FormatInt(rep.Events, 10))
	r.Output("head", rep.Head)
	r.OutputJSON("signers", counts)
	empty := rep.Verdict == chain.Undetermined // of a table without events, if that is allowed
	if rep.Verdict == chain.Verified || empty && in.AllowEmpty {
		return nil
	}
	return gha.Failed
}

// missing says that the expected signer has not signed, and who has.
func missing(in inputs, rep *chain.Report) finding.Finding {
	return finding.Finding{Rule: rotation.RuleExpectedSigner, Severity: finding.Error,
		Message: "no verified event by signer " + in.ExpectSigner + " within " + in.WaitFor.String() + "; signer ids seen: " + rotation.SignersSeen(rep) +
			". Agent Manager writes the KMS key id that it is configured with as signer_kid: that id must be the signer's id or one of its aliases"}
}

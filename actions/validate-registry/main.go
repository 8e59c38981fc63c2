// Command validate-registry is the gate on changes of the signer registry. It
// reads registry, archive, rotation records and the list of accepted findings of
// the change and of the commit that it starts from, judges them, and prints what
// is wrong with file, line and column.
//
// It runs on strangers' pull requests, so it needs no token and no network, and
// trusts nothing in the checkout to tell it what the base is. What it judges on
// a runner is what the commit holds, not what attributes or an earlier step
// have made of the files in the working directory.
package main

import (
	"context"
	_ "embed"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	RegistryPath      string        `input:"registry-path"`
	ArchivePath       string        `input:"archive-path"`
	RotationsPath     string        `input:"rotations-path"`
	BaseRef           string        `input:"base-ref"`
	ProtectedBranch   string        `input:"protected-branch"`
	BaseRegistryPath  string        `input:"base-registry-path"`
	BaseArchivePath   string        `input:"base-archive-path"`
	BaseRotationsPath string        `input:"base-rotations-path"`
	MaxEvidenceAge    time.Duration `input:"max-evidence-age"`
	EventsPath        string        `input:"events-path"`
	ReportPath        string        `input:"report-path"`
	SARIFPath         string        `input:"sarif-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	event, err := r.Event()
	if err != nil {
		return err
	}
	if event.Name == "pull_request_target" || event.Name == "workflow_run" {
		return gha.Misuse("this gate refuses to run on %s, where a stranger's change meets the repository's secrets; use pull_request, merge_group and push", event.Name)
	}
	if in.MaxEvidenceAge <= 0 {
		return gha.Misuse("max-evidence-age %s: give a positive duration, such as 24h", in.MaxEvidenceAge)
	}
	g := gate{Run: r, inputs: in, event: event, at: signerfiles.PathsFor(local(in.RegistryPath), local(in.ArchivePath), local(in.RotationsPath))}
	if err := g.choose(ctx); err != nil {
		return err
	}
	head, err := g.load(ctx, g.headTree, g.at)
	switch {
	case err != nil:
		return err
	case head == nil && g.head != "":
		return gha.Misuse("registry-path %q: commit %.12s has no such file: check the path", g.at.Registry, g.head)
	case head == nil:
		return gha.Misuse("registry-path %q: there is no such file; check the path", in.RegistryPath)
	}
	base, found, err := g.compare(ctx, head)
	if err != nil {
		return err
	}
	accepted, err := g.accepted(ctx)
	if err != nil {
		return err
	}
	findings := slices.Concat(head.findings, found, accepted)
	if in.EventsPath != "" {
		if found, err = g.replay(ctx, base, head); err != nil {
			return err
		}
		findings = append(slices.DeleteFunc(findings, func(f finding.Finding) bool { return f.Rule == rotation.RuleAuthorsWord }), found...)
	}
	return g.tell(head, findings)
}

// tell reports the findings in every form.
func (g *gate) tell(head *side, findings []finding.Finding) error {
	finding.Sort(findings)
	g.Findings(findings)
	errs := finding.Count(findings, finding.Error)
	verdict := "passed"
	if errs > 0 {
		verdict = "failed"
	}
	files := head.files
	signers, digest := len(files.Registry.Signers), files.Registry.SHA256()
	g.Output("verdict", verdict)
	g.Output("findings", strconv.Itoa(errs))
	g.Output("signers", strconv.Itoa(signers))
	g.Output("registry-sha256", digest)
	g.Summary(report.Registry(findings, signers, len(files.Archive.Retired), digest, g.base, g.head) + report.Reminders(rotation.Reminders(*files, g.Now())))
	g.Ticket(report.FindingsTicket("the signer registry is sound", "the signer registry is refused", findings))
	if g.inputs.ReportPath != "" {
		out := report.Findings(verdict, *files, findings)
		out.BaseCommit, out.HeadCommit = g.base, g.head
		if err := g.WriteFile("report-path", g.inputs.ReportPath, report.JSON(out)); err != nil {
			return err
		}
	}
	if g.inputs.SARIFPath != "" {
		if err := g.WriteFile("sarif-path", g.inputs.SARIFPath, report.JSON(report.SARIF(findings, g.at.Registry))); err != nil {
			return err
		}
	}
	if errs > 0 {
		return gha.Failed
	}
	return nil
}

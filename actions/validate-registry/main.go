// Command validate-registry is the gate on changes of the signer registry. It
// reads registry and archive of the checkout and of the commit that the change
// starts from, judges them, and prints what is wrong with file, line and
// column.
//
// It runs on strangers' pull requests, so it needs no token and no network,
// and trusts nothing in the checkout to tell it what the base is.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	RegistryPath     string `input:"registry-path"`
	ArchivePath      string `input:"archive-path"`
	BaseRef          string `input:"base-ref"`
	BaseRegistryPath string `input:"base-registry-path"`
	BaseArchivePath  string `input:"base-archive-path"`
	ReportPath       string `input:"report-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	event, err := r.Event()
	if err != nil {
		return err
	}
	if event.Name == "pull_request_target" || event.Name == "workflow_run" {
		return gha.Misuse("this gate refuses to run on %s, where a stranger's change meets the repository's secrets; use pull_request, merge_group and push", event.Name)
	}
	if in.ArchivePath == "" {
		in.ArchivePath = registry.ArchiveBeside(in.RegistryPath)
	}
	head, err := r.ReadFile("registry-path", in.RegistryPath, jsondoc.MaxSize)
	if err != nil {
		return err
	}
	archive, err := optional(r, "archive-path", in.ArchivePath)
	if err != nil {
		return err
	}
	after, err := registry.Load(in.RegistryPath, head, in.ArchivePath, archive)
	if err != nil {
		return unreadable(r, err)
	}
	findings := append(after.Findings, registry.Validate(after.Registry, after.Archive, r.Now())...)
	before, err := base(ctx, r, in, event)
	var broken *jsondoc.Error
	switch {
	case errors.As(err, &broken) && in.BaseRegistryPath == "":
		// Or no pull request could repair it.
		findings = append(findings, finding.Finding{Rule: "base-unreadable", Severity: finding.Warning, File: broken.File,
			Message: fmt.Sprintf("the base cannot be read (line %d: %s), so the change was not compared with it: review every line of it", broken.Line, broken.Message)})
	case err != nil:
		return err
	case before != nil:
		findings = append(findings, registry.Diff(before.Registry, before.Archive, after.Registry, after.Archive)...)
	}
	return tell(r, in, after, findings)
}

// optional reads a file that may be missing.
func optional(r *gha.Run, input, path string) ([]byte, error) {
	content, err := r.ReadFile(input, path, jsondoc.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// base reads what the change starts from: from files, or from the commit that
// the event names. Without either there is nothing to compare.
func base(ctx context.Context, r *gha.Run, in inputs, event gha.Event) (*registry.Files, error) {
	if in.BaseRegistryPath != "" {
		head, err := r.ReadFile("base-registry-path", in.BaseRegistryPath, jsondoc.MaxSize)
		if err != nil {
			return nil, err
		}
		var archive []byte
		if in.BaseArchivePath != "" {
			if archive, err = r.ReadFile("base-archive-path", in.BaseArchivePath, jsondoc.MaxSize); err != nil {
				return nil, err
			}
		}
		return registry.Load(in.BaseRegistryPath, head, in.BaseArchivePath, archive)
	}
	revision := in.BaseRef
	if revision == "" && event.Name == "pull_request" {
		revision = gitrepo.MergeBase(ctx, ".", event.HeadSHA)
	}
	if revision == "" {
		revision = event.BaseSHA
	}
	if revision == "" || revision == "none" {
		r.Logf("nothing to compare with: only the files as they are were judged")
		return nil, nil
	}
	commit, err := gitrepo.Commit(ctx, ".", revision)
	if err != nil {
		return nil, err
	}
	head, found, err := gitrepo.ReadFile(ctx, ".", commit, in.RegistryPath, jsondoc.MaxSize)
	if err == nil && !found {
		r.Logf("commit %.12s has no %s: a registry that did not exist before cannot be broken", commit, in.RegistryPath)
	}
	if err != nil || !found {
		return nil, err
	}
	archive, _, err := gitrepo.ReadFile(ctx, ".", commit, in.ArchivePath, jsondoc.MaxSize)
	if err != nil {
		return nil, err
	}
	return registry.Load(in.RegistryPath, head, in.ArchivePath, archive)
}

// unreadable shows an error that has a place at that place, too.
func unreadable(r *gha.Run, err error) error {
	var e *jsondoc.Error
	if errors.As(err, &e) && e.Line > 0 {
		r.Findings([]finding.Finding{{Rule: "unreadable", Severity: finding.Error, File: e.File, Line: e.Line, Col: e.Col, Message: e.Message}})
	}
	return err
}

// tell reports the findings in every form.
func tell(r *gha.Run, in inputs, after *registry.Files, findings []finding.Finding) error {
	finding.Sort(findings)
	r.Findings(findings)
	errs := finding.Count(findings, finding.Error)
	verdict := "passed"
	if errs > 0 {
		verdict = "failed"
	}
	digest := after.Registry.SHA256()
	r.Output("verdict", verdict)
	r.Output("findings", strconv.Itoa(errs))
	r.Output("signers", strconv.Itoa(len(after.Registry.Signers)))
	r.Output("registry-sha256", digest)
	r.Summary(report.Registry(findings, len(after.Registry.Signers), len(after.Archive.Retired), digest))
	if in.ReportPath != "" {
		if err := r.WriteFile("report-path", in.ReportPath, report.JSON(report.Findings(verdict, after, findings))); err != nil {
			return err
		}
	}
	if errs > 0 {
		return gha.Failed
	}
	return nil
}

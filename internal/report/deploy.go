package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// StepFile is the report file of an action that changes what is published or
// deployed.
type StepFile struct {
	Version int    `json:"version"`
	Action  string `json:"action"`
	DryRun  bool   `json:"dryRun"`
	// Verdict is guard-deploy's open or closed, a rollback's sentence, or what
	// has become of a pull request.
	Verdict string `json:"verdict"`
	// Next is what is to be done.
	Next     string `json:"next,omitempty"`
	Rotation string `json:"rotation,omitempty"`
	// Signer is the one to deploy, Settings are its settings, if it may be.
	Signer      string            `json:"signer"`
	Settings    map[string]string `json:"settings,omitempty"`
	PullRequest string            `json:"pullRequest,omitempty"`
	// These are what was published when the step was taken.
	BaseCommit     string            `json:"baseCommit"`
	RegistrySHA256 string            `json:"registrySha256"`
	ArchiveSHA256  string            `json:"archiveSha256,omitempty"`
	Findings       []finding.Finding `json:"findings"`
}

// NewStepFile begins the report of an action with what is published.
func NewStepFile(action string, dryRun bool, commit string, f record.Files) StepFile {
	return StepFile{
		Version: 1, Action: action, DryRun: dryRun,
		BaseCommit: commit, RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256(), Findings: []finding.Finding{},
	}
}

// Open is the summary of a deployment that may go ahead; ready says how it is
// known that the verifiers have the signer.
func Open(signerID, ready string, list [][2]string) string {
	return "## ✔ Deploy signer " + code(signerID) + "\n\nThe signer is published, and the KMS key is its key; " + text(ready) + ". Deploy with these settings, all four together:\n\n```\n" + EnvFile(list) + "```\n"
}

// Closed is the summary of a deployment that must not go ahead.
func Closed(fs []finding.Finding) string {
	var b strings.Builder
	b.WriteString("## ✖ Do not deploy\n\nEvents signed after this deployment could not be verified. Nothing was changed; the signer that is deployed now goes on.\n\n")
	findings(&b, fs, int64(len(fs)), nil)
	return b.String()
}

// Published is the summary of add-signer; next says what has become of its
// pull request and what is to be done, url is where it stands.
func Published(signerID, next, url string, list [][2]string) string {
	return fmt.Sprintf("## Signer %s\n\n**What to do next.** %s%s\n\nDeploy with these settings, once the pull request is merged:\n\n```\n%s```\n", code(signerID), text(next), after(url), EnvFile(list))
}

// Back is the summary of a rollback; without settings nothing was proposed.
func Back(signerID, verdict, next, url string, list [][2]string) string {
	if len(list) == 0 {
		return fmt.Sprintf("## Not back to signer %s\n\n%s.\n\n**What to do next.** %s%s\n", code(signerID), text(verdict), text(next), after(url))
	}
	return fmt.Sprintf("## Back to signer %s\n\n%s.\n\n**What to do next.** %s%s\n\nDeploy with these settings:\n\n```\n%s```\n", code(signerID), text(verdict), text(next), after(url), EnvFile(list))
}

func after(url string) string {
	if url == "" {
		return ""
	}
	return " " + link(url)
}

// EnvFile renders settings as NAME=value lines. Values hold no line ends: ids
// and ARNs are checked before.
func EnvFile(list [][2]string) string {
	var b strings.Builder
	for _, kv := range list {
		fmt.Fprintf(&b, "%s=%s\n", kv[0], visible(kv[1]))
	}
	return b.String()
}

// Settings are deploy settings as the object that the output deploy-env holds.
func Settings(list [][2]string) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		m[kv[0]] = kv[1]
	}
	return m
}

// duration writes whole hours and days as people do.
func duration(d time.Duration) string {
	switch {
	case d > 0 && d%time.Hour == 0:
		return count(int64(d/time.Hour), "hour")
	case d > 0 && d%time.Minute == 0:
		return count(int64(d/time.Minute), "minute")
	}
	return d.String()
}

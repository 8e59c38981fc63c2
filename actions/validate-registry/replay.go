package main

import (
	"context"
	"io"
	"runtime"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// replay asks an export of the chain which events the change makes
// unverifiable. Files that are unsound are refused already, and trust needs
// sound ones.
func (g *gate) replay(ctx context.Context, base, head *side) ([]finding.Finding, error) {
	if finding.Count(head.findings, finding.Error) > 0 {
		g.Logf("the export was not replayed: repair the files first")
		return nil, nil
	}
	var before *registry.Files
	if base != nil && finding.Count(base.findings, finding.Error) == 0 {
		before = &registry.Files{Registry: base.files.Registry, Archive: base.files.Archive}
	}
	open := func() (io.ReadCloser, error) { return g.Open("events-path", g.inputs.EventsPath) }
	out, err := trust.Replay(ctx, chain.NDJSON(g.inputs.EventsPath, open), before, &registry.Files{Registry: head.files.Registry, Archive: head.files.Archive}, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	g.Logf("replayed %d events: the change makes %d of them unverifiable", out.Events, out.Lost)
	if out.Declared > 0 {
		g.Logf("it takes %d events back, by declaring their signer compromised; that holds nothing up", out.Declared)
	}
	if out.Unchecked > 0 {
		g.Logf("%d events are by HMAC signers, whose signatures cannot be checked without their secret", out.Unchecked)
	}
	if out.Elsewhere > 0 {
		g.Logf("the export has %d other finding(s), which this change has nothing to do with: see verify-chain", out.Elsewhere)
	}
	if g.gained != nil && out.Elsewhere == 0 {
		use := out.Report.Use(g.gained.Subject().ID)
		if why := rotation.Contradiction(g.gained, record.Mark{Position: use.LastPosition, Digest: use.LastDigest}); why != "" {
			out.Findings = append(out.Findings, finding.Finding{Rule: rotation.RuleUnproven, Severity: finding.Error, Message: why})
		}
	}
	for i := range out.Findings {
		out.Findings[i].File, out.Findings[i].Line, out.Findings[i].Col = g.at.Registry, 1, 1
	}
	return out.Findings, nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

// plan divides the source and gives the matrix.
func plan(ctx context.Context, r *gha.Run, in inputs) error {
	source, _, done, err := in.Read(r)
	defer done()
	if err != nil {
		return err
	}
	shards, err := audit.Plan(ctx, source, in.Shards)
	if err != nil {
		return err
	}
	for _, s := range shards {
		r.Logf("shard %s", s)
	}
	r.OutputJSON("matrix", map[string][]string{"shard": shards})
	r.Summary(fmt.Sprintf("## The chain is to be read in %d shards\n\nNothing has been verified yet: that is for mode shard, one job each, and mode join.\n", len(shards)))
	return nil
}

// shard reads one share of the rows and leaves its report for join. It never
// says verified: whether the shards are one chain, only join can tell.
func shard(ctx context.Context, r *gha.Run, in inputs, s audit.Source, t audit.Terms, files *registry.Files) error {
	if in.CheckpointBranch != "" {
		var err error
		if _, t.Checkpoint, err = fromBranch(ctx, r, in, beside(ctx, r, in, files)); err != nil {
			return err
		}
	}
	started := r.Now().UTC()
	p, err := audit.Shard(ctx, s, t, in.Shard)
	if err != nil {
		return err
	}
	p.StartedAt = started
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := r.WriteFile("report-path", in.ReportPath, append(text, '\n')); err != nil {
		return err
	}
	r.Output("report-path", in.ReportPath)
	r.Output("events", strconv.FormatInt(p.Events, 10))
	r.Summary(report.Shard(p))
	if p.Failed() {
		r.Findings(p.List())
		r.Output("verdict", string(chain.Failed))
		return gha.Failed
	}
	r.Output("verdict", string(chain.Undetermined))
	return nil
}

// maxPart bounds a shard's report: a hundred thousand gaps.
const maxPart = 64 << 20

// join judges the chain whose shards' reports are in a folder. The verification
// began with the first of them.
func join(ctx context.Context, r *gha.Run, in inputs, s audit.Source, t audit.Terms) (*chain.Report, checkpoint.Table, error) {
	names, err := r.ReadDir("join-reports", in.JoinReports)
	if err != nil {
		return nil, checkpoint.Table{}, err
	}
	var parts []*chain.Part
	var began time.Time
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		name = path.Join(in.JoinReports, name)
		text, err := r.ReadFile("join-reports", name, maxPart)
		if err != nil {
			return nil, checkpoint.Table{}, err
		}
		p, err := audit.ParsePart(name, text)
		if err != nil {
			return nil, checkpoint.Table{}, err
		}
		if p.StartedAt.IsZero() {
			return nil, checkpoint.Table{}, gha.Misuse("%s does not say when it was begun: run its shard again", name)
		}
		if began.IsZero() || p.StartedAt.Before(began) {
			began = p.StartedAt
		}
		parts = append(parts, p)
	}
	rep, table, err := audit.Join(ctx, s, t, parts)
	if err == nil {
		rep.StartedAt = began
	}
	return rep, table, err
}

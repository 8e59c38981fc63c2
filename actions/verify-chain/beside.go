package main

import (
	"context"
	"path"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// beside gives registry and archive with the records that stand beside them.
// They decide nothing here, so what cannot be read is left out: validate-registry
// speaks of it.
func beside(r *gha.Run, in inputs, files *registry.Files) rotation.Files {
	f := rotation.Files{Registry: files.Registry, Archive: files.Archive, Dir: rotation.DirBeside(in.RegistryPath)}
	names, _ := r.ReadDir("registry-path", f.Dir)
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		name = path.Join(f.Dir, name)
		text, err := r.ReadFile("registry-path", name, jsondoc.MaxSize)
		if err != nil {
			continue
		}
		if rec, err := rotation.ParseRecord(name, text); err == nil {
			f.Records = append(f.Records, rec)
		}
	}
	return f
}

// explain lets findings about unknown signers say what to do, as far as the
// records and, with a token, GitHub tell.
func explain(ctx context.Context, r *gha.Run, in inputs, files rotation.Files, rep *chain.Report, rows *trust.Claims) {
	var repo *pullrequest.Repo
	if in.Token.Reveal() != "" && r.Getenv("GITHUB_REPOSITORY") != "" {
		repo, _ = published.Repository(r, in.Token)
	}
	paths := published.PathsFor(in.RegistryPath, in.ArchivePath, files.Dir)
	if err := published.Explain(ctx, repo, paths, "", files, rep, rows); err != nil {
		r.Logf("note: the findings do not say where an unknown signer may stand: %v", err)
	}
}

package main

import (
	"context"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// beside gives registry and archive with the records that are beside them. They
// decide nothing here, so records that cannot be read are left out: validate-registry
// names them.
func beside(ctx context.Context, r *gha.Run, in inputs, files *registry.Files) record.Files {
	f := record.Files{Registry: files.Registry, Archive: files.Archive, Dir: record.DirBeside(in.RegistryPath)}
	paths := signerfiles.PathsFor(in.RegistryPath, in.ArchivePath, f.Dir)
	_, _ = signerfiles.Records(ctx, signerfiles.Disk{Run: r, Paths: paths}, &f)
	return f
}

// explain lets findings about unknown signers say what to do, as far as the
// records and, with a token, GitHub tell.
func explain(ctx context.Context, r *gha.Run, in inputs, files record.Files, rep *chain.Report, rows *trust.Claims) {
	var repo *pullrequest.Repo
	if in.Token.Reveal() != "" && r.Getenv("GITHUB_REPOSITORY") != "" {
		repo, _ = published.Repository(r, in.Token)
	}
	paths := signerfiles.PathsFor(in.RegistryPath, in.ArchivePath, files.Dir)
	if err := published.Explain(ctx, repo, paths, "", files, rep, rows); err != nil {
		r.Logf("note: the findings do not say where an unknown signer may stand: %v", err)
	}
}

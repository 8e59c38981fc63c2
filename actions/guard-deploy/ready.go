package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// deployment asks KMS what would sign, and why it could not.
func deployment(ctx context.Context, in inputs, state *published.State) (d rotation.Deployment, against []finding.Finding, err error) {
	d = rotation.Deployment{SignerID: in.SignerID, KMSKeyID: in.KMSKeyID}
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return d, nil, err
	}
	k, err := client.Describe(ctx, in.KMSKeyID)
	if err != nil {
		return unknown(d, state, err)
	}
	for _, why := range k.Check(nil) {
		against = append(against, finding.Finding{Rule: rotation.RuleDeployMismatch, Severity: finding.Error, Message: "KMS key " + k.ARN + " cannot sign audit events: " + why})
	}
	if len(against) > 0 {
		return d, against, nil
	}
	d.KMSKeyARN, d.Algorithm = k.ARN, k.Algorithm()
	if d.Algorithm != pubkey.HMACSHA256 {
		if d.Key, err = client.PublicKey(ctx, k.ARN); err != nil {
			return d, nil, err
		}
	}
	if in.CheckSigning {
		err = client.CheckSigning(ctx, in.KMSKeyID, d.Algorithm)
	}
	return d, nil, err
}

// unknown is the case of a key that KMS does not describe: evidence enough
// where its ARN shows that it is not the published one.
func unknown(d rotation.Deployment, state *published.State, err error) (rotation.Deployment, []finding.Finding, error) {
	s, ok := state.Registry.Find(d.SignerID)
	if !ok || s.KMSKeyID == "" {
		return d, nil, err
	}
	if against := rotation.Elsewhere(d.KMSKeyID, s); len(against) > 0 {
		return d, against, nil
	}
	if e, is := errors.AsType[*awskms.Error](err); is && e.ExitCode() == 2 {
		err = fmt.Errorf("%w; signer %s is published with KMS key %s", err, s.ID, s.KMSKeyID)
	}
	return d, nil, err
}

// ready holds the deployment against what is published, and again with growing
// pauses until the signer has reached the verifiers or wait-for is over. It
// gives how that is known, or what stands against the deployment.
func (g guard) ready(ctx context.Context, d rotation.Deployment, state *published.State) (how string, against []finding.Finding, err error) {
	deadline, pause := g.Now().Add(g.in.WaitFor), 2*time.Second
	for {
		if d.Proposal, err = g.proposal(ctx, d, state); err != nil {
			return "", nil, err
		}
		if against := rotation.Guard(d, state.Registry, state.Archive); len(against) > 0 {
			return "", against, nil
		}
		s, _ := state.Registry.Find(d.SignerID)
		at := published.Clock(g.repo, g.Run)
		is, err := state.Reach(ctx, g.repo, record.SignerOf(s), g.in.VerifierURLs, at)
		if err != nil || is.State == record.Passed {
			return is.Detail, nil, err
		}
		left := deadline.Sub(g.Now())
		if !is.At.IsZero() { // the wait is known, so nobody waits in vain
			pause = max(is.At.Sub(at), time.Second)
		}
		hopeless := left <= 0 || !is.At.IsZero() && pause > left || is.State == record.Unproven && len(g.in.VerifierURLs) == 0
		switch {
		case hopeless && is.State == record.Waiting:
			return "", []finding.Finding{rotation.NotReady("signer %s is published, and may not sign yet: %s. Let this step wait for it with wait-for", s.ID, is.Detail)}, nil
		case hopeless:
			return "", nil, fmt.Errorf("whether signer %s may sign yet: %s. Do not deploy; run this again when that is put right", s.ID, is.Detail)
		}
		g.Logf("signer %s may not sign yet: %s; looking again in %s", s.ID, is.Detail, min(pause, left).Round(time.Second))
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return "", nil, fmt.Errorf("stopped while signer %s waited for its verifiers; run this again: %w", s.ID, ctx.Err())
		}
		pause = min(2*pause, time.Minute)
		if state, err = g.look(ctx); err != nil {
			return "", nil, err
		}
	}
}

// trusting warns of verifiers that may trust a compromised key still. They do
// not hold up the deployment: it may be the one that replaces that key.
func (g guard) trusting(ctx context.Context, state *published.State) ([]finding.Finding, error) {
	if len(rotation.Compromised(state.Files)) == 0 {
		return nil, nil
	}
	verifiers, err := published.Verifiers(ctx, g.in.VerifierURLs)
	if err != nil {
		return nil, err
	}
	fs, err := state.Trusting(ctx, g.repo, verifiers, published.Clock(g.repo, g.Run))
	if err != nil {
		g.Logf("note: a verifier that is named may serve files that are good enough: %v", err)
	}
	annotations := slices.Clone(fs)
	for i := range annotations {
		annotations[i].Severity = min(annotations[i].Severity, finding.Warning)
	}
	g.Findings(annotations)
	return fs, nil
}

// proposal says what is to be done with the pull request that would publish
// the signer. Nobody needs to be able to read pull requests for a refusal.
func (g guard) proposal(ctx context.Context, d rotation.Deployment, state *published.State) (string, error) {
	if _, there := state.Registry.Find(d.SignerID); there {
		return "", nil
	}
	change := published.Addition(state.Paths, d.Signer())
	change.Base = state.Branch
	p, found, err := g.repo.Find(ctx, change)
	switch {
	case ctx.Err() != nil:
		return "", err
	case err != nil:
		g.Logf("note: %v", err)
	case found && p.State == pullrequest.Proposed:
		return fmt.Sprintf("Merge #%d (%s)", p.Number, p.URL), nil
	case found && p.State == pullrequest.Closed:
		return fmt.Sprintf("Its pull request #%d was closed unmerged, which means no; reopen and merge it (%s) if that was a mistake, and do so", p.Number, p.URL), nil
	}
	return "", nil
}

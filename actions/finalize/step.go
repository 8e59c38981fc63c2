package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/cloudtrail"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// finalizer carries one run's view: the published state and a verification of
// the chain with it.
type finalizer struct {
	*gha.Run
	inputs inputs
	repo   *pullrequest.Repo
	state  *published.State
	source audit.Source
	terms  audit.Terms
	report *chain.Report
	// readAt is when the reading began and reportSum the report's digest, where
	// the chain was read elsewhere.
	readAt    time.Time
	reportSum string
	// verifiers are what the listed verifiers serve, trusting those of them that
	// may trust a compromised key still.
	verifiers []rotation.Verifier
	trusting  []finding.Finding
	first     string // the rotation for which this run has a pull request
}

// step judges one rotation, whose incoming signer was published at mergedAt by the
// pull request with this number, and, if every gate is passed, makes sure that its
// pull request is open.
func (f *finalizer) step(ctx context.Context, rec record.Record, mergedAt time.Time, number int) (report.Status, pullrequest.Proposal, error) {
	facts, err := f.facts(ctx, rec, mergedAt)
	if err != nil {
		return report.Status{}, pullrequest.Proposal{}, err
	}
	a := rotation.Evaluate(facts)
	status := report.NewStatus(rec, a)
	if !a.Ready() {
		return status, pullrequest.Proposal{}, nil
	}
	if f.first != "" { // its evidence would be stale as soon as that one is merged
		status.Next = "Waiting: merge the pull request of rotation " + f.first + " first."
		return status, pullrequest.Proposal{}, nil
	}
	leaving := f.state.Located(*rec.State().Leaving)
	ret := &record.Retire{
		By: f.by(facts.AsOf(), rec), Signer: leaving, Cutover: a.Cutover, Boundary: a.Boundary, PublishedIn: number,
		Evidence: record.Evidence{Events: f.report.Events, Head: f.report.Head, RegistrySHA256: f.state.Registry.SHA256(), ArchiveSHA256: f.state.Archive.SHA256(), Checkpoint: f.report.Checkpoint.From, ReportSHA256: f.reportSum},
	}
	p, err := f.propose(ctx, facts, &a, ret)
	status = report.NewStatus(rec, a)
	status.PullRequest, status.Next = p.URL, published.Outcome(p)
	status.Refused = p.State == pullrequest.Closed || p.State == pullrequest.Foreign
	return status, p, err
}

// by is this run as the author of a retirement: its reason is that of the move that
// lets the signer leave.
func (f *finalizer) by(at time.Time, rec record.Record) record.By {
	return published.By(f.Run, at, rec.Last().Made().Reason)
}

// facts gathers all that a rotation's state follows from.
func (f *finalizer) facts(ctx context.Context, rec record.Record, mergedAt time.Time) (facts rotation.Facts, err error) {
	facts = rotation.Facts{
		Record: rec, Files: f.state.Files, Report: f.report, CheckpointGiven: f.terms.Checkpoint != nil,
		MergedAt: mergedAt, ReadAt: f.readAt, Verifiers: f.verifiers, Now: published.Clock(f.repo, f.Run),
	}
	if _, ok := audit.DatabaseOf(f.report); !ok {
		newest := rotation.Newest(f.report)
		facts.Until = &newest
	}
	if f.terms.Checkpoint == nil && f.inputs.CheckpointBranch != "" {
		facts.LostCheckpoint = "branch " + f.inputs.CheckpointBranch
	}
	facts.Trail, err = f.trail(ctx, rec, facts.Now)
	return facts, err
}

// propose verifies the chain once more with the files as they would be after
// the merge, and only then opens the pull request: one for the signer that the
// rotation archives, which is brought up to date when its boundary has moved. One
// that was closed means no to its boundary; another boundary asks again, by a pull
// request that is named after the closed one.
func (f *finalizer) propose(ctx context.Context, facts rotation.Facts, a *rotation.Assessment, ret *record.Retire) (p pullrequest.Proposal, err error) {
	change := f.inputs.Change(f.state, pullrequest.Change{
		Operation: "finalize", Key: f.state.Paths.Registry + "\n" + facts.Record.ID + "\n" + ret.Signer.ID,
	})
	for {
		was, found, err := f.repo.Find(ctx, change)
		if err != nil {
			return p, err
		}
		if !found || was.State != pullrequest.Closed {
			break
		}
		same, err := f.proposes(ctx, was, facts.Record.ID, ret.Boundary)
		if err != nil {
			return p, err
		}
		if same {
			break
		}
		change.Key += fmt.Sprintf("\nafter #%d", was.Number)
	}
	p, _, err = f.repo.Propose(ctx, change, func(change pullrequest.Change) (pullrequest.Change, error) {
		return f.archive(ctx, change, facts, a, *ret)
	})
	return p, err
}

// proposes tells whether a pull request is for this boundary.
func (f *finalizer) proposes(ctx context.Context, p pullrequest.Proposal, id string, boundary record.Mark) (bool, error) {
	path := f.state.Paths.Record(id)
	text, found, err := f.repo.ReadFile(ctx, p.Commit, path, jsondoc.MaxSize)
	if err != nil || !found {
		return false, err
	}
	rec, err := record.Parse(path, text)
	if err != nil {
		return false, nil
	}
	ret, is := rec.Last().(*record.Retire)
	return is && ret.Boundary == boundary, nil
}

// archive looks, decides and says what is proposed; without files nothing is.
func (f *finalizer) archive(ctx context.Context, change pullrequest.Change, facts rotation.Facts, a *rotation.Assessment, ret record.Retire) (pullrequest.Change, error) {
	id := facts.Record.ID
	was, err := f.state.Earlier(ctx, f.repo, &change, id, &ret, f.inputs.MaxEvidenceAge, func(was record.Move) bool {
		earlier := was.(*record.Retire)
		return earlier.Boundary == ret.Boundary && earlier.Cutover == ret.Cutover
	})
	if err != nil {
		return change, err
	}
	after, err := f.state.Files.Apply(id, &ret)
	if err != nil {
		return change, err
	}
	claimed, err := f.prove(ctx, after, a, ret.Signer.ID, was)
	if err != nil || a.Phase != rotation.Finalizable {
		return change, err
	}
	ret.Gates = a.Gates
	if claimed != nil { // what the branch claims is so, as this run has seen itself
		ret.Evidence.Events, ret.Evidence.Head, ret.Evidence.Checkpoint = claimed.Events, claimed.Head, claimed.Checkpoint
	}
	var files map[string][]byte
	if after, files, err = f.state.Apply(id, &ret, facts.Now, f.inputs.MaxEvidenceAge); err != nil {
		return change, err
	}
	if f.inputs.DryRun {
		f.Logf("dry run: would open the pull request that archives signer %s", ret.Signer.ID)
		return change, nil
	}
	change.Files = files
	change.Title = published.Title("Archive audit signer", ret.Signer.ID)
	change.Message = fmt.Sprintf("Archive audit signer %s\n\nRotation %s: its last event is at position %d.", ret.Signer.ID, id, ret.Boundary.Position)
	change.Body = report.Finalize(report.Proposal{
		Record: *after.Record(id), BaseCommit: f.state.Commit, RegistryBefore: f.state.Registry.SHA256(), RegistryAfter: after.Registry.SHA256(),
		RunURL: ret.RunURL,
	})
	return change, nil
}

// prove verifies the chain with the files as they would be after the merge. Where
// the chain was read elsewhere, what it would find follows from the report, if the
// signer's new bound is all that the files change.
//
// was is the move that the branch has. Its evidence is claimed if this run finds it
// true: the chain passes through the head and the checkpoint that it names, and the
// rest is what this run has found, too. So a pull request that waits for its review
// is left as it is, however long the chain grows.
func (f *finalizer) prove(ctx context.Context, after record.Files, a *rotation.Assessment, leaving string, was record.Move) (claimed *record.Evidence, err error) {
	signers := &registry.Files{Registry: after.Registry, Archive: after.Archive}
	if f.inputs.VerifyReportPath != "" {
		before := &registry.Files{Registry: f.state.Registry, Archive: f.state.Archive}
		if why := trust.Bounds(before, signers, leaving, registry.Boundary(a.Boundary)); why != "" {
			return nil, fmt.Errorf("what the report says of the files as they are does not hold for those after the merge: %s. Give database-url or events-path instead, so that finalize reads the chain itself", why)
		}
		if len(f.report.Tips) > 1 {
			return nil, fmt.Errorf("the chain of the report has branches, and it does not say which of them end with signer %s. Give database-url or events-path instead, so that finalize reads the chain itself", leaving)
		}
		a.Prove(f.report, true)
		return nil, nil
	}
	terms := f.terms
	terms.Registry, terms.Archive = after.Registry, after.Archive
	earlier, _ := was.(*record.Retire)
	if earlier != nil {
		terms.Looked = earlier.Evidence.Marks(a.Boundary.Position)
	}
	proof, _, err := audit.Verify(ctx, f.source, terms)
	if err != nil {
		return nil, err
	}
	if a.Prove(proof, false); proof.Verdict != chain.Verified {
		f.Findings(proof.Findings)
	}
	if len(terms.Looked) > 0 && len(proof.Passed) == len(terms.Looked) && (earlier.Evidence.Checkpoint == "") == (f.report.Checkpoint.From == "") {
		return &earlier.Evidence, nil
	}
	return nil, nil
}

// clocks is how far the clocks of AWS and of the database may be apart: an event
// is signed by the one's time, in whole seconds, and written by the other's.
const clocks = time.Minute

// trailKept is what CloudTrail's event history surely reaches back: it keeps 90
// days.
const trailKept = 89 * 24 * time.Hour

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// trail asks CloudTrail about both keys, as far as they are KMS keys: about the
// leaving signer's as its entry names it by now.
func (f *finalizer) trail(ctx context.Context, rec record.Record, now time.Time) (rotation.Trail, error) {
	is := rec.State()
	leaving, staying := f.state.Located(*is.Leaving), f.state.Located(*is.Staying)
	switch {
	case f.inputs.CloudTrail == "off":
		return rotation.Trail{Off: "switched off by cloudtrail: off"}, nil
	case leaving.KMSKeyARN == "" || staying.KMSKeyARN == "":
		return rotation.Trail{Problem: "one of the signers has no kmsKeyId, so CloudTrail cannot be asked; add it in a separate pull request, or set cloudtrail: off if one of the keys is kept elsewhere"}, nil
	}
	old, fresh := f.report.Use(leaving.ID), f.report.Use(staying.ID)
	if fresh.Events == 0 || old.LastPosition > fresh.LastPosition || fresh.FirstCreatedAt == nil {
		return rotation.Trail{Early: "asked once the new signer signs and the old one is quiet"}, nil
	}
	if doubt, err := f.doubt(ctx, leaving); doubt != "" || err != nil {
		return rotation.Trail{Problem: doubt}, err
	}
	client, err := cloudtrail.New(ctx, cloudtrail.Options{})
	if err != nil {
		return rotation.Trail{}, err
	}
	from := *fresh.FirstCreatedAt
	if old.LastCreatedAt != nil {
		from = latest(from, *old.LastCreatedAt)
	}
	from = latest(from.Add(clocks), now.Add(-trailKept))
	to := now.Add(-rotation.TrailDelay)
	if !to.After(from) {
		return rotation.Trail{Early: fmt.Sprintf("CloudTrail delivers up to %s late; ask again after %s", rotation.TrailDelay, from.Add(rotation.TrailDelay).UTC().Format(time.RFC3339))}, nil
	}
	oldUses, err := client.Uses(ctx, cloudtrail.Query{KeyARN: leaving.KMSKeyARN, From: from, To: to, Enough: 1})
	if err != nil {
		return rotation.Trail{Problem: err.Error()}, nil
	}
	newUses, err := client.Uses(ctx, cloudtrail.Query{KeyARN: staying.KMSKeyARN, From: latest(fresh.FirstCreatedAt.Add(-clocks), now.Add(-trailKept)), To: to, Enough: 1})
	if err != nil {
		return rotation.Trail{Problem: err.Error()}, nil
	}
	t := rotation.Trail{From: from, To: oldUses.To}
	for _, u := range oldUses.Uses {
		if u.Signed() {
			if t.OldUses++; t.OldUses == 1 { // the newest first
				t.LastOldEvent, t.LastOldUser = u.EventID, u.User
			}
		}
	}
	for _, u := range newUses.Uses {
		if u.Signed() {
			t.NewUses++
		}
	}
	return t, nil
}

// doubt says why the KMS key of the signer that leaves may be another one than the
// key that signed its events, "" if it is that key. Entry and record only name it:
// no signature covers an ARN, so a reviewed change may name a key that is quiet
// because nobody uses it. The other signer's needs no such look: any signature by
// it shows that CloudTrail tells of them.
//
// An HMAC key has no public half. KMS must know its secret where that is at hand;
// else KMS has verified the signer's events, with the key that the entry names.
func (f *finalizer) doubt(ctx context.Context, s record.Signer) (why string, err error) {
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return "", err
	}
	same := false
	if s.Algorithm != pubkey.HMACSHA256 {
		var key pubkey.Key
		key, err = client.PublicKey(ctx, s.KMSKeyARN)
		same = err == nil && key.Fingerprint() == s.Fingerprint
	} else if secret := f.secret(s); secret != nil {
		digest := sha256.Sum256([]byte("audit-signer: is the secret of signer " + s.ID + " the one of KMS key " + s.KMSKeyARN + "?"))
		mac := hmac.New(sha256.New, secret)
		mac.Write(digest[:])
		same, err = client.VerifyMAC(ctx, s.KMSKeyARN, digest, mac.Sum(nil))
	} else {
		// KMS's answers are not among those that are counted; nobody is asked about
		// rows without a signature, or without a digest.
		asked := f.report.Events - f.report.ByRule[chain.RuleUnsigned] - f.report.ByRule[chain.RuleMalformedEvent]
		if same = f.report.Signatures.Fast+f.report.Signatures.Library+f.macs() <= asked; !same {
			return fmt.Sprintf("events of signer %s were verified by a secret, and whether KMS key %s holds that is not known, so its silence proves nothing. Verify the chain by KMS, without hmac-secrets-path", s.ID, s.KMSKeyARN), nil
		}
	}
	switch {
	case err != nil:
		return fmt.Sprintf("whether KMS key %s is the key of signer %s is not known, so its silence proves nothing: %v", s.KMSKeyARN, s.ID, err), nil
	case !same:
		return fmt.Sprintf("KMS key %s is not the key of signer %s, so its silence proves nothing. Let the entry's kmsKeyId name the right one, in a pull request of its own", s.KMSKeyARN, s.ID), nil
	}
	return "", nil
}

// macs counts the events of all HMAC signers.
func (f *finalizer) macs() (events int64) {
	counted := map[string]bool{}
	for _, s := range registry.HMACSigners(f.state.Registry, f.state.Archive) {
		if !counted[s.ID] {
			counted[s.ID] = true
			events += f.report.Use(s.ID).Events
		}
	}
	return events
}

// secret is the HMAC secret by which a signer's events were verified, nil if KMS
// was asked.
func (f *finalizer) secret(s record.Signer) []byte {
	entry, _ := f.state.Registry.Find(s.ID)
	for _, id := range entry.IDs() {
		if secret, ok := f.terms.Secrets[id]; ok {
			return secret
		}
	}
	return nil
}

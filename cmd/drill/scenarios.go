package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// scenario is one rehearsal.
type scenario struct {
	name  string
	keys  keys
	parts []part
}

type part struct {
	name string
	play func(context.Context, *timeline, *world) error
}

var (
	rsaToEd25519 = keys{"RSA_2048", "ECC_NIST_EDWARDS25519", pubkey.RSASHA256, pubkey.Ed25519}
	hmacToHMAC   = keys{"HMAC_256", "HMAC_256", pubkey.HMACSHA256, pubkey.HMACSHA256}
)

// scenarios are what can be rehearsed: a rotation that goes well and is undone
// in the end, one of HMAC keys, one that is undone half-way, a stolen key, an
// old key that signs again, and a log whose end is gone.
var scenarios = []scenario{
	{"rotate", rsaToEd25519, []part{
		{"Before the rotation", before}, {"Publish the new signer", publish}, {"Cut over", cutOver},
		{"Overlap, then archive the old signer", archive}, {"Afterwards", afterwards}, {"Go back", goBack},
	}},
	{"hmac", hmacToHMAC, []part{
		{"Before the rotation", before}, {"Publish the new signer", publish}, {"Cut over", cutOver},
		{"Overlap, then archive the old signer", archive}, {"The old key stays, for history", hmacStays},
	}},
	{"rollback", rsaToEd25519, []part{
		{"Before the rotation", before}, {"Publish the new signer", publish}, {"Cut over", cutOver},
		{"Go back, half-way", goBackEarly}, {"Archive the signer that was left behind", leaveBehind},
	}},
	{"compromise", rsaToEd25519, []part{
		{"Before the theft", before}, {"A standby, ahead of need", standby}, {"The old key is stolen", theft},
	}},
	{"old-key-leak", rsaToEd25519, []part{
		{"Before the rotation", before}, {"Publish the new signer", publish}, {"Cut over", cutOver},
		{"Overlap, then archive the old signer", archive}, {"The old key signs again", leak},
	}},
	{"truncation", rsaToEd25519, []part{{"A history", before}, {"The end of the log is gone", truncation}}},
}

func names() []string {
	var list []string
	for _, s := range scenarios {
		list = append(list, s.name)
	}
	return list
}

// hmacStays shows that an archived HMAC signer's history still verifies, with
// its key, and that nothing here disables that key.
func hmacStays(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{"verify-chain: every event of both keys, asked of KMS", func() (string, error) {
			r, err := w.verify(ctx, 0, "after", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint()})
			if err == nil {
				err = w.keep("after")
			}
			return r.outputs["events"] + " events, " + r.outputs["verdict"], err
		}},
		step{"finalize refuses to disable the old HMAC key", func() (string, error) {
			inputs := w.finalizeInputs("keys")
			inputs["INPUT_CLOUDTRAIL"], inputs["INPUT_DISABLE_KMS_KEY"] = "required", "true"
			r, err := w.act(ctx, 0, "finalize", out, inputs)
			if err == nil {
				err = need(strings.Contains(r.log, "an HMAC key is never disabled"), r, "it was not refused")
			}
			return "", err
		}})
}

// goBackEarly undoes a rotation whose new signer has signed.
func goBackEarly(ctx context.Context, t *timeline, w *world) error {
	inputs := common(w.events.inputs())
	inputs["INPUT_ROTATION"], inputs["INPUT_REASON"] = w.add.rotation, "the new key misbehaves (drill)"
	return w.propose(ctx, t, "rollback: the old signer never left; the new one keeps verifying", "rollback", inputs, "never left the registry", "stays registered: it has signed")
}

// leaveBehind archives the new signer of the rotation that was undone.
func leaveBehind(ctx context.Context, t *timeline, w *world) error {
	if err := t.play(
		step{"the old signer signs again", func() (string, error) { return "50 events", w.sign(ctx, w.oldARN, 50) }},
		step{"finalize waits: the overlap is not over", func() (string, error) { return w.finalize(ctx, "rolled-back") }},
		wait(ctx, w, w.oldARN)); err != nil {
		return err
	}
	if err := w.propose(ctx, t, "finalize: the signer that was left behind, pull request", "finalize", w.finalizeInputs("left-behind")); err != nil {
		return err
	}
	return t.play(step{"verify-chain: every event of both", func() (string, error) {
		r, err := w.verify(ctx, 0, "after", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint()})
		if err == nil {
			err = w.keep("after")
		}
		return r.outputs["events"] + " events, " + r.outputs["verdict"] + ", signers " + r.outputs["signers"], err
	}})
}

// wait lets the overlap pass. The event that follows shows in an export, too,
// that it was made after that.
func wait(ctx context.Context, w *world, signing string) step {
	return step{"the overlap passes", func() (string, error) {
		select {
		case <-time.After(overlap + time.Second):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return overlap.String(), w.sign(ctx, signing, 1)
	}}
}

// propose runs an action that opens a pull request, has the gate judge it and a
// reviewer merge it.
func (w *world) propose(ctx context.Context, t *timeline, name, action string, inputs map[string]string, says ...string) error {
	var p pull
	return t.play(
		step{name, func() (string, error) {
			r, err := w.act(ctx, 0, action, out, inputs)
			p = pull{number: r.outputs["pull-request-number"], rotation: w.add.rotation}
			p.branch = w.branchOf(p.number)
			for _, text := range says {
				if err == nil {
					err = need(strings.Contains(r.outputs["verdict"], text), r, "the verdict %q does not say %q", r.outputs["verdict"], text)
				}
			}
			return "#" + p.number + " " + r.outputs["verdict"], err
		}},
		step{"validate-registry gates the pull request", func() (string, error) { return w.gate(ctx, p) }},
		step{"a reviewer merges it", func() (string, error) { return "#" + p.number, w.merge(p) }})
}

// standby publishes the next signer before anybody needs it.
func standby(ctx context.Context, t *timeline, w *world) error {
	inputs := common(map[string]string{
		"INPUT_KEY_SPEC": w.keys.spec, "INPUT_SIGNER_ID": newSigner, "INPUT_REPLACES": "none", "INPUT_REASON": "ready when it is needed (drill)",
	})
	var p pull
	return t.play(
		step{"add-signer with replaces: none", func() (string, error) {
			r, err := w.act(ctx, 0, "add-signer", out, inputs)
			p = pull{r.outputs["pull-request-number"], r.outputs["branch"], r.outputs["rotation-id"]}
			w.newARN = r.outputs["kms-key-arn"]
			return "#" + p.number + ", " + w.newARN, err
		}},
		step{"validate-registry gates the pull request", func() (string, error) { return w.gate(ctx, p) }},
		step{"a reviewer merges it", func() (string, error) { return "#" + p.number, w.merge(p) }},
		step{"verify-chain: the checkpoint, before anything happens", func() (string, error) {
			r, err := w.verify(ctx, 0, "checkpoint", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint(), "INPUT_NEXT_CHECKPOINT_PATH": checkpoint()})
			return r.outputs["events"] + " events", err
		}})
}

// theft takes the stolen key out at once.
func theft(ctx context.Context, t *timeline, w *world) error {
	if err := t.play(step{"the thief signs three events", func() (string, error) { return "", w.sign(ctx, w.oldARN, 3) }}); err != nil {
		return err
	}
	inputs := common(w.events.inputs())
	inputs["INPUT_MODE"], inputs["INPUT_SIGNER_ID"], inputs["INPUT_CHECKPOINT_PATH"], inputs["INPUT_REASON"] = "compromise", oldSigner, checkpoint(), "the key was found in a log (drill)"
	if err := w.propose(ctx, t, "rollback, mode compromise: trusted until the checkpoint", "rollback", inputs, "is compromised", newSigner+" takes over"); err != nil {
		return err
	}
	return t.play(
		step{"finalize disables the stolen key, without waiting", func() (string, error) {
			inputs := w.finalizeInputs("keys")
			inputs["INPUT_CLOUDTRAIL"], inputs["INPUT_DISABLE_KMS_KEY"] = "required", "true"
			r, err := w.act(ctx, 0, "finalize", out, inputs)
			if err == nil {
				err = need(strings.Contains(r.log, "is disabled now"), r, "the key was not disabled")
			}
			return "", err
		}},
		step{"the standby signs", func() (string, error) { return "20 events", w.sign(ctx, w.newARN, 20) }},
		step{"verify-chain: an alarm that names the thief's three events", func() (string, error) {
			r, err := w.verify(ctx, 1, "alarm", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint()})
			if err == nil {
				err = errors.Join(need(strings.Count(r.log, "title=retired-signer-used") == 3, r, "not three retired-signer-used"), w.keep("alarm"))
			}
			return r.outputs["verdict"] + ", 3 retired-signer-used", err
		}},
		step{"guard-deploy refuses the stolen signer", func() (string, error) {
			_, err := w.act(ctx, 1, "guard-deploy", out, common(map[string]string{"INPUT_SIGNER_ID": oldSigner, "INPUT_KMS_KEY_ID": w.oldARN}))
			return "", err
		}})
}

// leak lets the archived key sign in the real log.
func leak(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{"the new signer goes on", func() (string, error) { return "100 events", w.sign(ctx, w.newARN, 100) }},
		step{"the old key signs one event", func() (string, error) { return "", w.sign(ctx, w.oldARN, 1) }},
		step{"the new signer goes on", func() (string, error) { return "100 events", w.sign(ctx, w.newARN, 100) }},
		step{"verify-chain: an alarm that names the one event", func() (string, error) {
			r, err := w.verify(ctx, 1, "after", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint()})
			if err == nil {
				err = need(strings.Count(r.log, "title=retired-signer-used") == 1, r, "not one retired-signer-used")
			}
			if err == nil {
				err = w.keep("after")
			}
			return r.outputs["verdict"] + ", retired-signer-used", err
		}},
		step{"finalize will not disable a key that still signs", func() (string, error) {
			inputs := w.finalizeInputs("keys")
			inputs["INPUT_CLOUDTRAIL"], inputs["INPUT_DISABLE_KMS_KEY"] = "required", "true"
			_, err := w.act(ctx, 1, "finalize", out, inputs)
			return "", err
		}})
}

// truncation removes the newest events, in a copy.
func truncation(ctx context.Context, t *timeline, w *world) error {
	inputs, err := w.events.cut(ctx, 7)
	if err != nil {
		return err
	}
	return t.play(
		step{"verify-chain without the checkpoint: nothing is noticed, and it says so", func() (string, error) {
			r, err := w.verify(ctx, 0, "unnoticed", inputs)
			return r.outputs["events"] + " events, " + r.outputs["verdict"], err
		}},
		step{"verify-chain with the checkpoint: the last 7 events are gone", func() (string, error) {
			inputs["INPUT_CHECKPOINT_PATH"] = checkpoint()
			r, err := w.verify(ctx, 1, "truncated", inputs)
			if err == nil {
				err = errors.Join(need(strings.Contains(r.log, "title=truncated"), r, "not truncated"), w.keep("truncated"))
			}
			return r.outputs["verdict"] + ", truncated", err
		}})
}

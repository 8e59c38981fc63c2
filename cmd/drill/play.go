package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// verify runs verify-chain on a fresh checkout of the default branch, from the
// last checkpoint on, and writes the next one.
func (w *world) verify(ctx context.Context, want int, name string, more map[string]string) (result, error) {
	dir, err := w.checkout(ctx, "main", "")
	if err != nil {
		return result{}, err
	}
	inputs := w.events.inputs()
	inputs["INPUT_REGISTRY_PATH"] = registryF
	inputs["INPUT_REPORT_PATH"] = abs(filepath.Join(out, "report-"+name+".json"))
	inputs["INPUT_HTML_PATH"] = abs(filepath.Join(out, "evidence-"+name+".html"))
	for k, v := range more {
		inputs[k] = v
	}
	return w.act(ctx, want, "verify-chain", dir, inputs)
}

func checkpoint() string { return abs(filepath.Join(out, "checkpoint.json")) }

// need turns a wrong outcome into an error.
func need(ok bool, r result, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format+":\n%s", append(args, r.log)...)
}

func before(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{fmt.Sprintf("%d events by the old signer", history), func() (string, error) {
			return "signed by KMS", w.sign(ctx, w.oldARN, history)
		}},
		step{"verify-chain: the history is sound", func() (string, error) {
			r, err := w.verify(ctx, 0, "before", map[string]string{"INPUT_NEXT_CHECKPOINT_PATH": checkpoint()})
			return r.outputs["events"] + " events, " + r.outputs["verdict"], err
		}})
}

func publish(ctx context.Context, t *timeline, w *world) error {
	add := common(map[string]string{
		"INPUT_KEY_SPEC": w.keys.spec, "INPUT_SIGNER_ID": newSigner, "INPUT_REASON": "yearly rotation (drill)",
		"INPUT_OVERLAP": overlap.String(), "INPUT_PROPAGATION": "0s", "INPUT_DRAIN": "0s", "INPUT_ALLOW_SHORT_OVERLAP": "true",
		"INPUT_REVIEWERS": "security-lead", "INPUT_LABELS": "key-rotation", "INPUT_CONTACTS": "on-call",
	})
	if err := t.play(step{"add-signer: new " + w.keys.spec + " key in KMS, pull request", func() (string, error) {
		r, err := w.act(ctx, 0, "add-signer", out, add)
		w.add = pull{r.outputs["pull-request-number"], r.outputs["branch"], r.outputs["rotation-id"]}
		w.newARN = r.outputs["kms-key-arn"]
		return "#" + w.add.number + ", " + w.newARN, err
	}}); err != nil {
		return err
	}
	guard := common(map[string]string{"INPUT_SIGNER_ID": newSigner, "INPUT_KMS_KEY_ID": w.newARN})
	return t.play(
		step{"add-signer again: nothing new, nothing written", func() (string, error) {
			writes, keys := w.github.Writes(), len(w.kms.Keys())
			r, err := w.act(ctx, 0, "add-signer", out, add)
			if err == nil {
				err = need(w.github.Writes() == writes && len(w.kms.Keys()) == keys && r.outputs["pull-request-number"] == w.add.number, r, "the second run wrote something")
			}
			return "", err
		}},
		step{"guard-deploy refuses: not published yet", func() (string, error) {
			r, err := w.act(ctx, 1, "guard-deploy", out, guard)
			return r.outputs["verdict"], err
		}},
		step{"validate-registry gates the pull request", func() (string, error) { return w.gate(ctx, w.add) }},
		step{"a reviewer merges it", func() (string, error) { return "#" + w.add.number, w.merge(w.add) }},
		step{"guard-deploy opens: key and signer belong together", func() (string, error) {
			r, err := w.act(ctx, 0, "guard-deploy", out, guard)
			return r.outputs["deploy-env"], err
		}},
		step{"guard-deploy refuses the old key under the new signer", func() (string, error) {
			_, err := w.act(ctx, 1, "guard-deploy", out, common(map[string]string{"INPUT_SIGNER_ID": newSigner, "INPUT_KMS_KEY_ID": w.oldARN}))
			return "", err
		}})
}

func cutOver(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{"a rolling deployment: both signers at work", func() (string, error) {
			for range 5 {
				if err := errors.Join(w.sign(ctx, w.newARN, 4), w.sign(ctx, w.oldARN, 4)); err != nil {
					return "", err
				}
			}
			return "20 events each", nil
		}},
		step{"finalize waits: the old signer signed last", func() (string, error) { return w.finalize(ctx, "draining") }},
		step{"the old signer falls silent", func() (string, error) {
			return "200 events by the new one", w.sign(ctx, w.newARN, 200)
		}},
		step{"verify-chain: smoke test of the new signer", func() (string, error) {
			r, err := w.verify(ctx, 0, "smoke", map[string]string{
				"INPUT_EXPECT_SIGNER": newSigner, "INPUT_WAIT_FOR": "10s", "INPUT_CHECKPOINT_PATH": checkpoint(), "INPUT_NEXT_CHECKPOINT_PATH": checkpoint(),
			})
			return r.outputs["events"] + " events, " + r.outputs["verdict"], err
		}})
}

// finalize runs finalize and wants it to wait in this phase.
func (w *world) finalize(ctx context.Context, phase string) (string, error) {
	r, err := w.act(ctx, 0, "finalize", out, w.finalizeInputs(phase))
	if err == nil {
		err = need(r.outputs["phase"] == phase && r.outputs["pull-request-number"] == "", r, "the phase is %q, not %q without a pull request", r.outputs["phase"], phase)
	}
	return r.outputs["phase"], err
}

func (w *world) finalizeInputs(phase string) map[string]string {
	inputs := common(w.events.inputs())
	inputs["INPUT_CHECKPOINT_PATH"] = checkpoint()
	inputs["INPUT_HTML_PATH"] = abs(filepath.Join(out, "evidence-finalize-"+phase+".html"))
	inputs["INPUT_CLOUDTRAIL"] = "off" // it delivers up to 20 minutes late, a rehearsal takes seconds
	return inputs
}

func archive(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{"finalize waits: the overlap is not over", func() (string, error) { return w.finalize(ctx, "retired") }},
		wait(ctx, w, w.newARN),
		step{"finalize: every gate is passed, pull request", func() (string, error) {
			r, err := w.act(ctx, 0, "finalize", out, w.finalizeInputs("finalizable"))
			if err == nil {
				w.fin = pull{number: r.outputs["pull-request-number"], rotation: r.outputs["rotation-id"]}
				err = need(r.outputs["phase"] == "finalizable" && w.fin.number != "", r, "no pull request")
			}
			return "#" + w.fin.number, err
		}},
		step{"finalize again: nothing new, nothing written", func() (string, error) {
			writes := w.github.Writes()
			r, err := w.act(ctx, 0, "finalize", out, w.finalizeInputs("finalizable"))
			if err == nil {
				err = need(w.github.Writes() == writes, r, "the second run wrote %d time(s)", w.github.Writes()-writes)
			}
			return "", err
		}},
		step{"validate-registry gates the pull request", func() (string, error) {
			w.fin.branch = w.branchOf(w.fin.number)
			return w.gate(ctx, w.fin)
		}},
		step{"a reviewer merges it", func() (string, error) { return "#" + w.fin.number, w.merge(w.fin) }})
}

func afterwards(ctx context.Context, t *timeline, w *world) error {
	return t.play(
		step{"the new signer goes on", func() (string, error) { return "100 events", w.sign(ctx, w.newARN, 100) }},
		step{"verify-chain: every event, old and new", func() (string, error) {
			r, err := w.verify(ctx, 0, "after", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint(), "INPUT_NEXT_CHECKPOINT_PATH": checkpoint()})
			if err == nil {
				err = w.keep("after")
			}
			return r.outputs["events"] + " events, " + r.outputs["verdict"] + ", signers " + r.outputs["signers"], err
		}},
		step{"verify-record: the evidence holds, offline", func() (string, error) {
			dir := filepath.Join(out, "checkouts", "main", "kernel", "tools")
			text, err := exec.CommandContext(ctx, filepath.Join(w.bin, "verify-record"), "-registry-path="+filepath.Join(dir, "signers.json"),
				"-report-path="+filepath.Join(out, "report-after.json"), filepath.Join(dir, "rotations", w.add.rotation+".json")).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w:\n%s", err, text)
			}
			return strings.TrimSpace(string(text)), err
		}},
		step{"the old key signs once more, in a copy: an alarm", func() (string, error) {
			inputs, err := w.events.forge(ctx, w.oldARN, func(ctx context.Context, digest [32]byte) ([]byte, error) {
				return w.client.Sign(ctx, w.oldARN, w.keys.old, digest)
			})
			if err != nil {
				return "", err
			}
			r, err := w.verify(ctx, 1, "alarm", inputs)
			if err == nil {
				err = need(strings.Contains(r.log, "retired-signer-used"), r, "no retired-signer-used")
			}
			return r.outputs["verdict"] + ", retired-signer-used", err
		}},
		step{"finalize: nothing left to do", func() (string, error) { return w.finalize(ctx, "none") }},
		step{"guard-deploy refuses the retired signer", func() (string, error) {
			_, err := w.act(ctx, 1, "guard-deploy", out, common(map[string]string{"INPUT_SIGNER_ID": oldSigner, "INPUT_KMS_KEY_ID": w.oldARN}))
			return "", err
		}})
}

// goBack undoes the rotation after everything is done: the hardest moment.
func goBack(ctx context.Context, t *timeline, w *world) error {
	was, _ := w.github.File("main", registryF)
	var p pull
	undo := common(map[string]string{"INPUT_ROTATION": w.add.rotation, "INPUT_REASON": "the new key misbehaves (drill)"})
	return t.play(
		step{"rollback: pull request that brings the old signer back", func() (string, error) {
			r, err := w.act(ctx, 0, "rollback", out, undo)
			p = pull{number: r.outputs["pull-request-number"], rotation: w.add.rotation}
			p.branch = w.branchOf(p.number)
			return "#" + p.number + ", " + r.outputs["verdict"], err
		}},
		step{"validate-registry gates the pull request", func() (string, error) { return w.gate(ctx, p) }},
		step{"a reviewer merges it", func() (string, error) { return "#" + p.number, w.merge(p) }},
		step{"the registry holds the old entry byte for byte", func() (string, error) {
			is, _ := w.github.File("main", registryF)
			entry := w.oldEntry
			if strings.Contains(was, entry) || !strings.Contains(is, entry) {
				return "", fmt.Errorf("the entry did not come back as it was:\n%s", is)
			}
			return "", nil
		}},
		step{"the old signer signs again", func() (string, error) { return "50 events", w.sign(ctx, w.oldARN, 50) }},
		step{"verify-chain: every event of both", func() (string, error) {
			r, err := w.verify(ctx, 0, "rolled-back", map[string]string{"INPUT_CHECKPOINT_PATH": checkpoint()})
			return r.outputs["events"] + " events, " + r.outputs["verdict"], err
		}})
}

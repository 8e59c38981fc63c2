package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

const (
	oldSigner = "audit-prod-2025-01-10"
	newSigner = "audit-prod-2025-11-09"
	registryF = "kernel/tools/signers.json"
	token     = "drill-token-not-a-secret"
)

// world is everything that the actions talk to.
type world struct {
	keys   keys
	bin    string // folder of the built actions
	github *githubtest.Server
	kms    *kmstest.Server
	client *awskms.Client
	events ledger
	oldARN string
	newARN string
	// oldEntry is the text of the old signer's entry.
	oldEntry string
	add      pull // the add-signer pull request
	fin      pull // the finalize pull request
	runs     int
	evidence report.Evidence // for the page at the end
}

type pull struct {
	number   string
	branch   string
	rotation string
}

func (w *world) close() {
	if w.events != nil {
		w.events.close()
	}
	if w.github != nil {
		w.github.Close()
	}
	if w.kms != nil {
		w.kms.Close()
	}
}

// build sets the stage.
func build(ctx context.Context, t *timeline, asFile bool, keys keys) (*world, error) {
	w := &world{keys: keys}
	var material any
	err := t.play(
		step{"build the six actions", func() (string, error) {
			bin, err := filepath.Abs(filepath.Join(out, "bin"))
			if err != nil {
				return "", err
			}
			w.bin = bin
			cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "./actions/...", "./cmd/verify-record")
			if text, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("%w: %s", err, text)
			}
			t.start = time.Now() // the rehearsal is timed from here
			return "", nil
		}},
		step{"start KMS with the old " + keys.oldSpec + " key", func() (detail string, err error) {
			if material, err = kmstest.Generate(keys.oldSpec); err != nil {
				return "", err
			}
			w.kms = kmstest.New(kmstest.Options{})
			w.oldARN = w.kms.Import(kmstest.Key{Material: material, Aliases: []string{"alias/audit-prod"}})
			for name, value := range w.kms.Env() {
				os.Setenv(name, value)
			}
			w.client, err = awskms.New(ctx, awskms.Options{})
			return w.oldARN, err
		}})
	if err != nil {
		return w, err
	}
	return w, t.play(
		step{"start GitHub with the consumer repository", func() (string, error) {
			text, err := consumerRegistry(material, w.oldARN)
			if err != nil {
				return "", err
			}
			w.oldEntry = text[strings.Index(text, "    {") : strings.LastIndex(text, "    }")+len("    }")]
			dir, err := filepath.Abs(filepath.Join(out, "repository.git"))
			if err != nil {
				return "", err
			}
			w.github, err = githubtest.New(githubtest.Options{Token: token, Dir: dir, Files: map[string]string{
				registryF:   text,
				"README.md": "# kernel\n\nA consumer of audit-signer-rotation, made by the drill.\n",
			}})
			return "acme/kernel", err
		}},
		step{"start the audit log", func() (detail string, err error) {
			w.events, detail, err = openLedger(ctx, asFile)
			return detail, err
		}})
}

// consumerRegistry is the registry as the runbook knows it: one signer, with the
// KMS key id that Agent Manager writes as an alias.
func consumerRegistry(material any, arn string) (string, error) {
	algorithm, public := pubkey.HMACSHA256, ""
	if key, ok := material.(*rsa.PrivateKey); ok {
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return "", err
		}
		if _, err := pubkey.ParseSPKI(der); err != nil {
			return "", err
		}
		algorithm = pubkey.RSASHA256
		public = fmt.Sprintf("\n      \"publicKey\": %s,", jsondoc.Quote(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))))
	}
	return fmt.Sprintf(`{
  "signers": [
    {
      "signerId": %q,
      "algorithm": %q,%s
      "aliases": [%q],
      "deployedAt": "2025-01-10T00:00:00Z",
      "kmsKeyId": %q
    }
  ]
}
`, oldSigner, algorithm, public, arn, arn), nil
}

// keys are what a scenario rotates from and to.
type keys struct {
	oldSpec, spec string
	old, new      pubkey.Algorithm
}

// sign writes events as Agent Manager does: signed by KMS, and with the
// configured key id as signer_kid.
func (w *world) sign(ctx context.Context, arn string, n int) error {
	alg := w.keys.new
	if arn == w.oldARN {
		alg = w.keys.old
	}
	return w.events.append(ctx, arn, n, func(ctx context.Context, digest [32]byte) ([]byte, error) {
		return w.client.Sign(ctx, arn, alg, digest)
	})
}

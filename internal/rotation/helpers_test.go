package rotation

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// entryOf writes an Ed25519 entry whose key is made from one byte.
func entryOf(id string, seed byte) string {
	public := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))).Public().(ed25519.PublicKey)
	return fmt.Sprintf(`{"signerId":%q,"algorithm":"ed25519","publicKey":%q,"kmsKeyId":"arn:%s"}`, id, base64Std(public), id)
}

func files(t *testing.T, reg, arch string, records ...record.Record) record.Files {
	t.Helper()
	var archive []byte
	if arch != "" {
		archive = []byte(arch)
	}
	f, err := registry.Load("signers.json", []byte(reg), "signers.archive.json", archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Findings) > 0 {
		t.Fatal(f.Findings)
	}
	return record.Files{Registry: f.Registry, Archive: f.Archive, Records: records, Dir: "rotations"}
}

func archived(entry, state string) string {
	return `{"version":1,"retired":[{"entry":` + entry + `,"retiredAt":"2026-01-01T00:00:00Z","reason":"r","rotation":"x","state":"` + state +
		`","boundary":{"position":3,"digest":"` + strings.Repeat("ab", 32) + `"}}]}`
}

func base64Std(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// by is somebody at a time.
func by(at time.Time) record.By { return record.By{At: at, Actor: "a", Reason: "r"} }

// opened is the record of a rotation: signer new replaces signer old.
func opened() record.Record {
	return record.Record{ID: "rotate-new-1", Moves: []record.Move{&record.Open{
		By: by(start), Signer: record.Signer{ID: "new", Algorithm: "ed25519"}, Replaces: &record.Signer{ID: "old", Algorithm: "ed25519"},
		Policy: record.Policy{Overlap: record.Duration(48 * time.Hour)},
	}}}
}

// plan sets the timing of a record that was opened.
func plan(r *record.Record, set func(p *record.Policy)) {
	open := *r.Moves[0].(*record.Open)
	set(&open.Policy)
	r.Moves = append([]record.Move{&open}, r.Moves[1:]...)
}

// then is the record with one move more.
func then(r record.Record, m record.Move) record.Record {
	return record.Record{ID: r.ID, Moves: append(append([]record.Move{}, r.Moves...), m)}
}

// wentBack is the record after a rollback.
func wentBack(r record.Record, at time.Time) record.Record {
	return then(r, &record.RollBack{By: by(at), Signer: *r.State().Outgoing})
}

// use is one signer's part of the chain; its last event happened at.
func use(entry string, events, first, last int64, at time.Time) chain.SignerUse {
	return chain.SignerUse{Events: events, FirstPosition: first, LastPosition: last, FirstCreatedAt: &at, LastCreatedAt: &at, Entry: entry, State: "active"}
}

package schemas_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/schemas"
)

var (
	hex64 = strings.Repeat("ab", 32)
	at    = `"2026-03-01T12:00:00Z"`
)

// moves has one move of each kind, with every member that it may have. A schema
// knows no order of moves; package record does.
var moves = []string{
	`{"move": "open", ` + made + `, "signer": ` + signer + `, "replaces": ` + signer + `, "policy": ` + policy + `,
		"possession": {"challenge": "c", "digest": "d", "signature": "s"}}`,
	`{"move": "promote", ` + made + `, "signer": ` + signer + `, "replaces": ` + signer + `, "policy": {"overlap": "48h0m0s"}}`,
	`{"move": "retire", ` + made + `, "signer": ` + signer + `, "boundary": ` + mark + `, "cutover": {"position": 3},
		` + gates + `, "publishedIn": 7,
		"evidence": {"events": 3, "head": "` + hex64 + `", "registrySha256": "` + hex64 + `", "archiveSha256": "` + hex64 + `",
			"checkpoint": "2:` + hex64 + `", "reportSha256": "` + hex64 + `"}}`,
	`{"move": "withdraw", ` + made + `, "signer": ` + signer + `}`,
	`{"move": "roll back", ` + made + `, "signer": ` + signer + `,
		"window": {"events": 2, "firstPosition": 3, "lastPosition": 4}}`,
	`{"move": "compromise", ` + made + `, "signer": ` + signer + `, "boundary": ` + mark + `}`,
}

// What several moves have.
var (
	run    = `"https://github.com/a/b/actions/runs/1"`
	made   = `"at": ` + at + `, "actor": "a", "reason": "r", "runUrl": ` + run
	signer = `{"id": "v2", "algorithm": "ed25519", "fingerprint": "` + hex64 + `", "kmsKeyArn": "arn:aws:kms:eu-west-1:1:key/2"}`
	policy = `{"overlap": "48h0m0s", "propagation": "5m0s", "drain": "1h0m0s", "shortOverlapAllowed": true}`
	gates  = `"gates": [{"id": "G1", "name": "n", "state": "passed", "detail": "d"}]`
	mark   = `{"position": 2, "digest": "` + hex64 + `"}`
)

// recordOf is a rotation record with these moves.
func recordOf(moves ...string) string {
	return `{"version": 1, "id": "rotate-v2-0a1b2c3d", "moves": [` + strings.Join(moves, ", ") + `]}`
}

// good has one full document for each schema; the stories hold what the actions
// really write against them.
var good = map[schemas.Name]string{
	schemas.Signers: `{"version": 1, "x-owner": {"team": "security"}, "signers": [
		{"signerId": "v1", "algorithm": "RSA-SHA256", "publicKey": "PEM", "deployedAt": ` + at + `, "description": "d", "kmsKeyId": "arn:aws:kms:eu-west-1:1:key/2", "rotation": "r", "aliases": ["arn:aws:kms:eu-west-1:1:key/2"], "x-note": [1]},
		{"signer_kid": "v2", "alg": "ed25519", "public_key_pem": "PEM"}]}`,
	schemas.Archive:    `{"version": 1, "retired": [{"id": "v1", "entry": {"algorithm": "ed25519", "publicKey": "PEM"}, "retiredAt": ` + at + `, "reason": "r", "rotation": "x", "state": "retired", "boundary": {"position": 0, "digest": "` + hex64 + `"}}]}`,
	schemas.Rotation:   recordOf(moves...),
	schemas.Checkpoint: `{"version": 1, "count": 3, "head": "` + hex64 + `", "chain": {"systemIdentifier": "7", "table": "t"}, "signers": {"v1": {"events": 3, "lastPosition": 3}}, "registrySha256": "` + hex64 + `", "createdAt": ` + at + `}`,
	schemas.Exceptions: `{"version": 1, "exceptions": [{"rule": "fork", "eventId": "e", "digest": "` + hex64 + `", "reason": "r", "approvedBy": "a", "approvedAt": ` + at + `}]}`,
	schemas.Shard: `{"version": 1, "shard": "1/2 files plan 0123456789abcdef", "terms": "` + hex64 + `", "events": 3, "segments": [{"genesis": true, "prev": "` + hex64 + `", "first": "` + hex64 + `", "last": "` + hex64 + `",
		"events": 3, "firstId": "e1", "clock": {"first": 0, "last": 0}, "signers": [{"signer": "v1", "events": 3, "first": 1, "last": 3, "lastDigest": "` + hex64 + `"}],
		"waiting": [{"at": 2, "until": 7, "signer": "v1"}]}], "findings": [], "findingsTotal": 0}`,
	schemas.Report: `{"version": 1, "verdict": "failed", "truncationExcluded": false, "events": 3, "head": "` + hex64 + `", "signers": {"v1": {"events": 3, "firstPosition": 1, "lastPosition": 3, "state": "active"}},
		"findings": [{"rule": "fork", "severity": "error", "position": 2, "message": "m"}], "findingsTotal": 1, "unauthenticatedColumns": ["id"]}`,
	schemas.Findings: `{"version": 1, "verdict": "passed", "signers": 1, "findings": [{"rule": "fork", "severity": "note", "file": "f", "line": 1, "col": 1, "message": "m"}]}`,
	schemas.Gates:    `{"version": 1, "rotations": [{"rotation": "r", "phase": "published", "dueAt": ` + at + `, "gates": [{"id": "G1", "name": "n", "state": "waiting", "detail": "d"}], "boundary": {"position": 2, "digest": "` + hex64 + `"}}]}`,
	schemas.Step: `{"version": 1, "action": "guard-deploy", "dryRun": false, "verdict": "open", "next": "n", "rotation": "r", "signer": "v2", "settings": {"AUDIT_SIGNER_KID": "v2"}, "pullRequest": "u", "baseCommit": "` + hex64[:40] + `", "registrySha256": "` + hex64 + `", "archiveSha256": "",
		"findings": [{"rule": "not-ready", "severity": "error", "message": "m"}]}`,
	schemas.SARIF: `{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [{"tool": {"driver": {"name": "n", "informationUri": "https://example.org", "rules": [{"id": "fork", "shortDescription": {"text": "s"},
		"fullDescription": {"text": "f"}, "help": {"text": "h", "markdown": "m"}, "helpUri": "https://example.org/#fork", "defaultConfiguration": {"level": "error"}, "properties": {"tags": ["security"], "precision": "very-high", "security-severity": "8.0"}}]}},
		"columnKind": "unicodeCodePoints", "results": [{"ruleId": "fork", "ruleIndex": 0, "level": "error", "message": {"text": "t"}, "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a/b%20c.json"}, "region": {"startLine": 1, "startColumn": 2}}}],
		"partialFingerprints": {"primaryLocationLineHash": "0123456789abcdef:1"}}]}]}`,
}

func violations(t *testing.T, name schemas.Name, document string) []schemas.Violation {
	t.Helper()
	if !json.Valid([]byte(document)) {
		t.Fatalf("the document is no JSON: %s", document)
	}
	v, err := schemas.Violations(name, []byte(document))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func TestGoodDocuments(t *testing.T) {
	for name, document := range good {
		if v := violations(t, name, document); len(v) > 0 {
			t.Errorf("%s refuses a good document: %v", name, v)
		}
	}
	for _, document := range []string{`[{"id": "v1", "algorithm": "hmac-sha256", "kmsKeyId": "k"}]`, `{"v1": {"algorithm": "ed25519", "key": "PEM"}}`} {
		if v := violations(t, schemas.Signers, document); len(v) > 0 {
			t.Errorf("signers refuses %s: %v", document, v)
		}
	}
}

// Each broken twin differs from a good document in one place, and the violation
// names that place.
func TestBrokenTwins(t *testing.T) {
	for _, tc := range []struct {
		name     schemas.Name
		old, new string
		at       string
	}{
		{schemas.Signers, `"signerId": "v1"`, `"signerId": "a b"`, "/signers/0/signerId"},
		{schemas.Signers, `"signerId": "v1", `, ``, "/signers/0"},
		{schemas.Signers, `"RSA-SHA256"`, `"rsa-pss"`, "/signers/0/algorithm"},
		{schemas.Signers, `"publicKey": "PEM"`, `"publicKey": ""`, "/signers/0/publicKey"},
		{schemas.Signers, `"publicKey"`, `"publickey"`, "/signers/0"},
		{schemas.Signers, `"aliases": [`, `"aliases": [7, `, "/signers/0/aliases/0"},
		{schemas.Signers, `"version": 1`, `"v3": {}`, "/"},
		{schemas.Archive, `"version": 1`, `"version": 2`, "/version"},
		{schemas.Archive, `"position": 0`, `"position": -1`, "/retired/0/boundary/position"},
		{schemas.Archive, hex64, hex64[1:], "/retired/0/boundary/digest"},
		{schemas.Archive, `"state": "retired"`, `"state": "active"`, "/retired/0/state"},
		{schemas.Archive, `"reason": "r", `, ``, "/retired/0"},
		{schemas.Archive, `"entry": {`, `"entry": {"secret": "x", `, "/retired/0/entry"},
		{schemas.Rotation, `"id": "rotate-v2-0a1b2c3d"`, `"id": "../x"`, "/id"},
		{schemas.Rotation, `"id": "rotate-v2-0a1b2c3d"`, `"id": "v2-0a1b2c3d"`, "/id"},
		{schemas.Rotation, `"overlap": "48h0m0s"`, `"overlap": 48`, "/moves/0/policy/overlap"},
		{schemas.Rotation, `"ed25519"`, `"Ed25519"`, "/moves/0/signer/algorithm"},
		{schemas.Rotation, `"challenge": "c", `, ``, "/moves/0/possession"},
		{schemas.Rotation, `"challenge": "c"`, `"challenge": "c", "Challenge": "d"`, "/moves/0/possession"},
		{schemas.Rotation, `"state": "passed"`, `"state": "ok"`, "/moves/2/gates/0/state"},
		{schemas.Rotation, `"move": "roll back"`, `"move": "rollback"`, "/moves/4/move"},
		{schemas.Rotation, `"reason": "r", `, ``, "/moves/0"},
		{schemas.Checkpoint, `"count": 3`, `"count": 0`, "/count"},
		{schemas.Checkpoint, hex64, strings.ToUpper(hex64), "/head"},
		{schemas.Checkpoint, `"events": 3`, `"events": -3`, "/signers/v1/events"},
		{schemas.Exceptions, `"fork"`, `"truncated"`, "/exceptions/0/rule"},
		{schemas.Exceptions, `"approvedBy": "a"`, `"approvedBy": ""`, "/exceptions/0/approvedBy"},
		{schemas.Exceptions, `"reason": "r", `, ``, "/exceptions/0"},
		{schemas.Exceptions, `"version": 1, `, ``, "/"},
		{schemas.Shard, `"events": 3, "segments"`, `"events": -1, "segments"`, "/events"},
		{schemas.Shard, `"until": 7, "signer": "v1"`, `"signer": "v1"`, "/segments/0/waiting/0"},
		{schemas.Shard, `"firstId": "e1", `, ``, "/segments/0"},
		{schemas.Report, `"verdict": "failed"`, `"verdict": "ok"`, "/verdict"},
		{schemas.Report, `"truncationExcluded": false, `, ``, "/"},
		{schemas.Report, `"state": "active"`, `"state": "trusted"`, "/signers/v1/state"},
		{schemas.Report, `"rule": "fork"`, `"rule": "Fork!"`, "/findings/0/rule"},
		{schemas.Report, `"position": 2`, `"position": 0`, "/findings/0/position"},
		{schemas.Findings, `"severity": "note"`, `"severity": "fatal"`, "/findings/0/severity"},
		{schemas.Findings, `"verdict": "passed"`, `"verdict": "verified"`, "/verdict"},
		{schemas.SARIF, `"startLine": 1`, `"startLine": 0`, "/runs/0/results/0/locations/0/physicalLocation/region/startLine"},
		{schemas.SARIF, `"level": "error", "message"`, `"level": "fatal", "message"`, "/runs/0/results/0/level"},
		{schemas.SARIF, `"version": "2.1.0"`, `"version": "2.0"`, "/version"},
		{schemas.SARIF, `"help": {"text": "h", "markdown": "m"}, `, ``, "/runs/0/tool/driver/rules/0"},
		{schemas.SARIF, `:1"}}]`, `"}}]`, "/runs/0/results/0/partialFingerprints/primaryLocationLineHash"},
		{schemas.Gates, `"state": "waiting"`, `"state": "open"`, "/rotations/0/gates/0/state"},
		{schemas.Gates, `"phase": "published", `, ``, "/rotations/0"},
		{schemas.Gates, `"dueAt": ` + at, `"dueAt": "soon"`, "/rotations/0/dueAt"},
	} {
		broken := strings.Replace(good[tc.name], tc.old, tc.new, 1)
		if broken == good[tc.name] {
			t.Fatalf("%s: nothing to replace: %s", tc.name, tc.old)
		}
		if got := violations(t, tc.name, broken); !namesPlace(got, tc.at) {
			t.Errorf("%s, with %s: got %v, want a violation at %s", tc.name, tc.new, got, tc.at)
		}
	}
}

// A record may have each kind of move, with all members and with those alone that a
// move needs.
func TestMoves(t *testing.T) {
	for _, move := range append(slices.Clone(moves), bare...) {
		if got := violations(t, schemas.Rotation, recordOf(move)); len(got) > 0 {
			t.Errorf("got %v, want a good record:\n%s", got, move)
		}
	}
}

// bare has one move of each kind, without what it may leave out.
var bare = []string{
	`{"move": "open", ` + who + `, "signer": ` + mac + `, "policy": {"overlap": "48h0m0s"}}`,
	`{"move": "promote", ` + who + `, "signer": ` + mac + `, "replaces": ` + mac + `, "policy": {"overlap": "48h0m0s"}}`,
	`{"move": "retire", ` + who + `, "signer": ` + mac + `, "boundary": ` + none + `, "cutover": {"position": 0},
		"gates": [{"id": "G1", "name": "n", "state": "off", "detail": "d"}],
		"evidence": {"events": 0, "head": "` + hex64 + `", "registrySha256": "` + hex64 + `"}}`,
	`{"move": "withdraw", ` + who + `, "signer": ` + mac + `}`,
	`{"move": "roll back", ` + who + `, "signer": ` + mac + `}`,
	`{"move": "compromise", ` + who + `, "signer": ` + mac + `, "boundary": ` + none + `}`,
}

var (
	who  = `"at": ` + at + `, "actor": "a", "reason": "r"`
	mac  = `{"id": "v1", "algorithm": "hmac-sha256"}`
	none = `{"position": 0, "digest": "` + strings.Repeat("0", 64) + `"}`
)

// What no move has is refused in every move, and the violation names the place.
func TestMovesRefused(t *testing.T) {
	for i, move := range moves {
		place := fmt.Sprintf("/moves/%d", i)
		for name, tc := range map[string]struct{ old, new, at string }{
			"an unknown move":          {`{"move": "`, `{"move": "re-`, place + "/move"},
			"a move without a name":    {`{"move": `, `{"motion": `, place},
			"a move that is no text":   {`{"move": `, `{"move": 1, "was": `, place + "/move"},
			"an unknown member":        {`"actor": "a"`, `"actor": "a", "mode": "force"`, place},
			"a member in capitals":     {`"actor": "a"`, `"actor": "a", "Actor": "b"`, place},
			"no time":                  {`"at": ` + at + `, `, ``, place},
			"a time with nanoseconds":  {at, `"2026-03-01T12:00:00.5Z"`, place + "/at"},
			"a time of another offset": {at, `"2026-03-01T13:00:00+01:00"`, place + "/at"},
			"a time in lower case":     {at, `"2026-03-01t12:00:00z"`, place + "/at"},
			"a day without a time":     {at, `"2026-03-01"`, place + "/at"},
			"nobody":                   {`"actor": "a"`, `"actor": ""`, place + "/actor"},
			"no reason":                {`"reason": "r"`, `"reason": ""`, place + "/reason"},
			"a link that is no run":    {run, `"javascript:alert(1)"`, place + "/runUrl"},
			"a run without a number":   {run, `"https://github.com/a/b/actions/runs/"`, place + "/runUrl"},
			"a run with more behind":   {run, `"https://github.com/a/b/actions/runs/1/../x"`, place + "/runUrl"},
			"no signer":                {`"signer": ` + signer, `"signer": null`, place + "/signer"},
			"a signer without an id":   {`{"id": "v2", `, `{`, place + "/signer"},
			"a signer with a key":      {`{"id": "v2"`, `{"id": "v2", "publicKey": "PEM"`, place + "/signer"},
			"a fingerprint cut short":  {hex64, hex64[1:], place + "/signer/fingerprint"},
		} {
			wantViolation(t, name, i, move, tc.old, tc.new, tc.at)
		}
	}
}

// Each kind of move has what it rests on.
func TestMovesWithoutTheirGrounds(t *testing.T) {
	const open, promote, retire, withdraw, rollBack, compromise = 0, 1, 2, 3, 4, 5
	for name, tc := range map[string]struct {
		move         int
		old, new, at string
	}{
		"published without a policy":   {open, `, "policy": ` + policy, ``, ""},
		"a proof with a member more":   {open, `"possession": {`, `"possession": {"key": "k", `, "/possession"},
		"a policy with a member more":  {open, `"policy": {`, `"policy": {"grace": "1h", `, "/policy"},
		"replaces nobody":              {promote, `"replaces": ` + signer + `, `, ``, ""},
		"no overlap":                   {promote, `"policy": {"overlap": "48h0m0s"}`, `"policy": {}`, "/policy"},
		"retired without a boundary":   {retire, `"boundary": ` + mark + `, `, ``, ""},
		"a boundary without position":  {retire, `"boundary": {"position": 2, `, `"boundary": {`, "/boundary"},
		"a boundary before the chain":  {retire, `"boundary": {"position": 2`, `"boundary": {"position": -1`, "/boundary/position"},
		"a boundary between positions": {retire, `"boundary": {"position": 2`, `"boundary": {"position": 1.5`, "/boundary/position"},
		"no cut-over":                  {retire, `"cutover": {"position": 3},`, ``, ""},
		"no gates":                     {retire, gates, `"gates": []`, "/gates"},
		"a gate without a name":        {retire, `"name": "n", `, ``, "/gates/0"},
		"no head":                      {retire, `"head": "` + hex64 + `", `, ``, "/evidence"},
		"a checkpoint without a count": {retire, `"checkpoint": "2:`, `"checkpoint": "`, "/evidence/checkpoint"},
		"pull request 0":               {retire, `"publishedIn": 7`, `"publishedIn": 0`, "/publishedIn"},
		"withdrawn up to a boundary":   {withdraw, `"move": "withdraw"`, `"move": "withdraw", "boundary": ` + mark, ""},
		"a window without a count":     {rollBack, `"window": {"events": 2, `, `"window": {`, "/window"},
		"a window that ends in a text": {rollBack, `"lastPosition": 4`, `"lastPosition": "4"`, "/window/lastPosition"},
		"stolen without a boundary":    {compromise, `, "boundary": ` + mark, ``, ""},
		"a boundary without a digest":  {compromise, `"digest": "` + hex64 + `"}`, `"digest": ""}`, "/boundary/digest"},
	} {
		wantViolation(t, name, tc.move, moves[tc.move], tc.old, tc.new, fmt.Sprintf("/moves/%d%s", tc.move, tc.at))
	}
}

// A record without moves says nothing, and one of another version is not read.
func TestRecordRefused(t *testing.T) {
	for name, tc := range map[string]struct{ document, at string }{
		"no move":           {recordOf(), "/moves"},
		"no moves":          {`{"version": 1, "id": "rotate-a"}`, "/"},
		"moves by name":     {`{"version": 1, "id": "rotate-a", "moves": {}}`, "/moves"},
		"a move as a text":  {recordOf(`"open"`), "/moves/0"},
		"another version":   {strings.Replace(recordOf(moves[0]), `"version": 1`, `"version": 2`, 1), "/version"},
		"an unknown member": {strings.Replace(recordOf(moves[0]), `"version": 1`, `"version": 1, "phase": "archived"`, 1), "/"},
	} {
		if got := violations(t, schemas.Rotation, tc.document); !namesPlace(got, tc.at) {
			t.Errorf("%s: got %v, want a violation at %s", name, got, tc.at)
		}
	}
}

// wantViolation changes one place of the ith move of a record that has all kinds, and
// wants a violation that names the place.
func wantViolation(t *testing.T, name string, i int, move, old, new, at string) {
	t.Helper()
	broken := strings.Replace(move, old, new, 1)
	if broken == move {
		t.Fatalf("%s: nothing to replace: %s in %s", name, old, move)
	}
	all := slices.Clone(moves)
	all[i] = broken
	if got := violations(t, schemas.Rotation, recordOf(all...)); !namesPlace(got, at) {
		t.Errorf("%s: got %v, want a violation at %s", name, got, at)
	}
}

func namesPlace(list []schemas.Violation, at string) bool {
	return slices.ContainsFunc(list, func(v schemas.Violation) bool { return strings.HasPrefix(v.String(), at+": ") })
}

// A name that is no schema, and a document that is no JSON, are errors, not
// violations that somebody might overlook.
func TestUnreadable(t *testing.T) {
	if _, err := schemas.Violations("nothing", []byte(`{}`)); err == nil {
		t.Error("a schema called nothing")
	}
	for _, document := range []string{``, `{`, `nothing`} {
		if v, err := schemas.Violations(schemas.Signers, []byte(document)); err == nil {
			t.Errorf("%q: %v", document, v)
		}
	}
}

// Every schema file is JSON, known by name, and says where it is published.
func TestSchemaFiles(t *testing.T) {
	names, err := fs.Glob(os.DirFS("."), "*.schema.json")
	if err != nil || len(names) != len(good) {
		t.Fatalf("%d schema files, %d documents here: %v", len(names), len(good), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(".", name))
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Schema string `json:"$schema"`
			ID     string `json:"$id"`
			Title  string
		}
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := fmt.Sprintf("https://github.com/agent-manager/audit-signer-rotation/schemas/%s", name)
		if schema.ID != want || schema.Schema != "http://json-schema.org/draft-07/schema#" || schema.Title == "" {
			t.Errorf("%s: %+v", name, schema)
		}
		if _, ok := good[schemas.Name(strings.TrimSuffix(name, ".schema.json"))]; !ok {
			t.Errorf("%s has no document here", name)
		}
	}
}

// A form takes what jsondoc, the schema and the Go type all take, and says in
// each other case which file it was, why not, and what to do.
func TestForm(t *testing.T) {
	form := schemas.Form{Schema: schemas.Exceptions, Is: "a list of exceptions", Else: schemas.Restore}
	list := func(more string) string {
		return `{"version": 1, "exceptions": [{"rule": "fork", "eventId": "e", "digest": "` + hex64 + `", "reason": "r", "approvedBy": "a", "approvedAt": ` + at + more + `}]}`
	}
	var good struct{ Exceptions []struct{ EventID string } }
	for name, c := range map[string]struct {
		document string
		into     any
		refusal  string
	}{
		"good":               {list(""), &good, ""},
		"a name twice":       {list(`, "rule": "fork"`), &good, "x.json:1"},
		"against the schema": {list(`, "more": 1`), &good, "x.json: not a list of exceptions: /exceptions/0: Additional property more is not allowed; repair the file"},
		"beyond the type":    {list(""), &struct{ Version bool }{}, "x.json: not a list of exceptions: json: cannot unmarshal number"},
	} {
		t.Run(name, func(t *testing.T) {
			err := form.Decode("x.json", []byte(c.document), c.into)
			if c.refusal == "" && (err != nil || len(good.Exceptions) != 1 || good.Exceptions[0].EventID != "e") {
				t.Errorf("%+v, %v", good, err)
			}
			if c.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), c.refusal)) {
				t.Errorf("%v, want %q", err, c.refusal)
			}
		})
	}
}

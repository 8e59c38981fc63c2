package actions_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// stage is the world of one story: everything that the actions talk to, with
// one clock. Its parts start when a story first needs them.
type stage struct {
	all              testing.TB   // the stories of one action
	t                testscript.T // this one
	work             string
	outputs, summary string
	skew             atomic.Int64 // of the clock, in nanoseconds

	github *githubtest.Server
	writes int // GitHub's count when it was last asked for

	kms *kmstest.Server

	verifiers map[string]*fakeVerifier // by variable

	database  string // the connection string, "" while events go to a file
	workflows int    // run so far
	events    int
	head      []byte
	last      time.Time // of the newest event
	pen       *pen
}

// pen is a writer at work beside the story.
type pen struct {
	end  chan struct{}
	done chan error
}

// write goes on until it is stopped or fails.
func (p *pen) write(one func() error) {
	for {
		select {
		case <-p.end:
			p.done <- nil
			return
		default:
		}
		if err := one(); err != nil {
			<-p.end
			p.done <- err
			return
		}
	}
}

func (p *pen) stop() error {
	if p == nil {
		return nil
	}
	close(p.end)
	return <-p.done
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func newStage(all testing.TB, env *testscript.Env) *stage {
	dir := filepath.Join(env.WorkDir, ".tmp")
	return &stage{all: all, t: env.T(), work: env.WorkDir, outputs: filepath.Join(dir, "outputs"), summary: filepath.Join(dir, "summary.md"), verifiers: map[string]*fakeVerifier{}}
}

// now is the time at GitHub, at AWS, and in the rows.
func (s *stage) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }

// close ends the story and says what no story may do.
func (s *stage) close() (bad string) {
	if err := s.pen.stop(); err != nil {
		bad = "the writer: " + err.Error()
	}
	if s.kms != nil {
		s.kms.Close()
	}
	for _, v := range s.verifiers {
		v.Close()
	}
	return bad + s.closeGitHub()
}

func (s *stage) closeGitHub() (bad string) {
	if s.github == nil {
		return ""
	}
	defer s.github.Close()
	s.writes = 0
	if v := s.github.Violations(); len(v) > 0 {
		return "GitHub's description was broken: " + strings.Join(v, "\n")
	}
	for _, r := range s.github.Requests() {
		if form := leak(r.Path + r.Query + r.Body); form != "" {
			return fmt.Sprintf("%s %s carries the secret %q", r.Method, r.Path, form)
		}
	}
	return ""
}

// startKMS starts the key service and points the story's environment at it.
func (s *stage) startKMS(ts *testscript.TestScript, delay time.Duration) {
	s.newKMS(delay)
	for name, value := range s.kms.Env() {
		ts.Setenv(name, value)
	}
}

// newKMS starts the key service. Keys that it makes are the throw-away ones, as
// far as RSA is slow.
func (s *stage) newKMS(delay time.Duration) {
	s.kms = kmstest.New(kmstest.Options{Now: s.now, TrailDelay: delay, Material: func(spec string) (any, error) {
		if bits, ok := strings.CutPrefix(spec, "RSA_"); ok {
			return throwAway("rsa" + bits)
		}
		return kmstest.Generate(spec)
	}})
}

// throwAway reads a private key of testdata/keys.
func throwAway(name string) (any, error) {
	text, err := os.ReadFile("testdata/keys/throw-away-" + name + ".pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// key finds a private or a KMS key: a throw-away key's name or an ARN.
type key struct {
	stage *stage
	arn   string
	local crypto.Signer
}

func (s *stage) key(name string) (key, error) {
	if strings.HasPrefix(name, "arn:") {
		if s.kms == nil {
			return key{}, fmt.Errorf("there is no KMS to ask for %s", name)
		}
		return key{stage: s, arn: name}, nil
	}
	private, err := throwAway(name)
	if err != nil {
		return key{}, err
	}
	return key{stage: s, local: private.(crypto.Signer)}, nil
}

// call asks KMS, as any system that may use the key could.
func (k key) call(operation string, request map[string]any) (answer map[string]string, err error) {
	request["KeyId"] = k.arn
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodPost, k.stage.kms.URL()+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("X-Amz-Date", k.stage.now().UTC().Format("20060102T150405Z"))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIASERVICE/20260101/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("KMS %s: %d %s %v", operation, res.StatusCode, text, err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	answer = map[string]string{}
	for name, value := range all {
		answer[name], _ = value.(string)
	}
	return answer, nil
}

func (k key) spec() (string, error) {
	switch private := k.local.(type) {
	case *rsa.PrivateKey:
		return "RSA", nil
	case ed25519.PrivateKey:
		_ = private
		return "ED", nil
	}
	if _, err := k.call("GetPublicKey", map[string]any{}); err != nil && strings.Contains(err.Error(), "UnsupportedOperation") {
		return "HMAC", nil
	}
	answer, err := k.call("GetPublicKey", map[string]any{})
	if strings.HasPrefix(answer["KeySpec"], "RSA_") {
		return "RSA", err
	}
	return "ED", err
}

// publicPEM is the public half, "" for an HMAC key.
func (k key) publicPEM() (string, error) {
	var der []byte
	if k.local != nil {
		var err error
		if der, err = x509.MarshalPKIXPublicKey(k.local.Public()); err != nil {
			return "", err
		}
	} else {
		answer, err := k.call("GetPublicKey", map[string]any{})
		if err != nil {
			return "", err
		}
		if der, err = base64.StdEncoding.DecodeString(answer["PublicKey"]); err != nil {
			return "", err
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// signer signs digests as the audited service does.
func (k key) signer() (func(context.Context, [32]byte) ([]byte, error), error) {
	spec, err := k.spec()
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, digest [32]byte) ([]byte, error) {
		switch {
		case k.local != nil && spec == "RSA":
			return k.local.Sign(rand.Reader, digest[:], crypto.SHA256)
		case k.local != nil:
			return k.local.Sign(rand.Reader, digest[:], crypto.Hash(0))
		case spec == "HMAC":
			answer, err := k.call("GenerateMac", map[string]any{"Message": digest[:], "MacAlgorithm": "HMAC_SHA_256"})
			return decode(answer["Mac"], err)
		case spec == "RSA":
			answer, err := k.call("Sign", map[string]any{"Message": digest[:], "MessageType": "DIGEST", "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"})
			return decode(answer["Signature"], err)
		}
		answer, err := k.call("Sign", map[string]any{"Message": digest[:], "MessageType": "RAW", "SigningAlgorithm": "ED25519_SHA_512"})
		return decode(answer["Signature"], err)
	}, nil
}

// wrong signs in a form that the service's own adapter could produce, and that
// no verifier takes: RSA-PSS, RSA over a digest that is hashed once more, and
// Ed25519ph.
func (k key) wrong(form string) (func(context.Context, [32]byte) ([]byte, error), error) {
	if k.local == nil {
		return nil, fmt.Errorf("only a local key signs in the form %s", form)
	}
	return func(_ context.Context, digest [32]byte) ([]byte, error) {
		switch form {
		case "pss":
			return k.local.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
		case "twice":
			again := sha256.Sum256(digest[:])
			return k.local.Sign(rand.Reader, again[:], crypto.SHA256)
		case "prehashed":
			long := sha512.Sum512(digest[:])
			return k.local.Sign(rand.Reader, long[:], &ed25519.Options{Hash: crypto.SHA512})
		}
		return nil, fmt.Errorf("no form is called %s", form)
	}, nil
}

func decode(text string, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// append lets a signer append events, to the table or to events.ndjson.
func (s *stage) append(n int, kid string, sign func(context.Context, [32]byte) ([]byte, error)) error {
	if s.database != "" {
		w, err := auditdbtest.NewWriter(context.Background(), s.database, "audit_events")
		if err != nil {
			return err
		}
		defer w.Close(context.Background())
		events := make([]auditdbtest.Event, n)
		for i := range events {
			events[i] = auditdbtest.Event{Payload: s.payload(), Type: "agent_action", Actor: "agent", At: s.tick()}
		}
		_, err = w.Append(context.Background(), auditdbtest.Signer{KID: kid, Sign: sign}, events...)
		return err
	}
	out, err := os.OpenFile(filepath.Join(s.work, "events.ndjson"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	for range n {
		line, err := s.row(kid, sign)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// tick is the time of the next event, which no two share.
func (s *stage) tick() time.Time {
	if now := s.now(); now.After(s.last.Add(time.Millisecond)) {
		s.last = now
	} else {
		s.last = s.last.Add(time.Millisecond)
	}
	return s.last
}

func (s *stage) payload() string {
	s.events++
	return fmt.Sprintf(`{"seq": %d, "action": {"name": "deploy", "cost": 1.25, "tags": ["a", "é", "😀"]}}`, s.events)
}

// row makes the export's next line.
func (s *stage) row(kid string, sign func(context.Context, [32]byte) ([]byte, error)) ([]byte, error) {
	payload := s.payload()
	form, _, err := canonical.Append(nil, []byte(payload))
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(append(form, s.head...))
	signature, err := sign(context.Background(), digest)
	if err != nil {
		return nil, err
	}
	row := map[string]any{
		"id": fmt.Sprintf("00000000-0000-4000-8000-%012d", s.events), "actor_id": "agent", "event_type": "agent_action", "payload": json.RawMessage(payload),
		"signature": base64.StdEncoding.EncodeToString(signature), "signer_kid": kid, "prev_hash": nil, "created_at": s.tick().UTC().Format(time.RFC3339Nano),
	}
	if s.head != nil {
		row["prev_hash"] = hex.EncodeToString(s.head)
	}
	s.head = digest[:]
	return json.Marshal(row)
}

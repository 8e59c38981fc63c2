package cloudtrail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/cloudtrail"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

var ctx = context.Background()

// clock is a clock that is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// setup starts a server at noon, and a client that is quick to give up.
func setup(t *testing.T, o kmstest.Options) (*kmstest.Server, *clock, *cloudtrail.Client) {
	t.Helper()
	now := &clock{now: noon}
	o.Now = now.Now
	s := kmstest.New(o)
	t.Cleanup(s.Close)
	for name, value := range s.Env() {
		t.Setenv(name, value)
	}
	return s, now, client(t)
}

func client(t *testing.T) *cloudtrail.Client {
	t.Helper()
	c, err := cloudtrail.New(ctx, cloudtrail.Options{Attempts: 3, Backoff: time.Millisecond, Timeout: 5 * time.Second, Pace: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type m map[string]any

// call sends a request to KMS as AKIATEST.
func call(t *testing.T, s *kmstest.Server, operation string, in m) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", s.URL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{
		"X-Amz-Target": {"TrentService." + operation},
		"Content-Type": {"application/x-amz-json-1.1"},
		"X-Amz-Date":   {"20260501T120000Z"},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIATEST/20260501/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=" +
			strings.Repeat("0", 64)},
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

var digest = make([]byte, 32)

func sign(keyID string) m {
	return m{"KeyId": keyID, "Message": digest, "SigningAlgorithm": "ED25519_SHA_512"}
}

func newKey(t *testing.T, s *kmstest.Server, spec string, aliases ...string) string {
	t.Helper()
	material, err := kmstest.Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.Import(kmstest.Key{Material: material, Aliases: aliases})
}

const ed25519 = "ECC_NIST_EDWARDS25519"

// wantError fails unless err is one line with all the parts and the exit code.
func wantError(t *testing.T, err error, exit int, parts ...string) {
	t.Helper()
	var e *cloudtrail.Error
	if !errors.As(err, &e) || e.ExitCode() != exit || strings.Contains(e.Error(), "\n") {
		t.Fatalf("error is %v, want one line with exit code %d", err, exit)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestUses(t *testing.T) {
	s, now, c := setup(t, kmstest.Options{})
	key := newKey(t, s, ed25519, "alias/signer")
	mac := newKey(t, s, "HMAC_256")
	other := newKey(t, s, ed25519)
	dryRun := sign(key)
	dryRun["DryRun"] = true
	for _, step := range []struct {
		operation string
		in        m
	}{
		{"Sign", sign("alias/signer")},
		{"Sign", dryRun},
		{"GetPublicKey", m{"KeyId": key}},
		{"DescribeKey", m{"KeyId": key}},
		{"Verify", sign(key)},
		{"Sign", sign(other)},
		{"GenerateMac", m{"KeyId": mac, "Message": digest, "MacAlgorithm": "HMAC_SHA_256"}},
		{"VerifyMac", m{"KeyId": mac, "Message": digest, "MacAlgorithm": "HMAC_SHA_256", "Mac": digest}},
		{"DisableKey", m{"KeyId": key}},
		{"Sign", sign(key)},
	} {
		call(t, s, step.operation, step.in)
		now.pass(time.Minute)
	}
	answer, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: noon, To: now.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range answer.Uses {
		got = append(got, fmt.Sprintf("+%v by %s %q dry=%t signed=%t", u.Time.Sub(noon), u.User, u.ErrorCode, u.DryRun, u.Signed()))
		if u.EventID == "" {
			t.Errorf("use %+v", u)
		}
	}
	const by = "by arn:aws:iam::111122223333:user/AKIATEST"
	want := []string{
		"+9m0s " + by + ` "DisabledException" dry=false signed=false`,
		"+1m0s " + by + ` "DryRunOperationException" dry=true signed=false`,
		"+0s " + by + ` "" dry=false signed=true`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("uses are\n%q, want\n%q", got, want)
	}
	if !answer.To.Equal(now.Now()) || !answer.AsOf.Equal(now.Now()) {
		t.Errorf("answer is %+v", answer)
	}
	answer, err = c.Uses(ctx, cloudtrail.Query{KeyARN: mac, From: noon, To: now.Now()})
	if err != nil || len(answer.Uses) != 1 || !answer.Uses[0].Signed() {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestWindow(t *testing.T) {
	s, now, c := setup(t, kmstest.Options{TrailDelay: 15 * time.Minute})
	key := newKey(t, s, ed25519)
	call(t, s, "Sign", sign(key))
	now.pass(time.Hour)
	call(t, s, "Sign", sign(key))
	at := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	for _, w := range []struct {
		from, to time.Time
		uses     int
	}{
		{noon, at(1), 1}, // the second is not delivered yet
		{noon, noon.Add(time.Second), 1},
		{noon.Add(time.Second), at(1), 0},
		{at(-1), noon.Add(-time.Second), 0},
	} {
		answer, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: w.from, To: w.to})
		if err != nil || len(answer.Uses) != w.uses || !answer.To.Equal(w.to) {
			t.Errorf("%v to %v: %+v, %v, want %d uses", w.from, w.to, answer, err, w.uses)
		}
	}
	// The part of a window that lies in the future is not answered.
	answer, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: noon, To: at(24)})
	if err != nil || !answer.To.Equal(at(1)) || !answer.AsOf.Equal(at(1)) {
		t.Errorf("%+v, %v", answer, err)
	}
	// The last 90 days are kept, by CloudTrail's clock and not by ours.
	days := 90 * 24 * time.Hour
	if _, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: at(1).Add(-days), To: at(1)}); err != nil {
		t.Error(err)
	}
	_, err = c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: at(1).Add(-days - time.Second), To: at(1)})
	wantError(t, err, 3, "begins at 2026-01-31T12:59:59Z", "keeps 90 days", "trail's log files")
}

func TestPages(t *testing.T) {
	s, now, c := setup(t, kmstest.Options{})
	key := newKey(t, s, ed25519)
	for range 120 {
		call(t, s, "Sign", sign(key))
		call(t, s, "DescribeKey", m{"KeyId": key})
		now.pass(time.Second)
	}
	all := cloudtrail.Query{KeyARN: key, From: noon, To: now.Now()}
	for _, c1 := range []struct {
		enough, uses, requests int
	}{
		{0, 120, 5},
		{1, 25, 1},
		{25, 25, 1},
		{26, 50, 2},
		{1000, 120, 5},
	} {
		before := s.Count("LookupEvents")
		all.Enough = c1.enough
		answer, err := c.Uses(ctx, all)
		requests := s.Count("LookupEvents") - before
		if err != nil || len(answer.Uses) != c1.uses || requests != c1.requests {
			t.Errorf("enough %d: %d uses in %d requests, %v; want %+v", c1.enough, len(answer.Uses), requests, err, c1)
		}
		for i := 1; i < len(answer.Uses); i++ {
			if !answer.Uses[i].Time.Before(answer.Uses[i-1].Time) {
				t.Fatalf("use %d is not older than the one before", i)
			}
		}
	}
}

// A failed call of the new key is not "enough".
func TestEnoughCountsSignatures(t *testing.T) {
	s, now, c := setup(t, kmstest.Options{})
	key := newKey(t, s, ed25519)
	call(t, s, "Sign", sign(key))
	for range 60 {
		now.pass(time.Second)
		dry := sign(key)
		dry["DryRun"] = true
		call(t, s, "Sign", dry)
	}
	answer, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: noon, To: now.Now(), Enough: 1})
	if err != nil || len(answer.Uses) != 61 || !answer.Uses[60].Signed() {
		t.Errorf("%d uses, %v, want 61 with the signature last", len(answer.Uses), err)
	}
}

func TestRefusals(t *testing.T) {
	s, _, c := setup(t, kmstest.Options{})
	key := newKey(t, s, ed25519)
	hour := noon.Add(time.Hour)
	for _, q := range []struct {
		query cloudtrail.Query
		want  string
	}{
		{cloudtrail.Query{KeyARN: "", From: noon, To: hour}, "no ARN of a KMS key"},
		{cloudtrail.Query{KeyARN: "alias/signer", From: noon, To: hour}, "no ARN of a KMS key"},
		{cloudtrail.Query{KeyARN: "arn:aws:kms:eu-west-1:111122223333:alias/signer", From: noon, To: hour}, "no ARN of a KMS key"},
		{cloudtrail.Query{KeyARN: "arn:aws:s3:eu-west-1:111122223333:key/x", From: noon, To: hour}, "no ARN of a KMS key"},
		{cloudtrail.Query{KeyARN: key, To: hour}, "is empty"},
		{cloudtrail.Query{KeyARN: key, From: noon, To: noon}, "is empty"},
		{cloudtrail.Query{KeyARN: key, From: hour, To: noon}, "is empty"},
	} {
		_, err := c.Uses(ctx, q.query)
		wantError(t, err, 2, q.want)
	}
	if s.Count("LookupEvents") != 0 {
		t.Error("CloudTrail was asked")
	}
}

func TestFailures(t *testing.T) {
	s, now, c := setup(t, kmstest.Options{})
	key := newKey(t, s, ed25519)
	q := cloudtrail.Query{KeyARN: key, From: noon.Add(-time.Hour), To: now.Now()}
	uses := func() error { _, err := c.Uses(ctx, q); return err }
	if err := uses(); err != nil {
		t.Fatal(err)
	}
	for name, c1 := range map[string]struct {
		fault kmstest.Fault
		want  []string
	}{
		"throttled": {kmstest.Fault{Code: "ThrottlingException", Message: "Rate exceeded"}, []string{"ThrottlingException", "(3 attempts)", "run this again"}},
		"internal":  {kmstest.Fault{Status: 503}, []string{"(3 attempts)"}},
		"reset":     {kmstest.Fault{Drop: true}, []string{"no usable answer", "(3 attempts)", "AWS_ENDPOINT_URL_CLOUDTRAIL"}},
		"cut off":   {kmstest.Fault{Truncate: true}, []string{"no usable answer", "(3 attempts)"}},
		"times":     {kmstest.Fault{Code: "InvalidTimeRangeException"}, []string{"check the times"}},
		"expired":   {kmstest.Fault{Code: "ExpiredTokenException"}, []string{"check the AWS credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.SetFault(kmstest.Script(kmstest.Step{Operation: "LookupEvents", Fault: c1.fault}))
			wantError(t, uses(), 3, append(c1.want, "CloudTrail LookupEvents for", key, "eu-west-1")...)
		})
	}
	s.SetFault(kmstest.Script(kmstest.Step{Operation: "LookupEvents", Fault: kmstest.Fault{Status: 503}}))
	soon, err := cloudtrail.New(patience.With(ctx, patience.New(time.Nanosecond)), cloudtrail.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked := s.Count("LookupEvents")
	_, err = soon.Uses(ctx, q)
	if wantError(t, err, 3, "beyond the time budget of 1ns for retries", "run this again later"); s.Count("LookupEvents") != asked+1 {
		t.Errorf("asked %d times", s.Count("LookupEvents")-asked)
	}
	s.SetFault(nil)
	s.Deny("LookupEvents")
	wantError(t, uses(), 3, "AccessDeniedException", "allow cloudtrail:LookupEvents")
	s.Allow("LookupEvents")
	// The key's own Region is asked, where this server is not.
	q.KeyARN = strings.Replace(key, "eu-west-1", "us-east-1", 1)
	wantError(t, uses(), 3, "in us-east-1", "InvalidSignatureException")
	q.KeyARN = key

	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	c = client(t)
	wantError(t, uses(), 3, "no usable AWS credentials")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", "http://"+l.Addr().String())
	c = client(t)
	wantError(t, uses(), 3, "connection refused")
	t.Setenv("AWS_PROFILE", "no-such-profile")
	_, err = cloudtrail.New(ctx, cloudtrail.Options{})
	wantError(t, err, 2, "no-such-profile")
}

// A transient fault on any page does not make the answer shorter, and one that
// stays makes it an error.
func TestFaultOnALaterPage(t *testing.T) {
	for _, c1 := range []struct {
		steps []kmstest.Step
		ok    bool
	}{
		{[]kmstest.Step{{Operation: "LookupEvents", Nth: 2, Fault: kmstest.Fault{Drop: true, Applied: true}}}, true},
		{[]kmstest.Step{
			{Operation: "LookupEvents", Nth: 2, Fault: kmstest.Fault{Status: 500}},
			{Operation: "LookupEvents", Nth: 3, Fault: kmstest.Fault{Status: 500}},
			{Operation: "LookupEvents", Nth: 4, Fault: kmstest.Fault{Status: 500}},
		}, false},
	} {
		s, now, c := setup(t, kmstest.Options{Fault: kmstest.Script(c1.steps...)})
		key := newKey(t, s, ed25519)
		for range 60 {
			call(t, s, "Sign", sign(key))
		}
		now.pass(time.Hour)
		answer, err := c.Uses(ctx, cloudtrail.Query{KeyARN: key, From: noon.Add(-time.Hour), To: now.Now()})
		if c1.ok && (err != nil || len(answer.Uses) != 60) {
			t.Errorf("%d uses, %v, want 60", len(answer.Uses), err)
		}
		if !c1.ok {
			wantError(t, err, 3, "(3 attempts)")
		}
	}
}

// The standard pace stays within what an account has: nothing is throttled.
func TestPace(t *testing.T) {
	s, now, _ := setup(t, kmstest.Options{TrailPerSecond: 2})
	key := newKey(t, s, ed25519)
	for range 120 {
		call(t, s, "Sign", sign(key))
	}
	now.pass(time.Hour)
	c, err := cloudtrail.New(ctx, cloudtrail.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := cloudtrail.Query{KeyARN: key, From: noon.Add(-time.Hour), To: now.Now()}
	answer, err := c.Uses(ctx, q)
	if err != nil || len(answer.Uses) != 120 {
		t.Errorf("%d uses, %v, want 120", len(answer.Uses), err)
	}
	if n := s.Count("LookupEvents"); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	_, err = c.Uses(stopped, q)
	wantError(t, err, 3, "stopped before the answer was whole")
}

// A server that answers without making sense is found out.
func TestLyingServer(t *testing.T) {
	var body string
	dated := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Date", noon.Format(http.TimeFormat))
		if !dated {
			w.Header()["Date"] = nil
		}
		io.WriteString(w, body)
	}))
	defer s.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_CLOUDTRAIL": s.URL, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "x",
	} {
		t.Setenv(name, value)
	}
	const key = "arn:aws:kms:eu-west-1:111122223333:key/x"
	event := func(record string) m {
		return m{"EventId": "e", "EventName": "Sign", "EventSource": "kms.amazonaws.com", "CloudTrailEvent": record}
	}
	const good = `{"eventID":"e","eventTime":"2026-05-01T11:00:00Z","requestParameters":null,"userIdentity":{"invokedBy":"x.amazonaws.com"},"resources":[{"ARN":"` + key + `"}]}`
	elsewhere := strings.Replace(good, "key/x", "key/y", 1)
	indexed := event(elsewhere)
	indexed["Resources"] = []m{{"ResourceType": "AWS::KMS::Key", "ResourceName": key}}
	foreign := event(good)
	foreign["EventSource"] = "signer.amazonaws.com"
	for _, c1 := range []struct {
		name   string
		events []m
		dated  bool
		uses   int
		want   string // of the error
	}{
		{"good", []m{event(good)}, true, 1, ""},
		{"the same event twice", []m{event(good), event(good)}, true, 1, ""},
		{"another key", []m{event(elsewhere)}, true, 0, ""},
		{"the key in the index only", []m{indexed}, true, 1, ""},
		{"another service", []m{foreign}, true, 0, ""},
		{"no date", []m{event(good)}, false, 0, "no date"},
		{"no record", []m{event("")}, true, 0, `event "e" has an unreadable record`},
		{"an empty record", []m{event("{}")}, true, 0, "without id or time"},
		{"a record of another kind", []m{event(`{"eventID":1}`)}, true, 0, "unreadable record"},
	} {
		t.Run(c1.name, func(t *testing.T) {
			text, err := json.Marshal(m{"Events": c1.events})
			if err != nil {
				t.Fatal(err)
			}
			body, dated = string(text), c1.dated
			answer, err := client(t).Uses(ctx, cloudtrail.Query{KeyARN: key, From: noon.Add(-time.Hour), To: noon})
			if c1.want != "" {
				wantError(t, err, 3, c1.want)
				return
			}
			if err != nil || len(answer.Uses) != c1.uses {
				t.Fatalf("%+v, %v, want %d uses", answer, err, c1.uses)
			}
			if c1.uses > 0 && answer.Uses[0].User != "x.amazonaws.com" {
				t.Errorf("the user is %q", answer.Uses[0].User)
			}
		})
	}
}

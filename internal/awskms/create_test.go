package awskms_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
)

var creation = awskms.Creation{
	Spec: "ECC_NIST_EDWARDS25519", RotationID: "r-2026-05-01", Description: "audit signer",
	Tags: map[string]string{"team": "platform", "cost": "42"},
}

const creationAlias = "alias/audit-signer-r-2026-05-01"

// wantOne fails unless the server holds one key and the rotation's alias to it.
func wantOne(t *testing.T, s *kmstest.Server) {
	t.Helper()
	keys, aliases := s.Keys(), s.Aliases()
	if len(keys) != 1 || len(aliases) != 1 || aliases[creationAlias] != keys[0] {
		t.Errorf("keys %v, aliases %v, want one key with the rotation's alias", keys, aliases)
	}
}

func TestCreateAgain(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	first, err := c.Create(ctx, creation)
	if err != nil || !first.New || first.Orphans != nil {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := c.Create(ctx, creation)
	if err != nil || again.New || again.Key.ARN != first.Key.ARN || again.Alias != first.Alias {
		t.Errorf("second call: %+v, %v", again, err)
	}
	wantOne(t, s)
	other := creation
	other.Spec = "RSA_2048"
	_, err = c.Create(ctx, other)
	wantError(t, err, 2, creationAlias, "has a key already, of spec ECC_NIST_EDWARDS25519, not RSA_2048")
	wantOne(t, s)
}

func TestCreateRefuses(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	for name, c1 := range map[string]struct {
		change func(*awskms.Creation)
		want   string
	}{
		"Ed25519 by its other name": {func(in *awskms.Creation) { in.Spec = "ED25519" }, "KMS calls Ed25519 ECC_NIST_EDWARDS25519"},
		"no spec":                   {func(in *awskms.Creation) { in.Spec = "" }, `key spec "" is none of`},
		"a spec outside the list":   {func(in *awskms.Creation) { in.Spec = "ECC_NIST_P256" }, "is none of"},
		"no rotation id":            {func(in *awskms.Creation) { in.RotationID = "" }, "rotation id"},
		"an odd rotation id":        {func(in *awskms.Creation) { in.RotationID = "a/b" }, "rotation id"},
		"a long rotation id":        {func(in *awskms.Creation) { in.RotationID = strings.Repeat("x", 129) }, "rotation id"},
		"the tool's own tag":        {func(in *awskms.Creation) { in.Tags = map[string]string{"audit-rotation-id": "x"} }, "leave it out"},
	} {
		t.Run(name, func(t *testing.T) {
			in := creation
			c1.change(&in)
			_, err := c.Create(ctx, in)
			wantError(t, err, 2, c1.want)
		})
	}
	if calls := s.Calls(); len(calls) != 0 {
		t.Errorf("KMS was called: %v", calls)
	}
}

// Any single fault at any call is survived, and leaves one key and one alias.
func TestCreateSurvivesFaults(t *testing.T) {
	for name, fault := range map[string]kmstest.Fault{
		"reset before":          {Drop: true},
		"reset after":           {Drop: true, Applied: true},
		"cut off answer":        {Truncate: true},
		"internal before":       {Code: "KMSInternalException", Status: 500},
		"internal after":        {Code: "KMSInternalException", Status: 500, Applied: true},
		"dependency timeout":    {Code: "DependencyTimeoutException", Status: 503, Applied: true},
		"bad gateway before":    {Status: 502},
		"bad gateway after":     {Status: 502, Applied: true},
		"request timeout after": {Status: 408, Code: "RequestTimeout", Applied: true},
		"throttled":             {Code: "ThrottlingException"},
	} {
		t.Run(name, func(t *testing.T) {
			for n := int32(1); ; n++ {
				var calls atomic.Int32
				s, c := setup(t, kmstest.Options{Fault: func(string, *http.Request) *kmstest.Fault {
					if calls.Add(1) != n {
						return nil
					}
					return &fault
				}})
				s.Import(kmstest.Key{Spec: "RSA_2048"}) // somebody else's
				made, err := c.Create(ctx, creation)
				if err != nil || made.Orphans != nil || len(s.Keys()) != 2 || s.Aliases()[creationAlias] != made.Key.ARN {
					t.Errorf("fault at call %d: %+v, %v; keys %v, aliases %v", n, made, err, s.Keys(), s.Aliases())
				}
				if calls.Load() < n { // the fault did not come to pass
					if n < 8 {
						t.Errorf("Create made only %d calls", n-1)
					}
					return
				}
			}
		})
	}
}

// The SDK's own retries are off for CreateKey, even where the environment asks
// for them.
func TestCreateKeyIsNotRetriedBlindly(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "5")
	t.Setenv("AWS_RETRY_MODE", "standard")
	s, c := setup(t, kmstest.Options{Fault: kmstest.Script(kmstest.Step{Operation: "CreateKey", Nth: 1, Fault: kmstest.Fault{Drop: true, Applied: true}})})
	made, err := c.Create(ctx, creation)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Count("CreateKey"); n != 1 {
		t.Errorf("CreateKey was sent %d times", n)
	}
	if !made.New {
		t.Error("the key is not called new")
	}
	wantOne(t, s)
}

// A key that shows only after a while is waited for, not made again.
func TestCreateWaitsForALostKey(t *testing.T) {
	steps := []kmstest.Step{{Operation: "CreateKey", Nth: 1, Fault: kmstest.Fault{Drop: true, Applied: true}}}
	// The searches right after the loss do not see the new key's tags yet.
	for n := range 4 {
		steps = append(steps, kmstest.Step{Operation: "ListResourceTags", Nth: n + 1, Fault: kmstest.Fault{Code: "NotFoundException"}})
	}
	s, c := setup(t, kmstest.Options{Fault: kmstest.Script(steps...)})
	if _, err := c.Create(ctx, creation); err != nil {
		t.Fatal(err)
	}
	if n := s.Count("CreateKey"); n != 1 {
		t.Errorf("CreateKey was sent %d times", n)
	}
	wantOne(t, s)
}

// A new key may be unknown to the part of KMS that is asked next: no call about
// it takes that for an answer.
func TestANewKeyThatDoesNotShowYet(t *testing.T) {
	var late []kmstest.Step
	for _, operation := range []string{"DescribeKey", "GetPublicKey", "Sign"} {
		for n := range 2 {
			late = append(late, kmstest.Step{Operation: operation, Nth: n + 2, Fault: kmstest.Fault{Stale: true}})
		}
	}
	for n := range late {
		if late[n].Operation != "DescribeKey" { // its first call is for the alias
			late[n].Nth--
		}
	}
	s, c := setup(t, kmstest.Options{Fault: kmstest.Script(late...)})
	made, err := c.Create(ctx, creation)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublicKey(ctx, made.Key.ARN); err != nil {
		t.Error(err)
	}
	if _, err := c.Sign(ctx, made.Key.ARN, made.Key.Algorithm(), [32]byte{}); err != nil {
		t.Error(err)
	}
	for _, operation := range []string{"GetPublicKey", "Sign"} {
		if n := s.Count(operation); n != 3 {
			t.Errorf("%s was called %d times, want twice too early and once more", operation, n)
		}
	}
	wantOne(t, s)
}

// Where the search after a lost answer fails too, nothing is made again, and
// the error says that running again is safe, which it is.
func TestCreateGivesUpRatherThanMakeTwo(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	s.SetFault(func(operation string, _ *http.Request) *kmstest.Fault {
		switch {
		case operation == "CreateKey":
			return &kmstest.Fault{Drop: true, Applied: true}
		case s.Count("CreateKey") > 0:
			return &kmstest.Fault{Status: 503}
		}
		return nil
	})
	_, err := c.Create(ctx, creation)
	wantError(t, err, 3, "KMS CreateKey in eu-west-1", "audit-rotation-id=r-2026-05-01 may exist", "running this again finds it")
	if n := s.Count("CreateKey"); n != 1 {
		t.Errorf("CreateKey was sent %d times", n)
	}
	s.SetFault(nil)
	made, err := c.Create(ctx, creation)
	if err != nil || made.New {
		t.Errorf("%+v, %v", made, err)
	}
	wantOne(t, s)
}

func TestCreateEndsWithItsContext(t *testing.T) {
	s, c := setup(t, kmstest.Options{Fault: kmstest.Script(kmstest.Step{Operation: "CreateKey", Fault: kmstest.Fault{Delay: time.Minute, Applied: true}})})
	killed, kill := context.WithCancel(ctx)
	go func() {
		for s.Count("CreateKey") == 0 {
			time.Sleep(time.Millisecond)
		}
		kill()
	}()
	_, err := c.Create(killed, creation)
	wantError(t, err, 3, "KMS CreateKey", "may exist all the same")
	made, err := c.Create(ctx, creation)
	if err != nil || made.New {
		t.Errorf("%+v, %v", made, err)
	}
	wantOne(t, s)
}

// A run that was killed at any of its calls is followed by one that finishes.
func TestCreateAfterAKillAtEveryCall(t *testing.T) {
	for n := int32(1); ; n++ {
		var calls atomic.Int32
		killed, kill := context.WithCancel(ctx)
		s, c := setup(t, kmstest.Options{Fault: func(string, *http.Request) *kmstest.Fault {
			if calls.Add(1) != n {
				return nil
			}
			kill()
			return &kmstest.Fault{Applied: true, Drop: true}
		}})
		_, err := c.Create(killed, creation)
		kill()
		if err == nil {
			if n < 6 {
				t.Errorf("Create makes only %d calls", n-1)
			}
			break
		}
		if _, err := c.Create(ctx, creation); err != nil {
			t.Errorf("after a kill at call %d: %v", n, err)
		}
		wantOne(t, s)
	}
}

func TestCreateAdoptsTaggedKeys(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 5, d, 0, 0, 0, 0, time.UTC) }
	tag := map[string]string{"audit-rotation-id": creation.RotationID}
	ed := func(created time.Time) kmstest.Key {
		return kmstest.Key{Spec: creation.Spec, Usage: "SIGN_VERIFY", Created: created, Tags: tag}
	}
	other := func(k kmstest.Key, change func(*kmstest.Key)) kmstest.Key { change(&k); return k }
	for name, c1 := range map[string]struct {
		keys    []kmstest.Key
		adopted int // index of the key, -1 for a new one
	}{
		"the only one":          {[]kmstest.Key{ed(day(1))}, 0},
		"the oldest":            {[]kmstest.Key{ed(day(3)), ed(day(1)), ed(day(2))}, 1},
		"not a disabled one":    {[]kmstest.Key{other(ed(day(1)), func(k *kmstest.Key) { k.State = "Disabled" }), ed(day(2))}, 1},
		"not one to be deleted": {[]kmstest.Key{other(ed(day(1)), func(k *kmstest.Key) { k.State = "PendingDeletion" })}, -1},
		"not another spec":      {[]kmstest.Key{other(ed(day(1)), func(k *kmstest.Key) { k.Spec = "RSA_2048" })}, -1},
		"not an imported one":   {[]kmstest.Key{other(ed(day(1)), func(k *kmstest.Key) { k.Origin = "EXTERNAL" })}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := setup(t, kmstest.Options{})
			unrelated := s.Import(kmstest.Key{Spec: creation.Spec, Usage: "SIGN_VERIFY", Tags: map[string]string{"audit-rotation-id": "r-2025", "x": "y"}})
			var arns []string
			for _, k := range c1.keys {
				arns = append(arns, s.Import(k))
			}
			made, err := c.Create(ctx, creation)
			if err != nil {
				t.Fatal(err)
			}
			if c1.adopted >= 0 {
				if made.New || made.Key.ARN != arns[c1.adopted] {
					t.Errorf("took %+v, want key %d of %v", made, c1.adopted, arns)
				}
				arns = slices.Delete(arns, c1.adopted, c1.adopted+1)
			} else if !made.New || slices.Contains(arns, made.Key.ARN) {
				t.Errorf("took %+v, want a new key", made)
			}
			orphans := slices.Sorted(slices.Values(made.Orphans))
			if slices.Sort(arns); !slices.Equal(orphans, arns) {
				t.Errorf("orphans %v, want %v", orphans, arns)
			}
			if s.Aliases()[creationAlias] != made.Key.ARN || made.Key.ARN == unrelated {
				t.Errorf("aliases %v", s.Aliases())
			}
		})
	}
}

func TestCreateDistrustsAForeignAlias(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	arn := s.Import(kmstest.Key{Spec: creation.Spec, Usage: "SIGN_VERIFY", Aliases: []string{creationAlias}})
	_, err := c.Create(ctx, creation)
	wantError(t, err, 2, creationAlias, arn, "lacks the tag")
}

func TestCreateDenied(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	locked := s.Import(kmstest.Key{Spec: "RSA_2048"})
	// Nobody can read anything: an earlier run's key could be among them.
	s.Deny("ListResourceTags")
	_, err := c.Create(ctx, creation)
	wantError(t, err, 3, "AccessDeniedException", "allow kms:ListResourceTags")
	if len(s.Keys()) != 1 {
		t.Error("a key was made")
	}
	// Somebody else's locked key is passed over.
	s.Import(kmstest.Key{Spec: "RSA_2048"})
	s.Deny("ListResourceTags", locked)
	if _, err := c.Create(ctx, creation); err != nil {
		t.Error(err)
	}
	s.Deny("CreateKey")
	next := creation
	next.RotationID = "r-next"
	_, err = c.Create(ctx, next)
	wantError(t, err, 3, "KMS CreateKey in eu-west-1: AccessDeniedException", "allow kms:CreateKey")
	s.Allow("CreateKey")
	s.SetFault(kmstest.Script(kmstest.Step{Operation: "CreateKey", Fault: kmstest.Fault{
		Code: "AccessDeniedException", Message: "User: x is not authorized to perform: kms:TagResource because",
	}}))
	_, err = c.Create(ctx, next)
	wantError(t, err, 3, "KMS CreateKey in eu-west-1: AccessDeniedException", "allow kms:TagResource")
	s.SetFault(kmstest.Script(kmstest.Step{Operation: "CreateKey", Fault: kmstest.Fault{Code: "LimitExceededException"}}))
	before := s.Count("CreateKey")
	_, err = c.Create(ctx, next)
	wantError(t, err, 3, "LimitExceededException", "higher quota")
	if n := s.Count("CreateKey") - before; n != 1 {
		t.Errorf("a quota was tried against %d times", n)
	}
	s.SetFault(nil)
	s.Deny("CreateAlias")
	_, err = c.Create(ctx, next)
	wantError(t, err, 3, "KMS CreateAlias of", "allow kms:CreateAlias")
	s.Allow("CreateAlias")
	made, err := c.Create(ctx, next)
	if err != nil || made.New {
		t.Errorf("%+v, %v", made, err)
	}
	if n := len(s.Keys()); n != 4 {
		t.Errorf("%d keys, want 4: two of others and one of each rotation", n)
	}
}

// Runs at the same time agree on one key. Each of them may have made one, which
// is then an orphan that somebody is told of.
func TestCreateInParallel(t *testing.T) {
	s, _ := setup(t, kmstest.Options{})
	const runs = 5
	results := make([]awskms.Created, runs)
	errs := make([]error, runs)
	var wg sync.WaitGroup
	for i := range runs {
		c := client(t)
		wg.Go(func() { results[i], errs[i] = c.Create(ctx, creation) })
	}
	wg.Wait()
	winner, told := s.Aliases()[creationAlias], map[string]bool{}
	for i, r := range results {
		if errs[i] != nil || r.Key.ARN != winner {
			t.Errorf("run %d: %+v, %v", i, r, errs[i])
		}
		for _, o := range r.Orphans {
			told[o] = true
		}
	}
	for _, arn := range s.Keys() {
		if arn != winner && !told[arn] {
			t.Errorf("nobody is told of %s", arn)
		}
	}
	if told[winner] {
		t.Error("the rotation's key is called an orphan")
	}
}

// An account with many keys and tags is read to its end.
func TestCreateReadsAllPages(t *testing.T) {
	s, c := setup(t, kmstest.Options{})
	for range 1001 {
		s.Import(kmstest.Key{})
	}
	tags := map[string]string{"audit-rotation-id": creation.RotationID}
	for i := range 49 {
		tags[fmt.Sprintf("a-%d", i)] = "x"
	}
	arn := s.Import(kmstest.Key{Spec: creation.Spec, Usage: "SIGN_VERIFY", Tags: tags})
	made, err := c.Create(ctx, creation)
	if err != nil || made.New || made.Key.ARN != arn {
		t.Errorf("%+v, %v", made, err)
	}
}

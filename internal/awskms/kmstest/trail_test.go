package kmstest_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
)

func TestTrailRecords(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := start(t, kmstest.Options{Now: func() time.Time { return now }})
	key := s.Import(kmstest.Key{Material: rsa2048(), Aliases: []string{"alias/signer"}})
	in := signRSA("alias/signer", "DIGEST", digest[:])
	want(t, call(t, s, "Sign", in), "")
	in["DryRun"] = true
	want(t, call(t, s, "Sign", in), "DryRunOperationException")
	want(t, call(t, s, "DisableKey", m{"KeyId": key}), "")
	want(t, call(t, s, "Sign", signRSA(key, "DIGEST", digest[:])), "DisabledException")
	s.Deny("Sign")
	want(t, call(t, s, "Sign", signRSA(key, "DIGEST", digest[:])), "AccessDeniedException")

	events := lookup(t, s, "ResourceName", key)
	type record struct {
		EventSource, EventName, EventID, EventTime, ErrorCode string
		ReadOnly                                              bool
		RequestParameters                                     map[string]any
		UserIdentity                                          struct{ Arn string }
		Resources                                             []struct{ ARN string }
	}
	var got []string
	for _, e := range events {
		var r record
		if err := json.Unmarshal([]byte(e["CloudTrailEvent"].(string)), &r); err != nil {
			t.Fatal(err)
		}
		if r.EventID != e["EventId"] || r.EventSource != "kms.amazonaws.com" || r.EventTime != "2026-05-01T12:00:00Z" ||
			r.Resources[0].ARN != key || r.UserIdentity.Arn != "arn:aws:iam::111122223333:user/AKIATEST" {
			t.Errorf("record is %+v", r)
		}
		if _, ok := r.RequestParameters["message"]; ok {
			t.Error("the message is logged")
		}
		p := r.RequestParameters
		got = append(got, fmt.Sprintf("%s %t %v %v %v %v %s", r.EventName, r.ReadOnly, p["keyId"], p["messageType"], p["signingAlgorithm"], p["dryRun"], r.ErrorCode))
	}
	wanted := []string{
		"Sign true " + key + " DIGEST RSASSA_PKCS1_V1_5_SHA_256 <nil> DisabledException",
		"DisableKey false " + key + " <nil> <nil> <nil> ",
		"Sign true alias/signer DIGEST RSASSA_PKCS1_V1_5_SHA_256 true DryRunOperationException",
		"Sign true alias/signer DIGEST RSASSA_PKCS1_V1_5_SHA_256 <nil> ",
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("events are\n%q, want\n%q", got, wanted)
	}
	// The denied call is on record, but not under the key.
	if n := len(lookup(t, s, "EventName", "Sign")); n != 4 {
		t.Errorf("%d Sign events, want 4", n)
	}
}

func TestTrailLookupAttributes(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	want(t, call(t, s, "CreateAlias", m{"AliasName": "alias/x", "TargetKeyId": key}), "")
	want(t, call(t, s, "DescribeKey", m{"KeyId": key}), "")
	for attribute, n := range map[[2]string]int{
		{"ResourceName", key}: 2,
		{"ResourceName", "arn:aws:kms:eu-west-1:111122223333:alias/x"}: 1,
		{"ResourceName", "x"}:                0,
		{"ResourceType", "AWS::KMS::Alias"}:  1,
		{"EventName", "DescribeKey"}:         1,
		{"EventSource", "kms.amazonaws.com"}: 2,
		{"EventSource", "s3.amazonaws.com"}:  0,
		{"ReadOnly", "true"}:                 1,
		{"Username", "AKIATEST"}:             2,
		{"AccessKeyId", "AKIATEST"}:          2,
		{"EventId", "no such event"}:         0,
	} {
		if events := lookup(t, s, attribute[0], attribute[1]); len(events) != n {
			t.Errorf("%v finds %d events, want %d", attribute, len(events), n)
		}
	}
	one := []m{{"AttributeKey": "EventName", "AttributeValue": "Sign"}}
	for _, c := range []struct {
		in   m
		code string
	}{
		{m{"LookupAttributes": append(one, one...)}, "InvalidLookupAttributesException"},
		{m{"LookupAttributes": []m{{"AttributeKey": "Region", "AttributeValue": "x"}}}, "InvalidLookupAttributesException"},
		{m{"LookupAttributes": []m{{"AttributeKey": "EventName", "AttributeValue": ""}}}, "InvalidLookupAttributesException"},
		{m{"MaxResults": 0}, "InvalidMaxResultsException"},
		{m{"MaxResults": 51}, "InvalidMaxResultsException"},
		{m{"NextToken": "bogus"}, "InvalidNextTokenException"},
		{m{"StartTime": 2, "EndTime": 1}, "InvalidTimeRangeException"},
		{m{"EventCategory": "management"}, "InvalidEventCategoryException"},
		{m{"EventCategory": "insight"}, ""},
		{m{"KeyId": key}, "SerializationException"},
	} {
		want(t, call(t, s, "LookupEvents", c.in), c.code)
	}
}

func TestTrailTime(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	start0 := now
	s := start(t, kmstest.Options{Now: func() time.Time { return now }, TrailDelay: 15 * time.Minute})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	want(t, call(t, s, "DescribeKey", m{"KeyId": key}), "")
	now = start0.Add(time.Hour)
	want(t, call(t, s, "DescribeKey", m{"KeyId": key}), "")
	count := func(from, to time.Time) int {
		r := call(t, s, "LookupEvents", m{"StartTime": from.Unix(), "EndTime": to.Unix()})
		want(t, r, "")
		return len(r.body["Events"].([]any))
	}
	if n := count(start0, now); n != 1 {
		t.Errorf("%d events, want 1: the second is not delivered yet", n)
	}
	now = now.Add(15 * time.Minute)
	for _, c := range []struct {
		from, to time.Time
		n        int
	}{
		{start0, now, 2},
		{start0.Add(time.Second), now, 1},
		{start0, start0, 1},
		{start0.Add(-time.Hour), start0.Add(-time.Second), 0},
	} {
		if n := count(c.from, c.to); n != c.n {
			t.Errorf("%v to %v: %d events, want %d", c.from, c.to, n, c.n)
		}
	}
	now = start0.AddDate(0, 0, 90).Add(time.Minute)
	if n := count(start0.AddDate(0, 0, -1), now); n != 1 {
		t.Errorf("%d events, want 1: the first is older than 90 days", n)
	}
}

func TestTrailPages(t *testing.T) {
	s := start(t, kmstest.Options{})
	key := s.Import(kmstest.Key{Material: rsa2048()})
	for range 7 {
		want(t, call(t, s, "DescribeKey", m{"KeyId": key}), "")
	}
	in := m{"MaxResults": 3, "LookupAttributes": []m{{"AttributeKey": "ResourceName", "AttributeValue": key}}}
	seen := map[any]bool{}
	for pages := 1; ; pages++ {
		r := call(t, s, "LookupEvents", in)
		want(t, r, "")
		for _, e := range r.body["Events"].([]any) {
			seen[e.(map[string]any)["EventId"]] = true
		}
		if r.body["NextToken"] == nil {
			if len(seen) != 7 || pages != 3 {
				t.Errorf("%d events on %d pages, want 7 on 3", len(seen), pages)
			}
			break
		}
		// New events between two pages do not shift the rest.
		want(t, call(t, s, "DescribeKey", m{"KeyId": key}), "")
		in["NextToken"] = r.body["NextToken"]
	}
	in["MaxResults"] = 4
	want(t, call(t, s, "LookupEvents", in), "InvalidNextTokenException")
}

func TestTrailThrottles(t *testing.T) {
	s := start(t, kmstest.Options{TrailPerSecond: 2})
	codes := map[string]int{}
	for range 50 {
		codes[call(t, s, "LookupEvents", m{}).code]++
	}
	if codes[""] < 2 || codes["ThrottlingException"] == 0 {
		t.Errorf("50 calls at once are answered with %v", codes)
	}
}

// lookup returns the events with an attribute, the most recent first.
func lookup(t *testing.T, s *kmstest.Server, attribute, value string) []map[string]any {
	t.Helper()
	r := call(t, s, "LookupEvents", m{"LookupAttributes": []m{{"AttributeKey": attribute, "AttributeValue": value}}})
	want(t, r, "")
	var events []map[string]any
	for _, e := range r.body["Events"].([]any) {
		events = append(events, e.(map[string]any))
	}
	return events
}

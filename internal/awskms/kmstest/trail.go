package kmstest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is one recorded call.
type event struct {
	id, name, user, accessKey string
	at                        time.Time
	readOnly                  bool
	resources                 []resource
	record                    string // the event as JSON text
}

type resource struct {
	AccountID string `json:"accountId"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

// written are the operations that change something; all others are read-only
// events, Sign and GenerateMac among them.
var written = []string{"CreateAlias", "CreateKey", "DisableKey", "EnableKey", "TagResource"}

// unlogged are request members that KMS keeps out of its log entries.
var unlogged = []string{"Message", "Signature", "Mac", "GrantTokens"}

// record adds a call to the trail. A denied call names neither parameters nor
// resources.
func (s *Server) record(c *call, failure error) {
	e := event{
		id:        uuid(),
		name:      c.operation,
		user:      c.principal[strings.LastIndexByte(c.principal, '/')+1:],
		accessKey: c.accessKey,
		at:        s.options.Now().UTC().Truncate(time.Second),
		readOnly:  !slices.Contains(written, c.operation),
	}
	record := map[string]any{
		"eventVersion": "1.11",
		"userIdentity": map[string]any{
			"type": "IAMUser", "arn": c.principal, "accountId": s.options.Account,
			"userName": e.user, "accessKeyId": c.accessKey,
		},
		"eventTime":          e.at.Format(time.RFC3339),
		"eventSource":        "kms.amazonaws.com",
		"eventName":          e.name,
		"awsRegion":          s.options.Region,
		"requestParameters":  nil,
		"responseElements":   nil,
		"requestID":          uuid(),
		"eventID":            e.id,
		"readOnly":           e.readOnly,
		"eventType":          "AwsApiCall",
		"managementEvent":    true,
		"recipientAccountId": s.options.Account,
		"eventCategory":      "Management",
	}
	if !c.anonymous {
		e.resources = c.resources()
		record["resources"] = e.resources
		record["requestParameters"] = c.parameters()
	}
	if failure != nil {
		record["errorCode"] = code(failure)
		if code(failure) == "AccessDeniedException" {
			record["errorCode"] = "AccessDenied"
		}
		record["errorMessage"] = asAWS(failure).message
	}
	text, _ := json.Marshal(record)
	e.record = string(text)
	s.events = append(s.events, e)
}

func (c *call) resources() []resource {
	account := c.server.options.Account
	list := []resource{}
	if c.key != nil {
		list = append(list, resource{account, "AWS::KMS::Key", c.key.arn})
	}
	var in struct{ AliasName string }
	if json.Unmarshal(c.body, &in); in.AliasName != "" {
		list = append(list, resource{account, "AWS::KMS::Alias", c.server.arn(in.AliasName)})
	}
	return list
}

// parameters are the request's members in the log's spelling.
func (c *call) parameters() map[string]any {
	var members map[string]any
	json.Unmarshal(c.body, &members)
	logged := map[string]any{}
	for name, value := range members {
		if !slices.Contains(unlogged, name) {
			logged[strings.ToLower(name[:min(1, len(name))])+name[min(1, len(name)):]] = value
		}
	}
	if c.operation == "Sign" || c.operation == "Verify" {
		if _, ok := logged["messageType"]; !ok {
			logged["messageType"] = "RAW"
		}
	}
	return logged
}

// attributes are the lookup attributes, each with its test.
var attributes = map[string]func(event, string) bool{
	"AccessKeyId": func(e event, v string) bool { return e.accessKey == v },
	"EventId":     func(e event, v string) bool { return e.id == v },
	"EventName":   func(e event, v string) bool { return e.name == v },
	"EventSource": func(e event, v string) bool { return v == "kms.amazonaws.com" },
	"ReadOnly":    func(e event, v string) bool { return strconv.FormatBool(e.readOnly) == v },
	"Username":    func(e event, v string) bool { return e.user == v },
	"ResourceName": func(e event, v string) bool {
		return slices.ContainsFunc(e.resources, func(r resource) bool { return r.ARN == v })
	},
	"ResourceType": func(e event, v string) bool {
		return slices.ContainsFunc(e.resources, func(r resource) bool { return r.Type == v })
	},
}

type lookup struct {
	EndTime, StartTime *float64
	EventCategory      *string
	LookupAttributes   []struct{ AttributeKey, AttributeValue string }
	MaxResults         *int
	NextToken          *string
}

func lookupEvents(c *call) (any, error) {
	s := c.server
	if s.throttled() {
		return nil, fail("ThrottlingException", "Rate exceeded")
	}
	var in lookup
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	matches, err := in.filter(s.options.Now(), s.options.TrailDelay)
	if err != nil {
		return nil, err
	}
	most := 50
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	if most < 1 || most > 50 {
		return nil, fail("InvalidMaxResultsException", "MaxResults is %d, must be between 1 and 50", most)
	}
	at, err := in.position(len(s.events))
	if err != nil {
		return nil, err
	}
	found := []map[string]any{}
	for at--; at >= 0; at-- { // the most recent event first
		e := s.events[at]
		if !matches(e) {
			continue
		}
		if len(found) == most {
			return map[string]any{"Events": found, "NextToken": in.token(at + 1)}, nil
		}
		found = append(found, e.answer())
	}
	return map[string]any{"Events": found}, nil
}

func (e event) answer() map[string]any {
	resources := []map[string]string{}
	for _, r := range e.resources {
		resources = append(resources, map[string]string{"ResourceType": r.Type, "ResourceName": r.ARN})
	}
	return map[string]any{
		"EventId": e.id, "EventName": e.name, "EventTime": seconds(e.at),
		"EventSource": "kms.amazonaws.com", "Username": e.user,
		"ReadOnly": strconv.FormatBool(e.readOnly), "AccessKeyId": e.accessKey,
		"Resources": resources, "CloudTrailEvent": e.record,
	}
}

// filter checks the question and returns a test for the events that answer it.
func (in lookup) filter(now time.Time, delay time.Duration) (func(event) bool, error) {
	if len(in.LookupAttributes) > 1 {
		return nil, fail("InvalidLookupAttributesException", "Only one lookup attribute can be specified")
	}
	test := func(event) bool { return true }
	for _, a := range in.LookupAttributes {
		is, ok := attributes[a.AttributeKey]
		if !ok || a.AttributeValue == "" || len(a.AttributeValue) > 2000 {
			return nil, fail("InvalidLookupAttributesException", "%s=%s is no lookup attribute", a.AttributeKey, a.AttributeValue)
		}
		test = func(e event) bool { return is(e, a.AttributeValue) }
	}
	if in.EventCategory != nil && *in.EventCategory != "insight" {
		return nil, fail("InvalidEventCategoryException", "%s is no event category", *in.EventCategory)
	}
	from, to := now.AddDate(0, 0, -90), now
	if in.StartTime != nil && instant(*in.StartTime).After(from) {
		from = instant(*in.StartTime)
	}
	if in.EndTime != nil {
		to = instant(*in.EndTime)
	}
	if in.StartTime != nil && instant(*in.StartTime).After(to) {
		return nil, fail("InvalidTimeRangeException", "StartTime is after EndTime")
	}
	return func(e event) bool {
		return in.EventCategory == nil && test(e) &&
			!e.at.Before(from) && !e.at.After(to) && !e.at.Add(delay).After(now)
	}, nil
}

func instant(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

// A token is where the next page begins, bound to the other parameters.

func (in lookup) token(at int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d:%s", at, in.fingerprint()))
}

func (in lookup) position(end int) (int, error) {
	if in.NextToken == nil {
		return end, nil
	}
	text, _ := base64.StdEncoding.DecodeString(*in.NextToken)
	at, of, _ := strings.Cut(string(text), ":")
	n, err := strconv.Atoi(at)
	if err != nil || n < 0 || n > end || of != in.fingerprint() {
		return 0, fail("InvalidNextTokenException", "The token is invalid or was used with other parameters")
	}
	return n, nil
}

func (in lookup) fingerprint() string {
	in.NextToken = nil
	text, _ := json.Marshal(in)
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// throttled counts a LookupEvents call against the limit.
func (s *Server) throttled() bool {
	if s.options.TrailPerSecond == 0 {
		return false
	}
	now := time.Now()
	s.lookups = slices.DeleteFunc(s.lookups, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(s.lookups) >= s.options.TrailPerSecond {
		return true
	}
	s.lookups = append(s.lookups, now)
	return false
}

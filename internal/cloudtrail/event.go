package cloudtrail

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
)

// record is the part of an event record that matters here (AWS CloudTrail User
// Guide, "CloudTrail record contents").
type record struct {
	EventID           string
	EventTime         time.Time
	ErrorCode         string
	UserIdentity      struct{ Arn, InvokedBy, PrincipalID string }
	RequestParameters struct{ DryRun bool }
	Resources         []struct{ ARN string }
}

// read takes a use out of an event; ok is false for events of another kind or
// another key. The request names the key as the caller did, perhaps by an alias,
// so that only the resources say which key it was.
func read(e types.Event, keyARN string) (use Use, ok bool, err error) {
	name := aws.ToString(e.EventName)
	if name != "Sign" && name != "GenerateMac" || aws.ToString(e.EventSource) != "kms.amazonaws.com" {
		return Use{}, false, nil
	}
	var r record
	if err := json.Unmarshal([]byte(aws.ToString(e.CloudTrailEvent)), &r); err != nil {
		return Use{}, false, fmt.Errorf("event %q has an unreadable record (%v)", aws.ToString(e.EventId), err)
	}
	if r.EventID == "" || r.EventTime.IsZero() {
		return Use{}, false, fmt.Errorf("event %q has a record without id or time", aws.ToString(e.EventId))
	}
	if !concerns(e, r, keyARN) {
		return Use{}, false, nil
	}
	return Use{
		Time:      r.EventTime,
		EventID:   r.EventID,
		User:      cmp.Or(r.UserIdentity.Arn, r.UserIdentity.InvokedBy, r.UserIdentity.PrincipalID, aws.ToString(e.Username)),
		ErrorCode: r.ErrorCode,
		DryRun:    r.RequestParameters.DryRun,
	}, true, nil
}

// concerns tells whether the event's record, or CloudTrail's index of it, lists
// the key.
func concerns(e types.Event, r record, keyARN string) bool {
	for _, resource := range r.Resources {
		if resource.ARN == keyARN {
			return true
		}
	}
	for _, resource := range e.Resources {
		if aws.ToString(resource.ResourceName) == keyARN {
			return true
		}
	}
	return false
}

package cloudtrail

import (
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
)

// Error is a question that could not be asked or answered, on one line.
type Error struct {
	message string
	exit    int
	err     error
}

// Error returns the message.
func (e *Error) Error() string { return e.message }

// Unwrap returns the SDK's error.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is 2 where the question is wrong, 3 where CloudTrail could not or
// would not answer it.
func (e *Error) ExitCode() int { return e.exit }

// fail turns the SDK's error of a request into an *Error.
func (q Query) fail(region string, err error) *Error {
	reason, todo := awsapi.Explain(err, "AWS_ENDPOINT_URL_CLOUDTRAIL", advise)
	return &Error{fmt.Sprintf("CloudTrail LookupEvents for %q in %s: %s; %s", q.KeyARN, region, reason, todo), 3, err}
}

// advise says what to do about an error of AWS (API Reference, LookupEvents and
// Common Errors).
func advise(code string) string {
	switch {
	case strings.HasPrefix(code, "AccessDenied"):
		return "allow cloudtrail:LookupEvents for this role"
	case awsapi.Throttled(code):
		return "others in this account ask CloudTrail too: run this again in a minute"
	case code == "InvalidTimeRangeException":
		return "check the times of the window"
	}
	return "check the AWS credentials of this job; if it stays, see " + code + " in the AWS CloudTrail API Reference"
}

// refuse is a wrong question, with exit code 2.
func (q Query) refuse(reason string) *Error {
	return &Error{fmt.Sprintf("CloudTrail for key %q: %s", q.KeyARN, reason), 2, nil}
}

// doubt is an answer that cannot be relied on, with exit code 3.
func (q Query) doubt(reason string) *Error {
	return &Error{fmt.Sprintf("CloudTrail LookupEvents for %q: %s", q.KeyARN, awsapi.OneLine(reason)), 3, nil}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

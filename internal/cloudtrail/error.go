package cloudtrail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
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
	var api smithy.APIError
	var reason, todo string
	switch {
	case strings.Contains(err.Error(), "get identity"):
		reason = "no usable AWS credentials: " + rootCause(err)
		todo = "give this job credentials, for example with aws-actions/configure-aws-credentials, and check the role's trust policy"
	case errors.As(err, &api):
		reason = api.ErrorCode() + ": " + api.ErrorMessage()
		todo = advise(api.ErrorCode())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		reason = "stopped before the answer was whole (" + rootCause(err) + ")"
		todo = "run this again, with more time or a shorter window"
	default:
		reason = "no usable answer: " + rootCause(err)
		todo = "check the network and AWS_ENDPOINT_URL_CLOUDTRAIL, then run this again"
	}
	var tried *retry.MaxAttemptsError
	if errors.As(err, &tried) {
		reason += fmt.Sprintf(" (%d attempts)", tried.Attempt)
	}
	if spent, ok := errors.AsType[*patience.Spent](err); ok {
		reason += "; " + spent.Due()
		todo = "run this again later"
	}
	return &Error{fmt.Sprintf("CloudTrail LookupEvents for %q in %s: %s; %s", q.KeyARN, region, oneLine(reason), todo), 3, err}
}

// advise says what to do about an error of AWS (API Reference, LookupEvents and
// Common Errors).
func advise(code string) string {
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case strings.HasPrefix(code, "AccessDenied"):
		return "allow cloudtrail:LookupEvents for this role"
	case throttled:
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
	return &Error{fmt.Sprintf("CloudTrail LookupEvents for %q: %s", q.KeyARN, oneLine(reason)), 3, nil}
}

// cutOff lets the SDK try again when an answer ends in its middle.
func cutOff(err error) aws.Ternary {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// rootCause is the innermost text of an error, without the address that was
// asked.
func rootCause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// oneLine keeps what a server says to one line of bearable length.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 600 {
		s = strings.ToValidUTF8(s[:600], "") + "…"
	}
	return strings.TrimRight(s, ".")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

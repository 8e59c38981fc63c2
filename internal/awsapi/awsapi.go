// Package awsapi is what the adapters of AWS services have in common: settings
// and retries of a client, how a request is sent, and what is to be said and done
// about an error.
//
// It calls nobody itself. Credentials stay within the SDK: no text made here
// holds one, or the address that was asked.
package awsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// Patience is what a client puts up with.
type Patience struct {
	// Attempts is how often one call is tried at most.
	Attempts int
	// Backoff is the longest pause between two attempts.
	Backoff time.Duration
	// Timeout ends one attempt.
	Timeout time.Duration
}

// Config reads the SDK's standard chain of settings (AWS SDKs and Tools Reference
// Guide). Retries draw on the context's budget ([patience.From]). The error is
// one line and says what to do.
func Config(ctx context.Context, region string, p Patience) (aws.Config, error) {
	budget := patience.From(ctx)
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(region),
		config.WithLogger(logging.Nop{}), // the SDK's own is standard error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(p.Timeout)),
		config.WithRetryer(func() aws.Retryer {
			return patient{retry.NewStandard(func(s *retry.StandardOptions) {
				s.MaxAttempts, s.MaxBackoff = p.Attempts, p.Backoff
				s.Retryables = append(s.Retryables, retry.IsErrorRetryableFunc(cutOff))
			}), budget}
		}))
	if err != nil {
		err = fmt.Errorf("the AWS settings cannot be read: %s; check AWS_PROFILE and the AWS configuration files", OneLine(err.Error()))
	}
	return cfg, err
}

// cutOff lets the SDK try again when an answer ends in its middle.
func cutOff(err error) aws.Ternary {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// patient lets the SDK's retries draw on the run's budget.
type patient struct {
	aws.RetryerV2
	budget *patience.Budget
}

// RetryDelay is the pause before the next attempt, or a [patience.Spent].
func (p patient) RetryDelay(attempt int, err error) (time.Duration, error) {
	d, failed := p.RetryerV2.RetryDelay(attempt, err)
	if failed == nil {
		failed = p.budget.Pause(d, err)
	}
	return d, failed
}

// Sender wraps a service client's HTTP client.
func Sender(ctx context.Context, c aws.HTTPClient) aws.HTTPClient {
	return sender{c, patience.From(ctx)}
}

// sender gives net/http the request's body as plain bytes. The SDK's own wrapper
// is closed as soon as the answer begins, and a read after that is an error, for
// which net/http cuts the connection while the answer is still coming in
// (github.com/aws/aws-sdk-go-v2, issue 2737).
type sender struct {
	aws.HTTPClient
	budget *patience.Budget
}

// Do sends the request, and counts what a failed one took.
func (s sender) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	begun := time.Now()
	res, err := s.HTTPClient.Do(r)
	if err != nil || res.StatusCode >= http.StatusInternalServerError {
		s.budget.Took(time.Since(begun))
	}
	return res, err
}

// Explain gives the reason of the SDK's error, on one line, and what to do about
// it. endpoint is the variable that may lead a service's calls elsewhere; advise
// answers for the service's own errors, by AWS's name.
func Explain(err error, endpoint string, advise func(code string) string) (reason, todo string) {
	var api smithy.APIError
	switch {
	case WithoutCredentials(err):
		reason = "no usable AWS credentials: " + rootCause(err)
		todo = "give this job credentials, for example with aws-actions/configure-aws-credentials, and check the role's trust policy"
	case errors.As(err, &api):
		reason, todo = api.ErrorCode()+": "+api.ErrorMessage(), advise(api.ErrorCode())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		reason = "stopped before the answer was whole (" + rootCause(err) + ")"
		todo = "run this again, with more time if it ran out"
	default:
		reason = "no usable answer: " + rootCause(err)
		todo = "check the network and " + endpoint + ", then run this again"
	}
	var tried *retry.MaxAttemptsError
	if errors.As(err, &tried) {
		reason += fmt.Sprintf(" (%d attempts)", tried.Attempt)
	}
	if spent, ok := errors.AsType[*patience.Spent](err); ok {
		reason, todo = reason+"; "+spent.Due(), "run this again later"
	}
	return OneLine(reason), todo
}

// WithoutCredentials tells that nothing was sent, for lack of an identity.
func WithoutCredentials(err error) bool { return strings.Contains(err.Error(), "get identity") }

// Is tells whether err is AWS's error of that name.
func Is(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// Throttled tells whether the name is one of those that ask for fewer requests.
func Throttled(code string) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code]
	return ok && code != "LimitExceededException" // a quota, not a rate
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

// OneLine keeps what a server says to one line of bearable length.
func OneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 600 {
		s = strings.ToValidUTF8(s[:600], "") + "…"
	}
	return strings.TrimRight(s, ".")
}

package awskms

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/aws/aws-sdk-go-v2/aws"
)

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

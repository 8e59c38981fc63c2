package awskms

import (
	"bytes"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// sender gives net/http the request's body as plain bytes. The SDK's own wrapper
// is closed as soon as the answer begins, and a read after that is an error, for
// which net/http cuts the connection while the answer is still coming in
// (github.com/aws/aws-sdk-go-v2, issue 2737).
type sender struct{ aws.HTTPClient }

// Do sends the request.
func (s sender) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return s.HTTPClient.Do(r)
}

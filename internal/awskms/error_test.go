package awskms

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Whether a failed CreateKey may have made a key decides between making one and
// searching: a wrong "no" makes two keys.
func TestApplied(t *testing.T) {
	status := func(n int) error {
		return &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: n}},
			Err:      &smithy.GenericAPIError{Code: "SomeException"},
		}
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"refused", status(400), false},
		{"denied", status(403), false},
		{"too many requests", status(429), false},
		{"request timeout", status(408), true},
		{"internal error", status(500), true},
		{"gateway timeout", status(504), true},
		{"an answer that cannot be read", status(200), true},
		{"reset", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		{"not connected", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, false},
		{"no credentials", errors.New("get identity: get credentials: none"), false},
		{"anything else", errors.New("unexpected"), true},
	} {
		if got := applied(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

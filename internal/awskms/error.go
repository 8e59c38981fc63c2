package awskms

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Error is a failure of one call of KMS, or of a check in this package.
type Error struct {
	// Code is AWS's name of the error, such as NotFoundException; empty when
	// it was not KMS that refused.
	Code string
	// Message is one line: the call, the key, the Region, the reason, and
	// what to do next.
	Message string

	exit int
	err  error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the SDK's error.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is 2 where the key or the settings are wrong, 3 where KMS could not
// or would not answer, and 1 where possession of a key is not proven.
func (e *Error) ExitCode() int { return e.exit }

// advice is what to do about an error of AWS. The names stand in the AWS KMS
// API Reference under each operation and under Common Errors.
type advice struct {
	exit int
	text string
}

// missingAction finds the permission in the text of an AccessDeniedException.
var missingAction = regexp.MustCompile(`not authorized to perform: (kms:[A-Za-z]+)`)

var credentials = advice{3, "check the AWS credentials of this job, the role's trust policy and the machine's clock"}

var advices = map[string]advice{
	"NotFoundException":             {2, "check kms-key-id, the account and the Region"},
	"InvalidArnException":           {2, "check kms-key-id"},
	"ValidationException":           {2, "check kms-key-id and the other inputs"},
	"InvalidKeyUsageException":      {2, "choose a key whose spec and usage fit the algorithm"},
	"UnsupportedOperationException": {2, "choose a key whose spec allows this"},
	"DisabledException":             {3, "enable the key, or wait until it is"},
	"KMSInvalidStateException":      {3, "look at the key's state with DescribeKey"},
	"LimitExceededException":        {3, "ask AWS for a higher quota, or remove what is not needed"},
	"KeyUnavailableException":       {3, "run this again in a minute"},
	"KMSInternalException":          {3, "run this again in a minute"},
	"DependencyTimeoutException":    {3, "run this again in a minute"},

	"ExpiredTokenException":               credentials,
	"IncompleteSignatureException":        credentials,
	"InvalidIdentityToken":                credentials,
	"InvalidSignatureException":           credentials,
	"MissingAuthenticationTokenException": credentials,
	"UnrecognizedClientException":         credentials,
}

// fail turns the SDK's error of one operation into an *Error.
func (t target) fail(operation string, err error) *Error {
	e := &Error{exit: 3, err: err}
	var api smithy.APIError
	if errors.As(err, &api) {
		e.Code = api.ErrorCode()
	}
	reason, todo := awsapi.Explain(err, "AWS_ENDPOINT_URL_KMS", func(string) string { return e.advise(operation) })
	if _, ok := errors.AsType[*patience.Spent](err); ok {
		e.exit = 3
	}
	e.Message = t.name(operation) + ": " + reason + "; " + todo
	return e
}

// advise sets the exit code for e.Code and says what to do.
func (e *Error) advise(operation string) string {
	if strings.HasPrefix(e.Code, "AccessDenied") {
		action := "kms:" + operation
		if m := missingAction.FindStringSubmatch(e.err.Error()); m != nil {
			action = m[1] // CreateKey with tags also needs kms:TagResource
		}
		return "allow " + action + " for this role, in its IAM policy and in the key policy"
	}
	if awsapi.Throttled(e.Code) {
		return "KMS is throttling this account: run this again in a minute"
	}
	if a, ok := advices[e.Code]; ok {
		e.exit = a.exit
		return a.text
	}
	return "run this again; if it stays, see " + e.Code + " in the AWS KMS API Reference"
}

// refuse is an error found before any call, with exit code 2.
func (t target) refuse(reason string) *Error {
	return &Error{Message: fmt.Sprintf("KMS key %q: %s", t.keyID, reason), exit: 2}
}

// doubt is an answer of KMS that does not make sense, with exit code 3.
func (t target) doubt(operation, reason string) *Error {
	return &Error{Message: t.name(operation) + ": " + reason, exit: 3}
}

func (t target) name(operation string) string {
	if t.keyID == "" {
		return fmt.Sprintf("KMS %s in %s", operation, t.region)
	}
	return fmt.Sprintf("KMS %s of %q in %s", operation, t.keyID, t.region)
}

// applied says whether a call that failed may have been carried out all the
// same: the request may have been sent, and no refusal came back.
func applied(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" || awsapi.WithoutCredentials(err) {
		return false
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		status := answer.HTTPStatusCode()
		return status < 400 || status >= 500 || status == http.StatusRequestTimeout
	}
	return true
}

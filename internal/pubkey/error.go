package pubkey

// The rules under which a key, or the name of an algorithm, is refused.
const (
	RuleMalformed   = "malformed-key"     // not the one encoding of a public key
	RuleUnsupported = "unsupported-key"   // a key of another type, size or form
	RuleWeak        = "weak-key"          // its private half is known or can be computed
	RuleSecret      = "secret-found"      // private key material or a credential
	RuleAlgorithm   = "unknown-algorithm" // not one of the three algorithm names
)

// Error says why a key was refused: Rule is one of the Rule constants, Message one
// line of plain English that holds the reason and what to do next, and no byte of
// the refused text.
type Error struct {
	Rule    string
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ExitCode returns 2: a key was given that cannot be used. A caller that reports
// the refusal as a finding exits with 1 instead.
func (e *Error) ExitCode() int { return 2 }

func refuse(rule, message string) *Error { return &Error{Rule: rule, Message: message} }

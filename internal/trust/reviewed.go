package trust

import (
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// RuleExceptions is broken by a list of exceptions that no verification could
// read; docs/rules.md explains it.
const RuleExceptions = "exceptions-file"

// Reviewed is what audit-exceptions.json holds: findings and lost checkpoints
// that people have looked at and accepted.
type Reviewed struct {
	Exceptions []chain.Exception
	Resets     []checkpoint.Reset
}

var reviewedForm = schemas.Form{Schema: schemas.Exceptions, Is: "a list of exceptions", Else: schemas.Restore}

// ParseReviewed reads audit-exceptions.json.
func ParseReviewed(name string, src []byte) (list Reviewed, err error) {
	err = reviewedForm.Decode(name, src, &list)
	return list, err
}

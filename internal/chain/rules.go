package chain

// The rules of a chain; docs/rules.md explains each with an example.
const (
	RuleBadSignature       = "bad-signature"
	RuleUnsigned           = "unsigned"
	RuleUnknownSigner      = "unknown-signer"
	RuleRetiredSignerUsed  = "retired-signer-used"
	RuleAlgorithmMismatch  = "algorithm-mismatch"
	RuleMalformedPrevHash  = "malformed-prev-hash"
	RuleMalformedSignature = "malformed-signature"
	RuleMissingGenesis     = "missing-genesis"
	RuleSecondGenesis      = "second-genesis"
	RuleMissingLink        = "missing-link"
	RuleFork               = "fork"
	RuleDuplicateEvent     = "duplicate-event"
	RuleHashColumnMismatch = "hash-column-mismatch"
	RuleCheckpointMismatch = "checkpoint-mismatch"
	RuleTruncated          = "truncated"
	RuleEmptyChain         = "empty-chain"
	RuleLossyNumber        = "lossy-number"
	RuleNumberOutOfRange   = "number-out-of-range"
	RuleTimestampOrder     = "timestamp-order"
	RuleMalformedEvent     = "malformed-event"
)

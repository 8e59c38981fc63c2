package chain

import "time"

// Event is one row of the audit table, as stored. The byte slices belong to
// the source and are valid only until it is asked for the next event.
type Event struct {
	// Row counts the rows of the source from 1 in the order in which they
	// arrive; it says where to look and decides nothing.
	Row int64
	// ID is the text of the id column.
	ID []byte
	// Payload is the JSON text of the payload column; nil for SQL NULL.
	Payload []byte
	// Prev is the text of prev_hash; nil for NULL.
	Prev []byte
	// Signature is the text of the signature column; nil for NULL.
	Signature []byte
	// Signer is the text of signer_kid (signer_id in the kernel's table);
	// nil for NULL.
	Signer []byte
	// Hash is the stored digest, nil for NULL; HasHash says that the source
	// has such a column at all (the kernel's table does, agent-manager's
	// does not).
	Hash    []byte
	HasHash bool
	// CreatedAt is the row's own claim of its time, zero if it makes none.
	// No digest covers it: it never decides an order.
	CreatedAt time.Time
}

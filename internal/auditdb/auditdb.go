// Package auditdb reads the audit table out of PostgreSQL.
//
// Every row is read, in one REPEATABLE READ, READ ONLY transaction, as a
// stream of [chain.Event] in constant memory. The rows come in the table's
// physical order: the links in prev_hash order a chain, not the query.
//
// It refuses what would make a verdict worthless: a table without the columns
// of a signed chain, a role from which row-level security hides rows, a scan
// that brought fewer rows than the server counted, a row too large to hold,
// and a connection to another machine that an eavesdropper could read or
// answer. When the server goes away in mid-scan the reading starts again from
// the first row in a new snapshot: rows of two snapshots are never mixed.
//
// It is safe to point at production. Every statement is fixed here, names are
// checked and quoted, the transaction cannot write, the server ends it after a
// time, and a role with SELECT on the one table is enough. No error repeats
// the connection string or its password.
package auditdb

import (
	"context"
	"fmt"
	"time"
)

// MaxRow is the largest row in bytes, all columns that are read taken
// together, that a reader accepts; a larger one ends the reading with an
// error whose exit code is 2.
const MaxRow = 16 << 20

// attempts is how often a reading is begun before Read gives up.
const attempts = 3

// Options say what to read and how long to wait for it. A zero duration means
// the default.
type Options struct {
	// URL is a connection string as libpq knows it, postgres://… or
	// keyword=value. For a server on another machine sslmode is verify-full
	// unless it says otherwise, and nothing weaker than require is accepted.
	URL string
	// Table names a table, partitioned table or view: name or schema.name,
	// each part an unquoted SQL identifier or a "quoted one".
	Table string

	StatementTimeout time.Duration // of one scan of the table; default 1 h
	LockTimeout      time.Duration // of waiting for the table's lock; default 10 s
	ConnectTimeout   time.Duration // of reaching the server, unless URL has connect_timeout; default 15 s
	Pause            time.Duration // before the second attempt, twice as long before the third; default 5 s
}

// Read opens a snapshot of the table and hands it to fn.
//
// When the server fails over, or cannot keep the snapshot (a SQLSTATE of class
// 08, 40 or 57P0, or a connection that breaks), Read calls fn again from the
// start with a new snapshot, three times in all; fn must therefore forget what
// an earlier snapshot told it. Read returns fn's own error as it is, unless the
// snapshot failed: then it returns the snapshot's, whatever fn made of it.
//
// The exit code of an *[Error] is 2 where Options or the table must change,
// and 3 where the database could not be read.
func Read(ctx context.Context, o Options, fn func(context.Context, *Snapshot) error) error {
	srv, err := parseServer(o)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := readOnce(ctx, srv, fn)
		failed, ok := err.(*Error)
		switch {
		case !ok:
			return err
		case !failed.again && !(failed.unreachable && attempt > 1):
			return failed
		case attempt == attempts:
			return &Error{exit: 3, text: fmt.Sprintf("%s (given up after %d attempts)", failed.text, attempts)}
		}
		select {
		case <-time.After(time.Duration(attempt) * srv.pause):
		case <-ctx.Done():
			return srv.describe(ctx, ctx.Err())
		}
	}
}

// readOnce is one attempt of Read: one connection, one snapshot.
func readOnce(ctx context.Context, srv *server, fn func(context.Context, *Snapshot) error) error {
	sess, err := srv.begin(ctx)
	if err != nil {
		return err
	}
	defer sess.close(ctx)
	snap, err := newSnapshot(ctx, sess)
	if err != nil {
		return err
	}
	err = fn(ctx, snap)
	// A scan that fn itself cancelled fails for fn's reason.
	if snap.failed != nil && (err == nil || snap.failed.cause == nil) {
		return snap.failed
	}
	return err
}

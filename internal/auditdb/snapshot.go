package auditdb

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// Source says where the rows of a snapshot come from.
type Source struct {
	Table         string   // schema.table, quoted where SQL needs it
	Dialect       Dialect  // whose columns these are
	Columns       []string // every column of the table, in its order
	EstimatedRows int64    // the planner's estimate, 0 if it has none

	SystemIdentifier string    // names the database cluster; "" where the role may not ask
	Timeline         int64     // rises with every failover; 0 where the role may not ask
	InRecovery       bool      // a standby, which may lag behind its primary
	SnapshotID       string    // xmin:xmax:list of the transactions in progress
	ServerVersion    string    // such as 15.18
	ServerTime       time.Time // the server's clock when the snapshot was taken, UTC
	ClockAheadMS     int64     // how far that is ahead of this machine's clock, milliseconds
}

// Snapshot is the table at one moment. It is for one goroutine, and only
// within the function that Read calls.
type Snapshot struct {
	*session
	table  *table
	source Source
	buf    [36]byte             // the text of a uuid
	left   *pgconn.ResultReader // a scan that the reader left before its end
	failed *Error               // the first failure; the snapshot is lost
}

func newSnapshot(ctx context.Context, sess *session) (*Snapshot, error) {
	t, err := sess.findTable(ctx)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{session: sess, table: t, source: Source{Table: t.name, Dialect: t.dialect, Columns: t.columns}}
	return s, s.facts(ctx)
}

// facts fills in what the report tells about the server.
func (s *Snapshot) facts(ctx context.Context) error {
	asked := time.Now()
	rows, err := s.query(ctx, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version'),
	pg_catalog.txid_current_snapshot()::text,
	(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint`)
	if err != nil {
		return err
	}
	row := rows[0]
	micros, err := strconv.ParseInt(row[3], 10, 64)
	if err != nil {
		return s.describe(ctx, err)
	}
	s.source.InRecovery = row[0] == "t"
	s.source.ServerVersion = row[1]
	s.source.SnapshotID = row[2]
	s.source.ServerTime = time.UnixMicro(micros).UTC()
	s.source.ClockAheadMS = s.source.ServerTime.Sub(asked.Add(time.Since(asked) / 2)).Milliseconds()

	// A table's rows are those of its partitions, however deep.
	rows, err = s.query(ctx, `WITH RECURSIVE tree(oid) AS (
	SELECT pg_catalog.to_regclass($1::text)::oid
	UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid)
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
FROM pg_catalog.pg_class c JOIN tree USING (oid) WHERE c.relkind <> 'p'`, s.table.sql)
	if err != nil {
		return err
	}
	s.source.EstimatedRows, _ = strconv.ParseInt(rows[0][0], 10, 64)

	if s.source.SystemIdentifier, err = s.optional(ctx, "SELECT system_identifier FROM pg_catalog.pg_control_system()"); err != nil {
		return err
	}
	timeline, err := s.optional(ctx, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()")
	s.source.Timeline, _ = strconv.ParseInt(timeline, 10, 64)
	return err
}

// Source returns the facts about the rows' origin.
func (s *Snapshot) Source() Source { return s.source }

// Events yields every row of the table once, in no particular order that
// means anything, and can be ranged over again for the same rows. The slices
// of an event are valid until the next one. An error is the last thing it
// yields, and Read returns it whatever becomes of it here: a scan that ends
// without one was complete.
func (s *Snapshot) Events(ctx context.Context) iter.Seq2[chain.Event, error] {
	return s.events(ctx, s.table.scan())
}

// EventsSince yields, like Events, the rows whose created_at is not before t.
// That column is the row's own claim: what it leaves out, only Count can tell.
func (s *Snapshot) EventsSince(ctx context.Context, t time.Time) iter.Seq2[chain.Event, error] {
	return s.events(ctx, s.table.scan()+" WHERE "+quote(s.table.needed[createdAt].name)+" >= $1", t.UTC().Format(time.RFC3339Nano))
}

// Count has the server count the table's rows.
func (s *Snapshot) Count(ctx context.Context) (int64, error) {
	if err := s.drain(); err != nil {
		return 0, s.lost(s.describe(ctx, err))
	}
	rows, err := s.query(ctx, "SELECT pg_catalog.count(*) FROM "+s.table.sql)
	if err != nil {
		return 0, s.lost(err)
	}
	n, err := strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil {
		return 0, s.lost(s.describe(ctx, err))
	}
	return n, nil
}

// lost notes that the snapshot cannot be used any more.
func (s *Snapshot) lost(err error) error {
	if failed, ok := err.(*Error); ok && s.failed == nil {
		s.failed = failed
	}
	return err
}

func (s *Snapshot) events(ctx context.Context, sql string, args ...string) iter.Seq2[chain.Event, error] {
	return func(yield func(chain.Event, error) bool) {
		if more, err := s.scan(ctx, sql, args, yield); err != nil {
			if s.failed == nil {
				s.failed = s.describe(ctx, err)
			}
			if more {
				yield(chain.Event{}, s.failed)
			}
		}
	}
}

// scan reads rows; more is false once the reader wants no more.
func (s *Snapshot) scan(ctx context.Context, sql string, args []string, yield func(chain.Event, error) bool) (more bool, err error) {
	if err := s.drain(); err != nil {
		return true, err
	}
	rows := s.conn.ExecParams(ctx, sql, texts(args), nil, nil, []int16{1})
	var n int64
	for rows.NextRow() {
		n++
		e, err := s.event(n, rows.Values())
		if err != nil {
			return true, err
		}
		if !yield(e, nil) {
			s.left = rows
			return false, nil
		}
	}
	tag, err := rows.Close()
	var big *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &big) {
		return true, s.tooLarge(ctx, n+1, big.ActualBodyLen)
	}
	if err == nil {
		err = s.counted(tag, n)
	}
	return true, err
}

// drain takes in what is still on its way of a scan that was left before its
// end.
func (s *Snapshot) drain() (err error) {
	if s.left != nil {
		_, err = s.left.Close()
		s.left = nil
	}
	return err
}

// event reads a row in binary format.
func (s *Snapshot) event(n int64, v [][]byte) (chain.Event, error) {
	e := chain.Event{
		Row: n, ID: v[id], Payload: v[payload], Prev: v[2], Signature: v[3], Signer: v[signer],
		CreatedAt: timestamp(v[createdAt]),
		HasHash:   s.table.hasHash(),
	}
	if e.HasHash {
		e.Hash = v[hash]
	}
	if s.table.needed[id].base == "uuid" && len(e.ID) == 16 {
		e.ID = s.uuid(e.ID)
	}
	if e.Payload != nil && s.table.needed[payload].base == "jsonb" {
		if len(e.Payload) < 2 || e.Payload[0] != 1 {
			return e, misuse("row %d of %s has jsonb in a form that this reader does not know: use a newer release", n, s.table.name)
		}
		e.Payload = e.Payload[1:]
	}
	return e, nil
}

// uuid writes 16 bytes in the form of RFC 9562, into a buffer that the next
// row uses again.
func (s *Snapshot) uuid(raw []byte) []byte {
	b := s.buf[:0]
	for i, length := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, raw[:length])
		raw = raw[length:]
	}
	return b
}

// timestamp reads the binary form of timestamp and timestamptz, microseconds
// from 2000-01-01 UTC. NULL, the infinities and times that RFC 3339 cannot
// write (before year 1, after 9999) give the zero time: no claim.
func timestamp(v []byte) time.Time {
	if len(v) != 8 {
		return time.Time{}
	}
	micros := int64(binary.BigEndian.Uint64(v))
	if micros == math.MaxInt64 || micros == math.MinInt64 {
		return time.Time{}
	}
	const epoch = 946_684_800
	t := time.Unix(epoch+micros/1_000_000, micros%1_000_000*1_000).UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// tooLarge names the row that did not fit. The connection is gone with it, so
// a new one looks for the largest row.
func (s *Snapshot) tooLarge(ctx context.Context, n int64, size int) *Error {
	which := fmt.Sprintf("row %d of the scan", n)
	if sess, err := s.begin(ctx); err == nil {
		defer sess.close(ctx)
		if rows, err := sess.query(ctx, s.table.largest()); err == nil && len(rows) == 1 {
			which += fmt.Sprintf(" (the largest has the id %q)", rows[0][0])
		}
	}
	return misuse("table %s holds a row of %d bytes, more than the limit of %d: %s; no event is that large, find out who wrote it", s.table.name, size, MaxRow, which)
}

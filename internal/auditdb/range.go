package auditdb

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// Range is a stretch of a table's storage: the blocks from From up to and
// without To, where Open is the end, wherever that will be. In a partitioned table
// it is that stretch of every partition. Each row is in one block, so ranges
// without a gap between them hold each row once, whatever its columns claim.
type Range struct{ From, To int64 }

// Open is the upper bound of the last range.
const Open = -1

// Ranges divides the table's blocks into n ranges of equal size and counts its
// rows. New rows go to the end of a table that only grows, which is the last
// range's.
func (s *Snapshot) Ranges(ctx context.Context, n int) (ranges []Range, rows int64, err error) {
	if rows, err = s.Count(ctx); err != nil {
		return nil, 0, err
	}
	answer, err := s.query(ctx, `WITH RECURSIVE tree(oid) AS (
	SELECT pg_catalog.to_regclass($1::text)::oid
	UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid)
SELECT coalesce(max(pg_catalog.pg_relation_size(c.oid)), 0) / pg_catalog.current_setting('block_size')::bigint,
	pg_catalog.string_agg(DISTINCT c.relkind::text, '')
FROM pg_catalog.pg_class c JOIN tree USING (oid)`, s.table.sql)
	if err != nil {
		return nil, 0, s.lost(err)
	}
	if strings.ContainsAny(answer[0][1], "vf") {
		return nil, 0, misuse("%s is a view, or has its rows on another server, so it has no storage that could be divided: name the table itself, or verify it in one run", s.table.name)
	}
	blocks, err := strconv.ParseInt(answer[0][0], 10, 64)
	if err != nil {
		return nil, 0, s.lost(s.describe(ctx, err))
	}
	for i := range int64(n) {
		ranges = append(ranges, Range{blocks * i / int64(n), blocks * (i + 1) / int64(n)})
	}
	ranges[n-1].To = Open
	return ranges, rows, nil
}

// EventsIn yields, like Events, the rows in a range.
func (s *Snapshot) EventsIn(ctx context.Context, r Range) iter.Seq2[chain.Event, error] {
	sql := fmt.Sprintf("%s WHERE ctid >= '(%d,0)'::tid", s.table.scan(), r.From)
	if r.To != Open {
		sql += fmt.Sprintf(" AND ctid < '(%d,0)'::tid", r.To)
	}
	return s.events(ctx, sql)
}

// Growth is what a table holds beside what was read of it.
type Growth struct {
	Rows       int64 // of the whole table
	Successors int64 // rows that name the head as their predecessor
	Followed   int64 // how many of the ends are named by rows as their predecessor
}

// Beyond asks how the table goes on from a head, and from ends of parts that do
// not fit together; all are digests in hex.
func (s *Snapshot) Beyond(ctx context.Context, head string, ends []string) (g Growth, err error) {
	if err := s.drain(); err != nil {
		return g, s.lost(s.describe(ctx, err))
	}
	prev := quote(s.table.needed[prev].name) + "::text"
	answer, err := s.query(ctx, fmt.Sprintf("SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE %s = $1::text), pg_catalog.count(DISTINCT %[1]s) FILTER (WHERE %[1]s = ANY ($2::text[])) FROM %s", prev, s.table.sql),
		head, "{"+strings.Join(ends, ",")+"}")
	if err != nil {
		return g, s.lost(err)
	}
	for i, n := range []*int64{&g.Rows, &g.Successors, &g.Followed} {
		if *n, err = strconv.ParseInt(answer[0][i], 10, 64); err != nil {
			return g, s.lost(s.describe(ctx, err))
		}
	}
	return g, nil
}

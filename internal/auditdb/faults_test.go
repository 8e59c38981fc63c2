package auditdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
)

func newProxy(t *testing.T, url string) *auditdbtest.Proxy {
	t.Helper()
	p, err := auditdbtest.NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// After a fault at any place there are all rows or an error, never fewer rows.
func TestFaultsAtEveryMessage(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 5, 10)
	p := newProxy(t, url)
	o := options(p.URL(url), "audit_events")
	p.CutAfterMessages(1<<30, 1)
	whole, _, _, err := read(t, o)
	if err != nil || len(whole) != 5 {
		t.Fatal(whole, err)
	}
	messages := p.Messages()
	check := func(fault string, n int, always bool) {
		t.Helper()
		rows, _, _, err := read(t, o)
		switch {
		case err == nil && !slices.Equal(rows, whole):
			t.Errorf("%s %d: read %d rows of %d without an error", fault, n, len(rows), len(whole))
		case err != nil && (exitCode(err) != 3 || !always):
			t.Errorf("%s %d: exit code %d: %v", fault, n, exitCode(err), err)
		case err == nil && always && n < messages:
			t.Errorf("%s %d: every connection is cut and yet there is no error", fault, n)
		case err != nil && p.Connections() != 3:
			t.Errorf("%s %d: gave up after %d connections", fault, n, p.Connections())
		}
	}
	for n := range messages + 1 {
		p.CutAfterMessages(n, 1)
		check("one cut after message", n, false)
		p.CutAfterMessages(n, -1)
		check("cuts after message", n, true)
		p.ResetAfterMessages(n, 1)
		check("one reset after message", n, false)
	}
	for n := range 40 {
		p.CutAfterBytes(n*n, 1)
		check("one cut after byte", n*n, false)
	}
	for n := 1; n <= 15; n++ {
		p.DropRow(n, 1)
		rows, _, _, err := read(t, o)
		if err == nil && !slices.Equal(rows, whole) || err != nil && exitCode(err) != 3 && exitCode(err) != 2 {
			t.Errorf("row %d of the connection was lost: %d rows, %v", n, len(rows), err)
		}
	}
}

func TestServerDoesNotComeBack(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 1, 1)
	p := newProxy(t, url)
	p.CutAfterMessages(200, -1)
	begun := 0
	err := auditdb.Read(t.Context(), options(p.URL(url), "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) error {
		begun++
		p.Close()
		for {
			if _, err := collect(ctx, s); err != nil {
				return err
			}
		}
	})
	if exitCode(err) != 3 || begun != 1 || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "3 attempts") {
		t.Errorf("begun %d times: %v", begun, err)
	}
}

const terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'audit-signer-rotation' AND datname = current_database()"

func TestTerminatedByTheServer(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 10_000, 2000)
	for name, times := range map[string]int{"once": 1, "always": 3} {
		t.Run(name, func(t *testing.T) {
			begun := 0
			var rows []string
			err := auditdb.Read(t.Context(), options(url, "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) (err error) {
				begun++
				rows = rows[:0]
				for e, err := range s.Events(ctx) {
					if err != nil {
						return fmt.Errorf("wrapped: %w", err)
					}
					if e.Row == 1 && begun <= times {
						run(t, url, terminate)
					}
					rows = append(rows, string(e.ID))
				}
				return nil
			})
			slices.Sort(rows)
			whole := len(slices.Compact(rows)) == 10_000
			if times == 1 && (err != nil || begun != 2 || !whole) {
				t.Errorf("%d rows after %d attempts: %v", len(rows), begun, err)
			}
			if times == 3 && (exitCode(err) != 3 || begun != 3 || whole || !strings.Contains(err.Error(), "3 attempts")) {
				t.Errorf("%d rows after %d attempts: %v", len(rows), begun, err)
			}
		})
	}
}

// A standby that must cancel the query, or a serialization failure, comes as a
// SQLSTATE of class 40.
func TestSnapshotCannotBeKept(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 1, 1)
	run(t, url, `CREATE FUNCTION fail(code text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cannot' USING ERRCODE = code; END $$`)
	for code, attempts := range map[string]int{"40001": 3, "40P01": 3, "08006": 3, "57P01": 3, "57P03": 3, "57014": 1, "53300": 1, "XX001": 1} {
		run(t, url, fmt.Sprintf("CREATE OR REPLACE VIEW fails AS SELECT id, fail('%s') AS payload, prev_hash, signature, signer_kid, created_at FROM audit_events", code))
		_, _, begun, err := read(t, options(url, "fails"))
		if exitCode(err) != 3 || begun != attempts || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: exit code %d, begun %d times: %v", code, exitCode(err), begun, err)
		}
	}
}

func TestOneSnapshot(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 10_000, 100)
	err := auditdb.Read(t.Context(), options(url, "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) error {
		var first []string
		for e, err := range s.Events(ctx) {
			if err != nil {
				return err
			}
			if e.Row == 5000 {
				fill(t, url, 1000, 100)
				run(t, url, "UPDATE audit_events SET signer_kid = 'other' WHERE payload->>'n' = '9999'")
				run(t, url, "DELETE FROM audit_events WHERE payload->>'n' = '7777'")
			}
			first = append(first, show(e))
		}
		// A scan that is left early does not spoil the next one.
		for e, err := range s.Events(ctx) {
			if err != nil {
				return err
			}
			if e.Row == 3 {
				break
			}
		}
		second, err := collect(ctx, s)
		if len(first) != 10_000 || !slices.Equal(first, second) {
			t.Errorf("%d rows, then %d, or other ones", len(first), len(second))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows, _, _, err := read(t, options(url, "audit_events")); err != nil || len(rows) != 10_999 {
		t.Errorf("a new snapshot has %d rows, %v", len(rows), err)
	}
}

func TestErrorsOfTheReader(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 10, 10)
	o := options(url, "audit_events")
	begun := 0
	err := auditdb.Read(t.Context(), o, func(ctx context.Context, s *auditdb.Snapshot) error {
		begun++
		for range s.Events(ctx) {
			return io.EOF // looks like a broken connection and is not
		}
		return nil
	})
	if err != io.EOF || begun != 1 {
		t.Errorf("begun %d times: %v", begun, err)
	}

	// A failure of the snapshot is not for the reader to overlook.
	err = auditdb.Read(t.Context(), o, func(ctx context.Context, s *auditdb.Snapshot) error {
		run(t, url, terminate)
		for range s.Events(ctx) {
		}
		return nil
	})
	if exitCode(err) != 3 {
		t.Errorf("overlooked: %v", err)
	}

	// Nor does it hide the reader's own failure, of which it is the effect.
	own := errors.New("own")
	begun = 0
	err = auditdb.Read(t.Context(), o, func(ctx context.Context, s *auditdb.Snapshot) error {
		begun++
		ctx, cancel := context.WithCancel(ctx)
		for range s.Events(ctx) {
			cancel()
		}
		for range s.Events(ctx) {
		}
		cancel()
		return own
	})
	if err != own || begun != 1 {
		t.Errorf("begun %d times: %v", begun, err)
	}

	for name, stop := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Now().Add(200*time.Millisecond))
		},
	} {
		ctx, cancel := stop(t.Context())
		begun = 0
		err := auditdb.Read(ctx, o, func(ctx context.Context, s *auditdb.Snapshot) error {
			begun++
			if name == "cancelled" {
				cancel()
			}
			for {
				if _, err := collect(ctx, s); err != nil {
					return err
				}
			}
		})
		if exitCode(err) != 3 || begun != 1 || !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
			t.Errorf("%s: begun %d times: %v", name, begun, err)
		}
		if err := auditdb.Read(ctx, o, nil); exitCode(err) != 3 || !errors.Is(err, ctx.Err()) {
			t.Errorf("%s before the start: %v", name, err)
		}
		cancel()
	}
}

func TestNoAllocationPerRow(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 10_000, 400)
	err := auditdb.Read(t.Context(), options(url, "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) error {
		var rows, bytes int
		allocations := testing.AllocsPerRun(3, func() {
			for e, err := range s.Events(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				rows++
				bytes += len(e.ID) + len(e.Payload) + len(e.Prev) + len(e.Signature) + len(e.Signer)
			}
		})
		if rows != 4*10_000 || bytes < rows*500 {
			t.Errorf("%d rows of %d bytes", rows, bytes)
		}
		if allocations > 200 {
			t.Errorf("%v allocations for 10,000 rows", allocations)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoppedWhileItWaits(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	p := newProxy(t, url)
	p.CutAfterMessages(5, -1)
	o := options(p.URL(url), "audit_events")
	o.Pause = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := auditdb.Read(ctx, o, nil)
	if exitCode(err) != 3 || !errors.Is(err, context.DeadlineExceeded) || p.Connections() != 1 {
		t.Errorf("%d connections: %v", p.Connections(), err)
	}
}

func BenchmarkEvents(b *testing.B) {
	url := create(b, auditdbtest.AgentManager)
	const rows = 100_000
	fill(b, url, rows, 400)
	err := auditdb.Read(b.Context(), options(url, "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) error {
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range s.Events(ctx) {
				if err != nil {
					return err
				}
			}
		}
		b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

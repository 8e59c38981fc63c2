package sigverify

import (
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/edpoint"
)

const (
	// maxTables bounds the memory for tables to 8 MB.
	maxTables = 16
	// tableWorth signatures by one key make a table worth its cost: building it
	// takes about as long as 30 signatures save, and the base point's the same
	// once more.
	tableWorth = 256
)

// tables keeps the tables of the keys that were used last.
type tables struct {
	mu    sync.Mutex
	most  int
	clock int64
	made  map[*Key]*madeTable
}

type madeTable struct {
	table *edpoint.Table // nil for a key of which there can be none
	used  int64
}

func newTables(most int) *tables { return &tables{most: most, made: map[*Key]*madeTable{}} }

// of gives the key's table, nil while it has not seen enough signatures to
// repay one, n more of them counted. A key whose table had to make room starts
// to count anew, so that many keys by turns do not cost a table each time.
func (t *tables) of(k *Key, n int64) *edpoint.Table {
	if k.seen.Add(n) < tableWorth {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock++
	have := t.made[k]
	if have == nil {
		if len(t.made) >= t.most {
			t.drop()
		}
		have = new(madeTable)
		have.table, _ = edpoint.NewTable(k.ed) // of a key that is out of the ordinary there is none
		t.made[k] = have
	}
	have.used = t.clock
	return have.table
}

// drop makes room for another table.
func (t *tables) drop() {
	var oldest *Key
	for k, m := range t.made {
		if oldest == nil || m.used < t.made[oldest].used {
			oldest = k
		}
	}
	delete(t.made, oldest)
	oldest.seen.Store(0)
}

// tabled is the engine of the Tables path.
type tabled struct {
	tables  *tables
	batch   edpoint.Batch
	waiting [edpoint.BatchSize]*Check
	groups  []group
}

// group is a key of which there are checks.
type group struct {
	key   *Key
	count int64
	table *edpoint.Table
}

func (t *tabled) accept(checks []Check) {
	t.groups = t.groups[:0]
	for i := range checks {
		if c := &checks[i]; c.wantsTable() {
			t.groupOf(c.Key).count++
		}
	}
	for i := range t.groups {
		g := &t.groups[i]
		g.table = t.tables.of(g.key, g.count)
	}
	n := 0
	flush := func() {
		for i, valid := range t.batch.Check() {
			t.waiting[i].Valid = valid
		}
		n = 0
	}
	for i := range checks {
		c := &checks[i]
		if !c.wantsTable() {
			continue
		}
		if table := t.groupOf(c.Key).table; table != nil && t.batch.Add(table, c.Digest[:], c.Signature) {
			t.waiting[n] = c
			if n++; t.batch.Full() {
				flush()
			}
		}
	}
	flush()
	clear(t.waiting[:])
}

func (c *Check) wantsTable() bool { return !c.Valid && c.Key != nil && c.Key.ed != nil }

func (t *tabled) groupOf(k *Key) *group {
	for i := range t.groups {
		if t.groups[i].key == k {
			return &t.groups[i]
		}
	}
	t.groups = append(t.groups, group{key: k})
	return &t.groups[len(t.groups)-1]
}

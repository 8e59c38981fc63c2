package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// MaxShards is what a job matrix of GitHub can hold.
const MaxShards = 256

// share is one shard of a plan.
type share struct {
	number, of int
	plan       string        // a digest of the plan, in all of its shares
	blocks     auditdb.Range // of a table
	rows       int64         // of the whole table, when it was planned
	isTable    bool
}

// String is the form that a matrix carries and ParseShare reads.
func (s share) String() string {
	if !s.isTable {
		return fmt.Sprintf("%d/%d files plan %s", s.number, s.of, s.plan)
	}
	to := ""
	if s.blocks.To != auditdb.Open {
		to = strconv.FormatInt(s.blocks.To, 10)
	}
	return fmt.Sprintf("%d/%d blocks %d-%s rows %d plan %s", s.number, s.of, s.blocks.From, to, s.rows, s.plan)
}

var shareForm = regexp.MustCompile(`^(\d{1,3})/(\d{1,3}) (?:files|blocks (\d{1,10})-(\d{0,10}) rows (\d{1,18})) plan ([0-9a-f]{16})$`)

func parseShare(text string) (s share, err error) {
	m := shareForm.FindStringSubmatch(text)
	if m == nil {
		return s, gha.Misuse("shard %.100q is none: take it from the matrix that mode plan gives", text)
	}
	s.number, _ = strconv.Atoi(m[1])
	s.of, _ = strconv.Atoi(m[2])
	s.plan, s.isTable = m[6], m[3] != ""
	if s.isTable {
		s.blocks.From, _ = strconv.ParseInt(m[3], 10, 64)
		s.blocks.To = auditdb.Open
		if m[4] != "" {
			s.blocks.To, _ = strconv.ParseInt(m[4], 10, 64)
		}
		s.rows, _ = strconv.ParseInt(m[5], 10, 64)
	}
	if s.number < 1 || s.number > s.of || s.of > MaxShards || s.String() != text {
		return s, gha.Misuse("shard %.100q is none: take it from the matrix that mode plan gives", text)
	}
	return s, nil
}

// Plan divides a source into n shards, and names them as Shard wants them.
func Plan(ctx context.Context, s Source, n int) (shards []string, err error) {
	if n < 1 || n > MaxShards {
		return nil, gha.Misuse("shards is %d: give a number from 1 to %d, the jobs that a matrix can have", n, MaxShards)
	}
	var all []share
	switch {
	case s.DatabaseURL == "" && s.Files == nil:
		return nil, gha.Misuse("events-path %q is one file, and a plan divides a folder of files: split the export, or verify it in one run", s.Name)
	case s.DatabaseURL == "":
		for i := range n {
			all = append(all, share{number: i + 1, of: n, plan: planOf(s.Files, s.Name, n)})
		}
	default:
		err = s.database(ctx, func(ctx context.Context, snapshot *auditdb.Snapshot) error {
			ranges, rows, err := snapshot.Ranges(ctx, n)
			source := snapshot.Source()
			all = nil
			for i, r := range ranges {
				all = append(all, share{number: i + 1, of: n, plan: planOf(source.SystemIdentifier, source.Table, source.SnapshotID, ranges, rows), blocks: r, rows: rows, isTable: true})
			}
			return err
		})
	}
	for _, s := range all {
		shards = append(shards, s.String())
	}
	return shards, err
}

func (s Source) database(ctx context.Context, fn func(context.Context, *auditdb.Snapshot) error) error {
	return auditdb.Read(ctx, auditdb.Options{URL: s.DatabaseURL, Table: s.Table, Pause: s.Pause}, fn)
}

// planOf names a plan by what it was made of.
func planOf(of ...any) string {
	for i, v := range of {
		if files, ok := v.([]ExportFile); ok { // a function has no JSON
			var list []any
			for _, f := range files {
				list = append(list, f.Name, f.Size)
			}
			of[i] = list
		}
	}
	return digestOf(of...)[:16]
}

// own gives the files of a shard: neighbours, so that their events are as well.
func (s share) own(files []ExportFile) []ExportFile {
	var whole int64
	for _, f := range files {
		whole += f.Size + 1
	}
	var mine []ExportFile
	before := int64(0)
	for _, f := range files {
		if before*int64(s.of)/whole == int64(s.number-1) {
			mine = append(mine, f)
		}
		before += f.Size + 1
	}
	return mine
}

// Shard examines the rows of one share of a plan.
func Shard(ctx context.Context, s Source, t Terms, name string) (*chain.Part, error) {
	sh, err := parseShare(name)
	if err != nil {
		return nil, err
	}
	if err := sh.fits(s); err != nil {
		return nil, err
	}
	set, err := speakers(ctx, t)
	if err != nil {
		return nil, err
	}
	o := t.options()
	o.Verifier, o.Terms = set, t.terms(sh)
	if t.Progress != nil {
		o.Progress = func(events int64) { t.Progress(events, sh.rows/int64(sh.of)) }
	}
	var p *chain.Part
	if sh.isTable {
		err = s.database(ctx, func(ctx context.Context, snapshot *auditdb.Snapshot) (err error) {
			if p, err = chain.Shard(ctx, snapshot.EventsIn(ctx, sh.blocks), o); err == nil {
				p.SystemIdentifier, p.InRecovery = snapshot.Source().SystemIdentifier, snapshot.Source().InRecovery
			}
			return err
		})
	} else {
		p, err = chain.Shard(ctx, eventsOf(sh.own(s.Files)), o)
	}
	if err != nil {
		return nil, err
	}
	p.Shard, p.ToolVersion, p.Signatures = name, gha.Version, chain.SignatureChecks(set.Signatures())
	return p, nil
}

// fits refuses a share of another source than this one.
func (s share) fits(from Source) error {
	switch {
	case s.isTable != (from.DatabaseURL != ""):
		return gha.Misuse("shard %q is one of another kind of source: give plan, shards and join the same database-url or events-path", s)
	case !s.isTable && s.plan != planOf(from.Files, from.Name, s.of):
		return gha.Misuse("shard %q: the files are not those that the plan was made for (names and sizes differ): plan again, and give all jobs the same files", s)
	}
	return nil
}

// terms are what all shards must have in common beside chain's own options.
func (t Terms) terms(s share) []string {
	return []string{t.Registry.SHA256(), t.Archive.SHA256(), s.plan, strconv.Itoa(s.of)}
}

// Join judges the chain whose shards the parts are. Of a table, count and head
// are asked for once more.
func Join(ctx context.Context, s Source, t Terms, parts []*chain.Part) (*chain.Report, checkpoint.Table, error) {
	sh, err := complete(parts)
	if err != nil {
		return nil, checkpoint.Table{}, err
	}
	if err := sh.fits(s); err != nil {
		return nil, checkpoint.Table{}, err
	}
	o := t.options()
	o.Terms = t.terms(sh)
	r, err := chain.Join(parts, o)
	if err != nil {
		return nil, checkpoint.Table{}, err
	}
	var table checkpoint.Table
	if !sh.isTable {
		r.Source = File{s.Name}
	} else if err := s.database(ctx, func(ctx context.Context, snapshot *auditdb.Snapshot) error {
		source := snapshot.Source()
		table = checkpoint.Table{SystemIdentifier: source.SystemIdentifier, Table: source.Table}
		if err := ofOneSystem(parts, &source); err != nil {
			return err
		}
		r.Source = Database(source)
		loose := chain.Loose(parts)
		if len(loose) > mostLoose {
			loose = nil
		}
		g, err := snapshot.Beyond(ctx, r.Head, loose)
		switch {
		case err != nil:
			return err
		case r.Head == "" && r.Events >= sh.rows: // empty, or failed already
			return nil
		case torn(r) && g.Rows > r.Events && g.Successors > 0 && len(loose) > 1 && g.Followed >= int64(len(loose))-1: // the last end is the newest event, or was
			return fmt.Errorf("rows were written into parts of the table that had been read already (it has %d now, %d were read), and all that follows them hangs on nothing, so whether a row is missing besides is not known. Run plan, shards and join again when less is written, or mode verify, which reads one snapshot", g.Rows, r.Events)
		}
		for _, f := range sh.counted(r, g.Rows, g.Successors) {
			Fail(r, f)
		}
		return nil
	}); err != nil {
		return nil, table, err
	}
	t.conclude(r, table)
	return r, table, nil
}

// ofOneSystem wants shards of one database, and says of the whole what is true of
// any of them: one that a standby has read may lag behind.
func ofOneSystem(parts []*chain.Part, source *auditdb.Source) error {
	for _, p := range parts {
		if p.SystemIdentifier != source.SystemIdentifier {
			return gha.Misuse("join-reports: shard %q was read from another database system than this (%q, not %q): give all jobs the same database-url", p.Shard, p.SystemIdentifier, source.SystemIdentifier)
		}
		source.InRecovery = source.InRecovery || p.InRecovery
	}
	return nil
}

// mostLoose bounds how many ends the table is asked about.
const mostLoose = 1000

// torn tells whether links are missing in a chain of which nothing else is wrong.
func torn(r *chain.Report) bool {
	for _, f := range r.Findings {
		if f.Severity == finding.Error && f.Rule != chain.RuleMissingLink {
			return false
		}
	}
	return r.Verdict == chain.Failed && r.FindingsTotal == int64(len(r.Findings))
}

// ParsePart reads what a shard has left behind.
func ParsePart(name string, src []byte) (*chain.Part, error) {
	no := func(why string) error {
		return &jsondoc.Error{File: name, Message: "this is no report of a shard: " + why + ". Keep nothing else that ends in .json in the folder of join-reports"}
	}
	violations, err := schemas.Violations(schemas.Shard, src)
	if err != nil {
		return nil, no("it is no JSON")
	}
	if len(violations) > 0 {
		return nil, no(violations[0].String())
	}
	p := new(chain.Part)
	if err := json.Unmarshal(src, p); err != nil {
		return nil, no(err.Error())
	}
	return p, nil
}

// complete wants each shard of one plan once, and of a table ranges without a
// gap or an overlap.
func complete(parts []*chain.Part) (share, error) {
	if len(parts) == 0 {
		return share{}, gha.Misuse("join-reports: there is not one report of a shard: name the folder that holds them all")
	}
	byNumber := map[int]share{}
	var first share
	for i, p := range parts {
		s, err := parseShare(p.Shard)
		if err != nil {
			return s, err
		}
		if i == 0 {
			first = s
		}
		if s.of != first.of || s.plan != first.plan || s.rows != first.rows || s.isTable != first.isTable {
			return s, gha.Misuse("join-reports: %q and %q are shards of two plans: keep the reports of each run apart", first, s)
		}
		if _, twice := byNumber[s.number]; twice {
			return s, gha.Misuse("join-reports: there are two reports of shard %d of %d", s.number, s.of)
		}
		byNumber[s.number] = s
	}
	next := int64(0)
	for n := 1; n <= first.of; n++ {
		s, ok := byNumber[n]
		switch {
		case !ok:
			return s, gha.Misuse("join-reports: there is no report of shard %d of %d: its job failed, or its artifact is missing; run it again", n, first.of)
		case s.isTable && (s.blocks.From != next || (s.blocks.To == auditdb.Open) != (n == first.of)):
			return s, gha.Misuse("join-reports: shard %q does not begin where the one before it ends: take all shards from one plan", s)
		}
		next = s.blocks.To
	}
	return first, nil
}

// counted holds the joined chain against the table's own count: of the plan,
// and of now, when it may have grown at its end.
func (s share) counted(r *chain.Report, rows, successors int64) (fs []finding.Finding) {
	wrong := func(rule, format string, args ...any) {
		fs = append(fs, finding.Finding{Rule: rule, Severity: finding.Error, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case r.Events < s.rows:
		wrong(chain.RuleTruncated, "the table had %d rows when it was planned, and the shards have read %d: rows were removed in between, or the table was rewritten (VACUUM FULL, CLUSTER) while it was read. If it was, run plan, shards and join again", s.rows, r.Events)
	case rows < r.Events:
		wrong(chain.RuleTruncated, "the shards have read %d rows, and the table has %d now: rows were removed in between, or updated, which moves them, and read twice; an audit table has neither", r.Events, rows)
	case rows > r.Events && successors == 0:
		wrong(chain.RuleMissingLink, "the table has %d rows, of which no shard has read %d, and none of them follows the head %s: rows were put in before it, or the head is not the last event", rows, rows-r.Events, r.Head)
	}
	return fs
}

//go:build unix

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// bench is one run.
type bench struct {
	events, rounds, memory int
	only                   []string
	dir                    string
	chains                 []*chained
}

func canonicalOf(payload []byte) []byte {
	text, _, err := canonical.Append(nil, payload)
	if err != nil {
		panic(err)
	}
	return text
}

// canonical compares the one-pass form with a round trip through encoding/json.
func (b *bench) canonical() {
	const n = 20_000
	text, space := payload(12345), make([]byte, 0, 1024)
	var e canonical.Encoder
	own := &task{events: n, run: func() (err error) {
		for range n {
			if space, _, err = e.Append(space[:0], text); err != nil {
				return err
			}
		}
		return nil
	}}
	std := &task{events: n, run: func() error {
		for range n {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				return err
			}
			if _, err := json.Marshal(v); err != nil {
				return err
			}
		}
		return nil
	}}
	if err := turns(b.rounds, []*task{own, std}); err != nil {
		panic(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	own.run()
	runtime.ReadMemStats(&after)
	fmt.Printf("\ncanonical form of %d bytes: %.2f µs, %.2f allocations; encoding/json round trip %.2f µs: %.1f times as long\n",
		len(text), own.median(cpu), float64(after.Mallocs-before.Mallocs)/n, std.median(cpu), ratio(std, own))
}

// enough is how many events of the chain a path gets: the slow ones fewer.
func (b *bench) enough(c *chained, p path) int {
	n := b.events
	if p.paths == sigverify.NoPaths && c.name != "hmac" {
		n /= 10
	}
	return n
}

// fromMemory compares, for each path, the signatures alone with the whole work.
func (b *bench) fromMemory(ctx context.Context) error {
	fmt.Printf("\n%-9s %-8s %10s %9s %10s %9s %13s\n", "key", "path", "signature", "ratio to", "whole work", "events/s", "signatures")
	fmt.Printf("%-9s %-8s %10s %9s %10s %9s %13s\n", "", "", "µs", "library", "µs", "(wall)", "÷ whole work")
	for _, c := range b.chains {
		var signatures, whole []*task
		for _, p := range c.paths {
			n := b.enough(c, p)
			signatures = append(signatures, b.signatures(c, p, n))
			whole = append(whole, &task{name: p.name, events: n, run: func() error {
				set := trust.New(c.files.Registry, c.files.Archive, trust.Options{Secrets: secrets(c), Without: sigverify.AllPaths &^ p.paths})
				return verified(chain.Verify(ctx, c.source(n), chain.Options{Verifier: set, Workers: runtime.GOMAXPROCS(0)}))
			}})
		}
		var all []*task
		for i := range signatures {
			all = append(all, signatures[i], whole[i])
		}
		if err := turns(b.rounds, all); err != nil {
			return err
		}
		for i, p := range c.paths {
			fmt.Printf("%-9s %-8s %10.2f %9.2f %10.2f %9.0f %13.2f\n", c.name, p.name, signatures[i].median(cpu), ratio(signatures[0], signatures[i]),
				whole[i].median(cpu), whole[i].median(rate), ratio(signatures[i], whole[i]))
		}
	}
	return nil
}

func secrets(c *chained) map[string][]byte {
	if c.name != "hmac" {
		return nil
	}
	return map[string][]byte{"bench": []byte(secret)}
}

// verified wants a verified report, so that nothing fast and wrong is measured.
func verified(r *chain.Report, err error) error {
	if err == nil && r.Verdict != chain.Verified {
		err = fmt.Errorf("the chain is %s: %v", r.Verdict, r.Findings)
	}
	return err
}

// signatures is the engine alone, by all CPUs, in batches as a verification
// has them, tables included.
func (b *bench) signatures(c *chained, p path, n int) *task {
	return &task{name: p.name, events: n, run: func() error {
		key := sigverify.NewHMAC([]byte(secret))
		if c.name != "hmac" {
			key = sigverify.New(c.files.Registry.Signers[0].Key)
		}
		e := sigverify.NewEngine(sigverify.Options{Without: sigverify.AllPaths &^ p.paths})
		const size = 256
		batches := make(chan int)
		errs := make([]error, runtime.GOMAXPROCS(0))
		var wg sync.WaitGroup
		for cpu := range errs {
			wg.Go(func() {
				checks := make([]sigverify.Check, 0, size)
				for from := range batches {
					checks = checks[:0]
					for i := from; i < min(from+size, n); i++ {
						checks = append(checks, sigverify.Check{Key: key, Digest: c.sums[i], Signature: c.raw[i]})
					}
					errs[cpu] = errors.Join(errs[cpu], e.Verify(checks))
					for i := range checks {
						if !checks[i].Valid {
							errs[cpu] = errors.Join(errs[cpu], fmt.Errorf("signature %d is refused", from+i))
						}
					}
				}
			})
		}
		for from := 0; from < n; from += size {
			batches <- from
		}
		close(batches)
		wg.Wait()
		return errors.Join(errs...)
	}}
}

// fromSources measures whole verifications of an export and of a table, by the
// fastest path, and, where it is found, by Node.
func (b *bench) fromSources(ctx context.Context) error {
	node, _ := exec.LookPath("node")
	var cluster *auditdbtest.Cluster
	if _, ok := auditdbtest.Find(); ok {
		var err error
		if cluster, err = auditdbtest.Start(ctx, ""); err != nil {
			return err
		}
		defer cluster.Stop()
	} else {
		fmt.Printf("\nPostgreSQL is NOT measured: %s\n", auditdbtest.Install)
	}
	if node == "" {
		fmt.Println("\nNode is NOT measured: there is no node on PATH")
	}
	fmt.Printf("\n%-9s %-11s %9s %9s %9s %14s\n", "key", "source", "events/s", "client µs", "server µs", "of CPUs' limit")
	cpus := runtime.GOMAXPROCS(0)
	for _, c := range b.chains {
		name := filepath.Join(b.dir, c.name+".ndjson")
		if err := os.WriteFile(name, c.ndjson, 0o600); err != nil {
			return err
		}
		terms := audit.Terms{Registry: c.files.Registry, Archive: c.files.Archive, Secrets: secrets(c)}
		tasks := []*task{{name: "NDJSON", events: b.events, run: func() error {
			r, _, err := audit.Verify(ctx, audit.Source{Name: name, Open: func() (io.ReadCloser, error) { return os.Open(name) }}, terms)
			return verified(r, err)
		}}}
		if cluster != nil {
			url, err := b.load(ctx, cluster, c)
			if err != nil {
				return err
			}
			tasks = append(tasks, &task{name: "PostgreSQL", events: b.events, server: func() time.Duration { return serverUsage(cluster) }, run: func() error {
				r, _, err := audit.Verify(ctx, audit.Source{DatabaseURL: url, Table: "audit_events"}, terms)
				return verified(r, err)
			}})
		}
		if err := turns(b.rounds, tasks); err != nil {
			return err
		}
		for _, t := range tasks {
			fmt.Printf("%-9s %-11s %9.0f %9.2f %9.2f %14.2f\n", c.name, t.name, t.median(rate), t.median(cpu), t.median(server), t.median(reach(cpus)))
		}
		if node != "" {
			if err := b.node(ctx, node, c, name, tasks[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) load(ctx context.Context, cluster *auditdbtest.Cluster, c *chained) (url string, err error) {
	if url, err = cluster.Database(ctx, "bench_"+c.name); err != nil {
		return "", err
	}
	if err = auditdbtest.CreateTable(ctx, url, auditdbtest.AgentManager); err != nil {
		return "", err
	}
	if _, err = auditdbtest.Load(ctx, url, "audit_events", bytes.NewReader(c.ndjson)); err != nil {
		return "", err
	}
	_, err = auditdbtest.Exec(ctx, url, "VACUUM ANALYZE audit_events")
	return url, err
}

// serverUsage sums up the CPU time of a cluster's processes, also of those that
// have ended, from /proc; 0 where there is none.
func serverUsage(c *auditdbtest.Cluster) (sum time.Duration) {
	text, err := os.ReadFile(filepath.Join(c.Dir(), "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	parent, _, _ := strings.Cut(string(text), "\n")
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		_, after, ok := strings.Cut(string(text), ") ") // the program's name may hold anything
		fields := strings.Fields(after)
		if err != nil || !ok || len(fields) < 15 {
			continue
		}
		pid := filepath.Base(filepath.Dir(name))
		last := 13 // of utime and stime; a parent has also those of its children that ended
		switch {
		case pid == parent:
			last = 15
		case fields[1] != parent:
			continue
		}
		for _, f := range fields[11:last] {
			ticks, _ := strconv.ParseInt(f, 10, 64)
			sum += time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on all that we run on
		}
	}
	return sum
}

//go:embed verify.mjs
var verifier []byte

// node lets Node do the same, in rounds of its own; what it measures leaves its
// start out.
func (b *bench) node(ctx context.Context, node string, c *chained, name string, ours *task) error {
	script, keys := filepath.Join(b.dir, "verify.mjs"), filepath.Join(b.dir, "keys.json")
	known := fmt.Sprintf(`{"entry":%s,"secret":%q}`, c.entry, secret)
	if err := errors.Join(os.WriteFile(script, verifier, 0o600), os.WriteFile(keys, []byte(known), 0o600)); err != nil {
		return err
	}
	var walls, cpus []float64
	for range b.rounds {
		cmd := exec.CommandContext(ctx, node, script, keys, name)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		var r struct {
			Events    int
			Head      string
			Wall, CPU float64 // µs
		}
		if err := json.Unmarshal(out, &r); err != nil {
			return err
		}
		if r.Events != b.events || r.Head != c.sums[b.events-1].String() {
			return fmt.Errorf("node found another head: %s", out)
		}
		walls, cpus = append(walls, r.Wall/float64(r.Events)), append(cpus, r.CPU/float64(r.Events))
	}
	wall, cpuTime := median(walls), median(cpus)
	fmt.Printf("%-9s %-11s %9.0f %9.2f %9s   %.1f times our wall time, %.1f times our CPU time\n", c.name, "Node, NDJSON", 1e6/wall, cpuTime, "",
		wall/ours.median(func(c cost) float64 { return c.wall }), cpuTime/ours.median(cpu))
	return nil
}

// peaks runs the action itself over growing exports. The kind that takes most
// memory is measured: Ed25519, whose tables are kept.
func (b *bench) peaks(ctx context.Context) error {
	var c *chained
	for _, candidate := range b.chains {
		if c == nil || candidate.name == "ed25519" {
			c = candidate
		}
	}
	if c == nil || b.memory == 0 {
		return nil
	}
	bin := filepath.Join(b.dir, "verify-chain")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "./actions/verify-chain")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	reg := filepath.Join(b.dir, "signers.json")
	if err := os.WriteFile(reg, []byte("["+c.entry+"]"), 0o600); err != nil {
		return err
	}
	fmt.Printf("\npeak memory of verify-chain, %s, NDJSON:", c.name)
	first := 0.0
	for n := b.memory / 100; n <= b.memory; n *= 10 {
		name := filepath.Join(b.dir, "large.ndjson")
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		c.write(f, n)
		if err := f.Close(); err != nil {
			return err
		}
		var all []float64
		for range b.rounds {
			peak, err := peakOf(exec.CommandContext(ctx, bin, "--events-path="+name, "--registry-path="+reg, "--archive-path="+filepath.Join(b.dir, "none.json")))
			if err != nil {
				return err
			}
			all = append(all, peak)
		}
		mib := median(all)
		if first == 0 {
			first = mib
		}
		fmt.Printf("  %d events %.1f MiB (%+.0f %%)", n, mib, 100*(mib/first-1))
	}
	fmt.Println()
	return nil
}

// peakOf runs a program and gives the most memory that it had, in MiB. A child's
// account begins with its parent's memory, so on Linux the program's own mark
// is read, until it has ended.
func peakOf(cmd *exec.Cmd) (float64, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	done := make(chan struct{})
	marks := make(chan float64)
	go func() {
		mark := 0.0
		for {
			if text, err := os.ReadFile(status); err == nil {
				_, after, _ := strings.Cut(string(text), "VmHWM:")
				if f := strings.Fields(after); len(f) > 0 {
					kib, _ := strconv.ParseFloat(f[0], 64)
					mark = max(mark, kib/1024)
				}
			}
			select {
			case <-done:
				marks <- mark
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	mark := <-marks
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out.Bytes())
	}
	if mark == 0 {
		mark = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	}
	return mark, nil
}

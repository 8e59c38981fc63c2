//go:build unix

// Command bench measures what a verification costs, for each kind of key, on
// the machine that it runs on: the signatures alone on each path, the whole work
// from memory, from NDJSON and from PostgreSQL (a throw-away server of its own,
// where its programs are found), peak memory, the canonical form, and, where
// Node is found, the same work by a JavaScript verifier that keeps its keys.
//
// What is compared is measured in turns within one run, and the medians of the
// rounds are set side by side, in CPU time, which other load disturbs least.
// Only the ratios say something about another machine. docs/performance.md
// explains them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
)

func main() {
	var b bench
	flag.IntVar(&b.events, "events", 50_000, "events of each chain; with fewer, the start of a run weighs on its rate")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds, of which the median counts")
	flag.IntVar(&b.memory, "memory", 1_000_000, "events of the largest chain whose peak memory is measured")
	only := flag.String("only", "", "kinds of key to measure, with commas in between; all if empty")
	flag.Parse()
	b.only = strings.FieldsFunc(*only, func(c rune) bool { return c == ',' })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	fmt.Printf("%s/%s, %s, %d CPUs, %d rounds, medians; µs are of CPU time, and a core's\n", runtime.GOOS, runtime.GOARCH, runtime.Version(), runtime.GOMAXPROCS(0), b.rounds)
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.canonical()
	for _, kind := range b.kinds() {
		c, err := b.chain(kind)
		if err != nil {
			return err
		}
		b.chains = append(b.chains, c)
	}
	for _, step := range []func(context.Context) error{b.fromMemory, b.fromSources, b.peaks} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

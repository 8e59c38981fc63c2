//go:build unix

package main

import (
	"slices"
	"syscall"
	"time"
)

// cost is what something took for one event.
type cost struct{ wall, cpu, server float64 } // µs

// usage is the CPU time of this process so far.
func usage() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no other arguments to refuse
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// task is one of several things to be compared.
type task struct {
	name   string
	events int
	run    func() error
	// server gives CPU time spent elsewhere on its behalf.
	server func() time.Duration
	costs  []cost
}

// turns runs all tasks in turn, once to warm up and then in rounds, so that what
// disturbs one of them disturbs all.
func turns(rounds int, tasks []*task) error {
	for round := range rounds + 1 {
		for _, t := range tasks {
			server := func() time.Duration { return 0 }
			if t.server != nil {
				server = t.server
			}
			start, cpu, other := time.Now(), usage(), server()
			if err := t.run(); err != nil {
				return err
			}
			if round > 0 {
				per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(t.events) }
				t.costs = append(t.costs, cost{per(time.Since(start)), per(usage() - cpu), per(server() - other)})
			}
		}
	}
	return nil
}

// median of one part of the costs.
func (t *task) median(part func(cost) float64) float64 {
	all := make([]float64, len(t.costs))
	for i, c := range t.costs {
		all[i] = part(c)
	}
	return median(all)
}

func median(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// ratio is the median of the rounds' ratios of two tasks' CPU time.
func ratio(above, below *task) float64 {
	all := make([]float64, len(above.costs))
	for i := range all {
		all[i] = above.costs[i].cpu / below.costs[i].cpu
	}
	return median(all)
}

func cpu(c cost) float64    { return c.cpu }
func server(c cost) float64 { return c.server }
func rate(c cost) float64   { return 1e6 / c.wall }

// reach is how much of the machine's limit the events arrived at: the events
// that all its CPUs could do at what client and server spent on each.
func reach(cpus int) func(cost) float64 {
	return func(c cost) float64 { return (c.cpu + c.server) / c.wall / float64(cpus) }
}

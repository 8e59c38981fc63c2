package auditdbtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	shared = sync.OnceValues(func() (*Cluster, error) { return Start(context.Background(), "") })
	inUse  atomic.Bool
	made   atomic.Int32 // databases
)

// Main runs a test binary's tests and then stops the cluster that New started
// for them:
//
//	func TestMain(m *testing.M) { os.Exit(auditdbtest.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	if inUse.Load() {
		if c, err := shared(); err == nil {
			c.Stop()
		}
	}
	return code
}

// New returns the superuser's connection string for an empty database of the
// test's own, in a cluster that the tests of this binary share. Where no
// server is installed the test fails if CI is "true" and is skipped elsewhere.
func New(t testing.TB) (url string) {
	t.Helper()
	url, err := Shared(t).Database(t.Context(), fmt.Sprintf("test%d", made.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Shared returns the cluster of the databases that New makes.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if _, ok := Find(); !ok {
		if os.Getenv("CI") == "true" {
			t.Fatal(Install)
		}
		t.Skip("SKIPPED, and so not tested: " + Install)
	}
	inUse.Store(true)
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

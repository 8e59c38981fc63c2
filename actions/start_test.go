package actions_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkStart measures what run.sh takes until the action has told that its
// inputs are missing, in each way that a consumer may get it: built from source
// without anything in the build cache, built again, and downloaded. The modules
// are there, and the server is this machine's, so the network's share is missing.
// make start-times prints the medians.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "actions", "docs", "internal", "schemas"} {
		if err := export(filepath.Join("..", name), filepath.Join(dir, "own", name)); err != nil {
			b.Fatal(err)
		}
	}
	released := filepath.Join(dir, "released")
	server := httptest.NewTLSServer(http.FileServer(http.Dir(released)))
	defer server.Close()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		b.Fatal(err)
	}
	run := func(b *testing.B, action, cache string) time.Duration {
		step := exec.Command(filepath.Join(dir, "own/actions/run.sh"))
		step.Env = append(os.Environ(), "GITHUB_ACTION_PATH="+filepath.Join(dir, "own/actions", action), "RUNNER_TEMP="+dir, "CURL_CA_BUNDLE="+filepath.Join(dir, "ca.pem"),
			"GOCACHE="+filepath.Join(dir, cache), "GOPROXY=off")
		begun := time.Now()
		out, _ := step.CombinedOutput()
		took := time.Since(begun)
		if code := step.ProcessState.ExitCode(); code != 2 { // used wrongly: the inputs are missing
			b.Fatalf("run.sh ended with %d:\n%s", code, out)
		}
		return took
	}
	ways := func(b *testing.B, action, cache string, before func()) {
		var all []time.Duration
		for b.Loop() {
			before()
			all = append(all, run(b, action, cache))
		}
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2].Seconds(), "s/start")
		b.ReportMetric(0, "ns/op")
	}
	for _, action := range []string{"validate-registry", "verify-chain", "add-signer"} {
		checksums := filepath.Join(dir, "own/actions/checksums.txt")
		write(b, checksums, "# none\n")
		b.Run(action+"/source,empty-cache", func(b *testing.B) {
			ways(b, action, "cache", func() { os.RemoveAll(filepath.Join(dir, "cache")) })
		})
		b.Run(action+"/source,warm-cache", func(b *testing.B) {
			run(b, action, "cache")
			ways(b, action, "cache", func() {})
		})
		name := action + "_" + runtime.GOOS + "_" + runtime.GOARCH
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(released, name), "./actions/"+action)
		build.Dir, build.Env = filepath.Join(dir, "own"), append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+filepath.Join(dir, "cache"))
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		binary, err := os.ReadFile(filepath.Join(released, name))
		if err != nil {
			b.Fatal(err)
		}
		write(b, checksums, sum(string(binary))+"  "+name+"  "+server.URL+"/"+name+"\n")
		b.Run(action+"/released", func(b *testing.B) {
			ways(b, action, "none", func() {})
			b.ReportMetric(float64(len(binary))/1e6, "MB")
			if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
				b.Error("the listed binary was built, not downloaded")
			}
		})
	}
}

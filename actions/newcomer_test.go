package actions_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
)

// readmeBlock gives the one block of README.md of a language that holds a text,
// as a reader copies it.
func readmeBlock(ts *testscript.TestScript, language, holds string) string {
	text, err := os.ReadFile("../README.md")
	ts.Check(err)
	for _, m := range regexp.MustCompile("(?ms)^ *```"+language+"\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[1], holds) {
			return m[1]
		}
	}
	ts.Fatalf("README.md has no block %s with %q", language, holds)
	return ""
}

// quickstart does in the folder kernel what README.md tells a newcomer to do
// beside a checkout of this repository; the commit that it stands at is the one
// that the runner knows.
func quickstart(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 0, "quickstart")
	here, err := filepath.Abs("..")
	ts.Check(err)
	kernel := ts.MkAbs("kernel")
	ts.Check(os.MkdirAll(kernel, 0o755))
	ts.Check(os.Symlink(here, ts.MkAbs("audit-signer-rotation")))
	const git = "set -euo pipefail\ngit() { [ \"$*\" = '-C ../audit-signer-rotation rev-parse HEAD' ] && echo " + pin + "; }\n"
	command := exec.Command("bash", "-c", git+readmeBlock(ts, "sh", "mkdir -p .github/workflows"))
	command.Dir = kernel
	if out, err := command.CombinedOutput(); err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
}

// reader makes the role of README.md and lets the workflows connect as it.
func reader(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 0, "reader")
	s, ctx := stageOf(ts), context.Background()
	_, err := auditdbtest.Exec(ctx, s.database, readmeBlock(ts, "sql", "CREATE ROLE audit_reader"))
	ts.Check(err)
	ts.Defer(func() {
		_, _ = auditdbtest.Exec(ctx, s.database, "DROP OWNED BY audit_reader; DROP ROLE audit_reader")
	})
	u, err := url.Parse(ts.Getenv("INPUT_DATABASE_URL"))
	ts.Check(err)
	u.User = url.UserPassword("audit_reader", canaryPassword)
	ts.Setenv("INPUT_DATABASE_URL", u.String())
}

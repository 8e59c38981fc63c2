package jsondoc_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
)

// whole is a value as encoding/json has it.
func whole(v *jsondoc.Value) any {
	switch v.Kind {
	case jsondoc.Bool:
		return v.Text == "true"
	case jsondoc.Number:
		f, _ := strconv.ParseFloat(v.Text, 64)
		if math.IsInf(f, 0) {
			return nil // as JSON.stringify writes it
		}
		return f
	case jsondoc.String:
		return v.Text
	case jsondoc.Array:
		list := []any{}
		for _, e := range v.Elements {
			list = append(list, whole(e))
		}
		return list
	case jsondoc.Object:
		object := map[string]any{}
		for _, m := range v.Members {
			object[m.Name] = whole(m.Value)
		}
		return object
	}
	return nil
}

// What is accepted means the same to Node; what is no JSON (n_) is refused.
func TestAgainstNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not installed, and CI must compare with it: tools/deps.sh nodejs")
		}
		t.Skip("SKIPPED: node is not installed, so what is accepted was not compared with it (apt-get install nodejs)")
	}
	suite, _ := filepath.Glob("../../testdata/vectors/jsontestsuite/test_parsing/*.json")
	registries, _ := filepath.Glob("../../testdata/vectors/registries/*.json")
	var accepted []string
	var ours []any
	for _, name := range append(suite, registries...) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := jsondoc.Parse(name, src)
		if strings.HasPrefix(filepath.Base(name), "n_") && err == nil {
			t.Errorf("%s is accepted", name)
		}
		if err == nil {
			accepted, ours = append(accepted, name), append(ours, whole(d.Root))
		}
	}
	const reader = `for (const f of process.argv.slice(1)) console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(f, 'utf8'))))`
	out, err := exec.CommandContext(t.Context(), node, append([]string{"-e", reader}, accepted...)...).Output()
	if err != nil {
		t.Fatalf("node refuses what is accepted here: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(accepted) || len(accepted) < 100 {
		t.Fatalf("%d lines for %d files", len(lines), len(accepted))
	}
	for i, line := range lines {
		var theirs any
		if err := json.Unmarshal([]byte(line), &theirs); err != nil || !reflect.DeepEqual(theirs, ours[i]) {
			t.Errorf("%s: node reads\n%s\n(%v), here it is\n%v", accepted[i], line, err, ours[i])
		}
	}
	t.Logf("%d of %d files are accepted and read alike", len(accepted), len(suite)+len(registries))
}

package actions_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// shapes are the containers that verifiers read, in the spellings that they
// read, one "~" for each step of the indentation.
var shapes = map[string]string{
	"object":       "{\n~\"version\": 3,\n~\"signers\": [\n~~{\n~~~\"signerId\": \"v1\",\n~~~\"algorithm\": \"rsa-sha256\",\n~~~\"publicKey\": PEM\n~~}\n~],\n~\"x-owner\": \"security\"\n}\n",
	"list":         "[\n~{\n~~\"signer_kid\": \"v1\",\n~~\"alg\": \"rsa-sha256\",\n~~\"public_key_pem\": PEM\n~}\n]\n",
	"map":          "{\n~\"v1\": {\n~~\"algorithm\": \"rsa-sha256\",\n~~\"publicKey\": PEM\n~}\n}\n",
	"one a line":   "[\n~{\"id\": \"v1\", \"algorithm\": \"rsa-sha256\", \"key\": PEM}\n]\n",
	"one line":     "{\"signers\":[{\"signerId\":\"v1\",\"algorithm\":\"rsa-sha256\",\"publicKey\":PEM}]}",
	"no final eol": "[\n~{\n~~\"signerId\": \"v1\",\n~~\"algorithm\": \"rsa-sha256\",\n~~\"publicKey\": PEM\n~}\n]",
}

// TestPullRequestChangesNoOtherByte lets add-signer edit the registry in every
// shape, indentation and line end: in the pull request's difference only the
// new entry's lines are new, and at most one line has gained a comma.
func TestPullRequestChangesNoOtherByte(t *testing.T) {
	bin := binaries(t)
	pem := publicPEM(t, "rsa2048")
	newKey := filepath.Join(t.TempDir(), "new.pem")
	if err := os.WriteFile(newKey, []byte(publicPEM(t, "ed25519")), 0o644); err != nil {
		t.Fatal(err)
	}
	for shape, text := range shapes {
		for indent, unit := range map[string]string{"2": "  ", "4": "    ", "tab": "\t"} {
			for _, eol := range []string{"\n", "\r\n"} {
				if !strings.Contains(text, "~") && (indent != "2" || eol != "\n") {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %q", shape, indent, eol), func(t *testing.T) {
					t.Parallel()
					before := strings.ReplaceAll(strings.NewReplacer("~", unit, "PEM", jsondoc.Quote(pem)).Replace(text), "\n", eol)
					compare(t, before, addSigner(t, bin, before, newKey), eol)
				})
			}
		}
	}
}

func publicPEM(t *testing.T, name string) string {
	t.Helper()
	k, err := (&stage{}).key(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.publicPEM()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// addSigner gives the registry as the action's pull request has it.
func addSigner(t *testing.T, bin, registry, key string) string {
	t.Helper()
	const path = "kernel/tools/signers.json"
	g, err := githubtest.New(githubtest.Options{Token: canaryToken, Files: map[string]string{path: registry}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	cmd := exec.Command(filepath.Join(bin, "add-signer"), "--public-key-path="+key, "--signer-id=v2", "--reason=yearly rotation")
	cmd.Env = []string{"GITHUB_API_URL=" + g.URL(), "GITHUB_REPOSITORY=acme/kernel", "INPUT_TOKEN=" + canaryToken}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if v := g.Violations(); len(v) > 0 {
		t.Fatal(v)
	}
	after, found := g.File(g.Pull(1).Branch, path)
	if !found {
		t.Fatal("the pull request has no registry")
	}
	return after
}

// compare takes the lines of before out of after, in order. What is left over
// is the new entry.
func compare(t *testing.T, before, after, eol string) {
	t.Helper()
	if eol == "\r\n" && strings.Count(after, "\n") != strings.Count(after, eol) {
		t.Error("line ends changed")
	}
	if !strings.Contains(before, "\n") {
		head, tail, _ := strings.Cut(before, "]}")
		if !strings.HasPrefix(after, head+",") || !strings.HasSuffix(after, "]}"+tail) || strings.Contains(after, "\n") {
			t.Errorf("other bytes changed:\n%s\n%s", before, after)
		}
		return
	}
	commas := 0
	var added []string
	rest := strings.SplitAfter(before, "\n")
	for _, line := range strings.SplitAfter(after, "\n") {
		switch {
		case len(rest) > 0 && line == rest[0]:
			rest = rest[1:]
		case len(rest) > 0 && line == strings.TrimSuffix(rest[0], eol)+","+eol:
			rest = rest[1:]
			commas++
		default:
			added = append(added, line)
		}
	}
	if len(rest) > 0 || commas > 1 || !strings.Contains(strings.Join(added, ""), `"v2"`) {
		t.Errorf("%d commas, new lines %q, lines gone %q", commas, added, rest)
	}
}

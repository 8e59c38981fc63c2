package canonical_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
)

// reference is the canonical form in the terms of the specification: parse,
// sort the names of every object with the default comparison, print with
// JSON.stringify; a number beyond the double range becomes null.
const reference = `
const print = v =>
  v === null || typeof v === 'boolean' || typeof v === 'string' ? JSON.stringify(v) :
  typeof v === 'number' ? (Number.isFinite(v) ? String(Object.is(v, -0) ? 0 : v) : 'null') :
  Array.isArray(v) ? '[' + v.map(print).join(',') + ']' :
  '{' + Object.keys(v).sort().map(k => JSON.stringify(k) + ':' + print(v[k])).join(',') + '}';
require('readline').createInterface({input: process.stdin}).on('line', l => {
  const text = JSON.parse(l);
  console.log(JSON.stringify(print(JSON.parse(text))));
});`

// Node prints the same bytes for random documents of every shape.
func TestAgainstNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not installed, and CI must compare with it: tools/deps.sh nodejs")
		}
		t.Skip("SKIPPED: node is not installed, so the canonical form was not compared with it (apt-get install nodejs)")
	}
	cmd := exec.CommandContext(t.Context(), node, "-e", reference)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const documents = 20000
	seed := rand.Uint64()
	texts := make([]string, documents)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	for i := range texts {
		texts[i] = g.value(0)
	}
	go func() {
		w := bufio.NewWriter(in)
		for _, text := range texts {
			line, _ := json.Marshal(text)
			w.Write(append(line, '\n'))
		}
		w.Flush()
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	n := 0
	for ; lines.Scan(); n++ {
		var want string
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		got, _, err := canonical.Append(nil, []byte(texts[n]))
		if err != nil || string(got) != want {
			t.Fatalf("seed %d, document %d: %.300q\ngot  %.300q (%v)\nnode %.300q", seed, n, texts[n], got, err, want)
		}
	}
	if err := cmd.Wait(); err != nil || n != documents {
		t.Fatalf("node answered %d of %d documents: %v", n, documents, err)
	}
}

// generator writes random JSON text in all its spellings.
type generator struct{ *rand.Rand }

func (g generator) value(depth int) string {
	switch n := g.IntN(8); {
	case n < 2 && depth < 5:
		return g.object(depth)
	case n == 2 && depth < 5:
		var items []string
		for range g.IntN(5) {
			items = append(items, g.blank()+g.value(depth+1)+g.blank())
		}
		return "[" + strings.Join(items, ",") + "]"
	case n < 5:
		return g.number()
	case n < 7:
		return g.text()
	}
	return []string{"null", "true", "false"}[g.IntN(3)]
}

// object has names that differ once their escapes are resolved.
func (g generator) object(depth int) string {
	seen := map[string]bool{}
	var members []string
	for range g.IntN(8) {
		name := g.text()
		var plain string
		if json.Unmarshal([]byte(name), &plain); seen[plain] || plain == "__proto__" {
			continue
		}
		seen[plain] = true
		members = append(members, g.blank()+name+g.blank()+":"+g.blank()+g.value(depth+1))
	}
	return "{" + strings.Join(members, ",") + g.blank() + "}"
}

func (g generator) blank() string { return []string{"", "", "", " ", "\t", "\n", "\r"}[g.IntN(7)] }

func (g generator) number() string {
	sign := []string{"", "-"}[g.IntN(2)]
	switch g.IntN(6) {
	case 0:
		return sign + strconv.FormatUint(g.Uint64()>>g.IntN(64), 10)
	case 1:
		return sign + strconv.FormatFloat(math.Abs(g.NormFloat64()), 'f', g.IntN(25), 64)
	case 2:
		return sign + fmt.Sprintf("%d.%0*dE%+d", g.IntN(10), 1+g.IntN(20), g.IntN(1000000), g.IntN(660)-330)
	case 3:
		if f := math.Float64frombits(g.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return strconv.FormatFloat(f, []byte("efg")[g.IntN(3)], -1, 64)
		}
	case 4:
		return sign + "0." + strings.Repeat("0", g.IntN(12)) + strconv.Itoa(g.IntN(100000))
	}
	return sign + strconv.Itoa(1+g.IntN(1000)) + strings.Repeat("0", g.IntN(25))
}

func (g generator) text() string {
	var b strings.Builder
	b.WriteByte('"')
	for range g.IntN(6) {
		switch g.IntN(9) {
		case 0:
			b.WriteString([]string{`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`}[g.IntN(8)])
		case 1:
			fmt.Fprintf(&b, `\u%04x`, g.IntN(0xD800))
		case 2:
			fmt.Fprintf(&b, `\u%04X\u%04x`, 0xD800+g.IntN(0x400), 0xDC00+g.IntN(0x400))
		case 3:
			b.WriteRune(rune(0xE000 + g.IntN(0x2000)))
		case 4:
			b.WriteRune(rune(0x10000 + g.IntN(0x100000)))
		case 5:
			b.WriteRune([]rune{0x7f, 0x80, 0x2028, 0x2029, 0xFEFF, '<', '&', '>', 0xFFFF}[g.IntN(9)])
		default:
			b.WriteByte("abzAB019 _-"[g.IntN(11)])
		}
	}
	b.WriteByte('"')
	return b.String()
}

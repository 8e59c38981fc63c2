package awsapi

import (
	"strings"
	"testing"
)

func TestOneLine(t *testing.T) {
	if got := OneLine(" a\n\tb. "); got != "a b" {
		t.Errorf("got %q", got)
	}
	if got := OneLine(strings.Repeat("é", 400)); len(got) > 610 || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes, ending %q", len(got), got[len(got)-8:])
	}
}

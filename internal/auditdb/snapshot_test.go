package auditdb

import (
	"testing"
	"time"
)

func TestTimestamp(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                 "",
		"\x00":                             "",
		"\x00\x00\x00\x00\x00\x00\x00\x00": "2000-01-01T00:00:00Z",
		"\xff\xff\xff\xff\xff\xff\xff\xff": "1999-12-31T23:59:59.999999Z",
		"\x7f\xff\xff\xff\xff\xff\xff\xff": "",
		"\x80\x00\x00\x00\x00\x00\x00\x00": "",
		"\x7f\xff\xff\xff\xff\xff\xff\xfe": "",
		"\x80\x00\x00\x00\x00\x00\x00\x01": "",
	} {
		got := timestamp([]byte(raw))
		if want == "" && !got.IsZero() || want != "" && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%x is %v, want %q", raw, got, want)
		}
	}
}

func TestBinaryForms(t *testing.T) {
	s := &Snapshot{table: &table{needed: []column{{base: "uuid"}, {base: "jsonb"}, {}, {}, {}, {}}}}
	uuid := []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	e, err := s.event(1, [][]byte{uuid, []byte("\x01{}"), nil, nil, nil, nil})
	if err != nil || string(e.ID) != "00112233-4455-6677-8899-aabbccddeeff" || string(e.Payload) != "{}" {
		t.Errorf("%s %s %v", e.ID, e.Payload, err)
	}
	for _, payload := range []string{"", "\x01", "\x02{}", "{}"} {
		if _, err := s.event(1, [][]byte{uuid, []byte(payload), nil, nil, nil, nil}); err == nil || err.(*Error).ExitCode() != 2 {
			t.Errorf("jsonb %q: %v", payload, err)
		}
	}
}

package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is SHA256(canonical bytes || the 32 bytes of the previous digest); the
// first event has nothing after its canonical bytes. That is what Agent Manager
// and the Go kernel write.
type Digest [sha256.Size]byte

// String is the form in which prev_hash holds a digest: 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the form of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly the form of String.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, ok := ParseDigest(text)
	if !ok {
		return fmt.Errorf("a digest is 64 lower-case hex digits, this is %.80q", text)
	}
	*d = parsed
	return nil
}

// ParseDigest reads 64 lower-case hex digits and nothing else.
func ParseDigest(text []byte) (d Digest, ok bool) {
	if len(text) != 2*len(d) {
		return d, false
	}
	for i := range d {
		hi, lo := nibble[text[2*i]], nibble[text[2*i+1]]
		if hi|lo > 15 {
			return Digest{}, false
		}
		d[i] = hi<<4 | lo
	}
	return d, true
}

var nibble = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i)
	}
	return t
}()

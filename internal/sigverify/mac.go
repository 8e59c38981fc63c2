package sigverify

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// maxMACs bounds the keys of which a goroutine keeps the hashed pads.
const maxMACs = 64

// macs is the engine of the MAC path: the library's HMAC, used again. The
// comparison takes the same time for all tags of the right length.
type macs struct {
	keyed map[*Key]hash.Hash
	sum   [MACSize]byte
}

func (m *macs) accept(checks []Check) {
	for i := range checks {
		c := &checks[i]
		if c.Valid || c.Key == nil || c.Key.secret == nil {
			continue
		}
		mac := m.keyed[c.Key]
		if mac == nil {
			if m.keyed == nil || len(m.keyed) >= maxMACs {
				m.keyed = map[*Key]hash.Hash{}
			}
			mac = hmac.New(sha256.New, c.Key.secret)
			m.keyed[c.Key] = mac
		}
		mac.Reset()
		mac.Write(c.Digest[:])
		c.Valid = hmac.Equal(mac.Sum(m.sum[:0]), c.Signature)
	}
}

package pubkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// The generated keys of this package's tests.
var (
	rsa2048 = generatedRSA(2048)
	rsa3072 = generatedRSA(3072)
	rsa4096 = generatedRSA(4096)
)

func generatedRSA(bits int) func() *rsa.PrivateKey {
	return sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return key
	})
}

var edPrivate = ed25519.NewKeyFromSeed([]byte("thirty-two bytes to test, secret"))

// Points of edwards25519 that are no public keys.
const (
	pointIdentity   = "0100000000000000000000000000000000000000000000000000000000000000"
	pointOrder8     = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
	pointMixed      = "98519eadf35b995233b51b5cd23e9cc5a28b639b5a4af0ec903cb960d81b7819" // base point + pointOrder8
	pointSecondForm = "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f" // y = p + 3
	pointOffCurve   = "0200000000000000000000000000000000000000000000000000000000000000"
)

// prime2048 is a prime of 2048 bits, made at random.
const prime2048 = "e0d7e80839fb2d22f8b0092e1d37c7e30c1ff717fe9336aec05218d84c145c8d94fabbde2719d5b06ef319f70c07216c" +
	"d16c76ecac50316e160dbd26bcc8617a5435bd6037fb2790d3ba4d51c6a861e046a3bcf6835d3f8c61b3edc7d22b4bd2" +
	"a2216459b260643747d98fec0988c35c2d8cfb40e5bdbb001a31cacf8237d5c770d63f319b62ff9a77bd4f2b23ac0953" +
	"0c77b41b3dda5a2e20047a87a4cf4e296b674505df8ef46407589b2ef2a848b81d995f472fe6227986869c8b8f39f43a" +
	"925d1e2dfca03e9f4c61b42411facf80d43590c13c4ba9c134c494d1616d0efe4241525b64900c649d62bb36b394916b" +
	"f5e02d9808757c44158ac755216193db"

func number(t *testing.T, hexadecimal string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(hexadecimal, 16)
	if !ok {
		t.Fatalf("%q is no number", hexadecimal)
	}
	return n
}

func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tlv encodes one element of DER.
func tlv(tag byte, content ...[]byte) []byte {
	var body []byte
	for _, c := range content {
		body = append(body, c...)
	}
	length := []byte{byte(len(body))}
	if len(body) >= 0x80 {
		octets := big.NewInt(int64(len(body))).Bytes()
		length = append([]byte{0x80 | byte(len(octets))}, octets...)
	}
	return append(append([]byte{tag}, length...), body...)
}

// integer encodes a number that is not negative.
func integer(n *big.Int) []byte {
	octets := n.Bytes()
	if len(octets) == 0 || octets[0] >= 0x80 {
		octets = append([]byte{0}, octets...)
	}
	return tlv(0x02, octets)
}

var (
	derNull      = []byte{0x05, 0x00}
	derRSA       = []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")
	derRSAPSS    = []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a")
	derEd25519   = []byte("\x06\x03\x2b\x65\x70")
	publicE      = big.NewInt(exponent)
	noUnusedBits = []byte{0}
)

// rsaSPKI encodes an RSA key of any modulus and exponent.
func rsaSPKI(n, e *big.Int) []byte {
	return tlv(0x30, tlv(0x30, derRSA, derNull), tlv(0x03, noUnusedBits, tlv(0x30, integer(n), integer(e))))
}

func edSPKI(point []byte) []byte {
	return tlv(0x30, tlv(0x30, derEd25519), tlv(0x03, noUnusedBits, point))
}

func marshal(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// pemOf wraps base64 into lines of the given width.
func pemOf(label string, der []byte, width int, eol string) string {
	text := "-----BEGIN " + label + "-----" + eol
	for rest := b64(der); rest != ""; {
		cut := min(width, len(rest))
		text += rest[:cut] + eol
		rest = rest[cut:]
	}
	return text + "-----END " + label + "-----" + eol
}

// wantRefusal fails unless err is an *Error of that rule whose one-line message
// holds the words, and which exits with 2.
func wantRefusal(t *testing.T, err error, rule, words string) {
	t.Helper()
	refusal, ok := err.(*Error)
	if !ok {
		t.Fatalf("error %v (%T), want an *Error with rule %s", err, err, rule)
	}
	if refusal.Rule != rule || !strings.Contains(refusal.Error(), words) {
		t.Errorf("refused as %s: %q\nwant %s with %q", refusal.Rule, refusal, rule, words)
	}
	if strings.Contains(refusal.Message, "\n") || refusal.ExitCode() != 2 {
		t.Errorf("message %q, exit code %d: want one line and 2", refusal.Message, refusal.ExitCode())
	}
}

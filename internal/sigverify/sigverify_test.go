package sigverify

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

const vectors = "../../testdata/vectors/wycheproof/"

// wycheproof is what the tests read of a file.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		KeySize, TagSize int
		PublicKeyDer     string
		Tests            []struct {
			TcID                   int
			Comment, Key, Msg, Tag string
			Sig, Result            string
		}
	}
}

func load(t *testing.T, name string) wycheproof {
	t.Helper()
	text, err := os.ReadFile(vectors + name)
	if err != nil {
		t.Fatal(err)
	}
	var w wycheproof
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range w.TestGroups {
		n += len(g.Tests)
	}
	if n != w.NumberOfTests {
		t.Fatalf("%d tests, %d are announced", n, w.NumberOfTests)
	}
	return w
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeAndVerify is what a row's signature goes through.
func decodeAndVerify(k *Key, digest [32]byte, text string) bool {
	signature, err := Decode(nil, []byte(text), k.Size())
	return err == nil && k.Verify(digest, signature)
}

// Wycheproof's RSA vectors. What they call acceptable (a DigestInfo without
// its NULL) is refused.
func TestWycheproofRSA(t *testing.T) {
	for name, want := range map[string]int{
		"rsa_signature_2048_sha256_test.json": 259,
		"rsa_signature_3072_sha256_test.json": 259,
		"rsa_signature_4096_sha256_test.json": 258,
	} {
		t.Run(name, func(t *testing.T) {
			w := load(t, name)
			seen, good := 0, 0
			for _, g := range w.TestGroups {
				public, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
				if err != nil {
					t.Fatal(err)
				}
				n := public.(*rsa.PublicKey)
				k := newRSA(n) // the key policy refuses those with the exponent 3
				if n.E == 65537 {
					k = New(parsed(t, n))
				}
				if k.Size() != g.KeySize/8 {
					t.Fatalf("signatures have %d bytes", k.Size())
				}
				var batch []Check
				var wants []bool
				for _, tc := range g.Tests {
					seen++
					signature := unhex(t, tc.Sig)
					digest := sha256.Sum256(unhex(t, tc.Msg))
					expect := tc.Result == "valid"
					if expect {
						good++
					}
					for _, text := range []string{base64.StdEncoding.EncodeToString(signature), tc.Sig, strings.ToUpper(tc.Sig)} {
						if got := decodeAndVerify(k, digest, text); got != expect {
							t.Errorf("%d (%s): %v, want %s", tc.TcID, tc.Comment, got, tc.Result)
						}
					}
					if k.Verify(digest, signature) != expect {
						t.Errorf("%d (%s): the raw signature is judged otherwise", tc.TcID, tc.Comment)
					}
					batch, wants = append(batch, Check{Key: k, Digest: digest, Signature: signature}), append(wants, expect)
				}
				for path, e := range engines() {
					if err := e.Verify(batch); err != nil {
						t.Fatal(err)
					}
					for i := range batch {
						if batch[i].Valid != wants[i] {
							t.Errorf("%s: %d (%s): %v", path, g.Tests[i].TcID, g.Tests[i].Comment, batch[i].Valid)
						}
					}
				}
			}
			if seen != want || good < 7 {
				t.Errorf("%d tests, %d of them valid", seen, good)
			}
		})
	}
}

// Wycheproof's HMAC vectors, as they stand where a tag is whole; a truncated
// tag is refused for its length.
func TestWycheproofHMAC(t *testing.T) {
	w := load(t, "hmac_sha256_test.json")
	seen, good := 0, 0
	for _, g := range w.TestGroups {
		for _, tc := range g.Tests {
			seen++
			secret, message, expect := unhex(t, tc.Key), unhex(t, tc.Msg), tc.Result == "valid" && g.TagSize == 256
			if expect {
				good++
			}
			if got := validMAC(secret, message, unhex(t, tc.Tag)); got != expect {
				t.Errorf("%d (%s), tag of %d bits: %v, want %s", tc.TcID, tc.Comment, g.TagSize, got, tc.Result)
			}
			if g.TagSize != 256 {
				if _, err := Decode(nil, []byte(tc.Tag), MACSize); err == nil {
					t.Errorf("%d: a tag of %d bits was read", tc.TcID, g.TagSize)
				}
			}
			if len(message) == 32 {
				for path, e := range engines() {
					batch := []Check{{Key: NewHMAC(secret), Digest: [32]byte(message), Signature: unhex(t, tc.Tag)}}
					if err := e.Verify(batch); err != nil || batch[0].Valid != expect {
						t.Errorf("%s: %d (%s): %v %v", path, tc.TcID, tc.Comment, batch[0].Valid, err)
					}
				}
			}
			if len(message) == 32 && decodeAndVerify(NewHMAC(secret), [32]byte(message), tc.Tag) != expect {
				t.Errorf("%d (%s) is judged otherwise as a signature", tc.TcID, tc.Comment)
			}
		}
	}
	if seen != 174 || good != 33 {
		t.Errorf("%d tests, %d of them valid", seen, good)
	}
}

var keys = sync.OnceValue(func() (k struct {
	rsa *rsa.PrivateKey
	ed  ed25519.PrivateKey
}) {
	var err error
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
		_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return k
})

func parsed(t testing.TB, public any) pubkey.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pubkey.ParseSPKI(der)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Each algorithm signs the digest in one way, and nothing near it verifies.
func TestVerify(t *testing.T) {
	digest := sha256.Sum256([]byte("event"))
	other := sha256.Sum256([]byte("another"))
	twice := sha256.Sum256(digest[:])
	k := keys()
	rsaKey, edKey, macKey := New(parsed(t, &k.rsa.PublicKey)), New(parsed(t, k.ed.Public())), NewHMAC([]byte("secret"))
	pkcs1 := func(hash crypto.Hash, hashed []byte) []byte {
		s, err := rsa.SignPKCS1v15(nil, k.rsa, hash, hashed)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	pss, err := rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs1(crypto.SHA256, digest[:])
	plusN := new(big.Int).Add(new(big.Int).SetBytes(good), k.rsa.N).Bytes()
	ph, err := k.ed.Sign(nil, sum512(digest[:]), &ed25519.Options{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	signed := ed25519.Sign(k.ed, digest[:])
	mac := func(secret string, message []byte) []byte {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write(message)
		return m.Sum(nil)
	}
	for name, tc := range map[string]struct {
		key       *Key
		signature []byte
		want      bool
	}{
		"RSA":                          {rsaKey, good, true},
		"RSA over another digest":      {rsaKey, pkcs1(crypto.SHA256, other[:]), false},
		"RSA, hashed twice":            {rsaKey, pkcs1(crypto.SHA256, twice[:]), false},
		"RSA without DigestInfo":       {rsaKey, pkcs1(0, digest[:]), false},
		"RSA, PSS":                     {rsaKey, pss, false},
		"RSA, s + n":                   {rsaKey, plusN, false},
		"RSA, a zero byte in front":    {rsaKey, append([]byte{0}, good...), false},
		"RSA, a byte cut off":          {rsaKey, good[1:], false},
		"RSA, all zero":                {rsaKey, make([]byte, 256), false},
		"RSA, one":                     {rsaKey, append(make([]byte, 255), 1), false},
		"RSA, n - 1":                   {rsaKey, new(big.Int).Sub(k.rsa.N, big.NewInt(1)).Bytes(), false},
		"RSA, empty":                   {rsaKey, nil, false},
		"Ed25519":                      {edKey, signed, true},
		"Ed25519 over the hex text":    {edKey, ed25519.Sign(k.ed, []byte(hex.EncodeToString(digest[:]))), false},
		"Ed25519ph":                    {edKey, ph, false},
		"Ed25519, S + L":               {edKey, malleable(signed), false},
		"Ed25519, empty":               {edKey, nil, false},
		"HMAC":                         {macKey, mac("secret", digest[:]), true},
		"HMAC over the hex text":       {macKey, mac("secret", []byte(hex.EncodeToString(digest[:]))), false},
		"HMAC with another secret":     {macKey, mac("Secret", digest[:]), false},
		"HMAC, half of it":             {macKey, mac("secret", digest[:])[:16], false},
		"HMAC under no secret":         {NewHMAC(nil), mac("", digest[:]), false},
		"no key":                       {nil, nil, false},
		"no key, a signature":          {&Key{}, signed, false},
		"a key that was refused":       {New(pubkey.Key{}), signed, false},
		"RSA key, HMAC of its modulus": {rsaKey, mac(string(k.rsa.N.Bytes()), digest[:]), false},
	} {
		if got := tc.key.Verify(digest, tc.signature); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, at := range []int{0, 1, 100, 255} {
		changed := bytes.Clone(good)
		changed[at] ^= 1
		if rsaKey.Verify(digest, changed) {
			t.Errorf("RSA with bit 0 of byte %d changed", at)
		}
	}
	for at := range signed {
		changed := bytes.Clone(signed)
		changed[at] ^= 0x10
		if edKey.Verify(digest, changed) {
			t.Errorf("Ed25519 with bit 4 of byte %d changed", at)
		}
	}
}

func sum512(b []byte) []byte {
	h := crypto.SHA512.New()
	h.Write(b)
	return h.Sum(nil)
}

// malleable adds the group order to S (RFC 8032 section 5.1.7 forbids it).
func malleable(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := bytes.Clone(signature[32:])
	reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	reverse(sum)
	return append(bytes.Clone(signature[:32]), sum...)
}

func reverse(b []byte) {
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}

func TestDecode(t *testing.T) {
	raw := make([]byte, 64) // "+/" in base64, letters in hex, two bits to spare
	for i := range raw {
		raw[i] = byte(0xfb - i%3)
	}
	std, lower := base64.StdEncoding.EncodeToString(raw), hex.EncodeToString(raw)
	for name, tc := range map[string]struct {
		text string
		ok   bool
	}{
		"base64":                     {std, true},
		"hex":                        {lower, true},
		"hex in upper case":          {strings.ToUpper(lower), true},
		"hex of digits":              {strings.Repeat("01", 64), true},
		"hex in both cases":          {strings.ToUpper(lower[:64]) + lower[64:], false},
		"hex with a letter beyond f": {lower[:127] + "g", false},
		"hex with a blank":           {lower[:127] + " ", false},
		"hex of another length":      {lower[:126], false},
		"hex, odd":                   {lower[:127], false},
		"hex with a prefix":          {"0x" + lower[:126], false},
		"base64 of the URL alphabet": {base64.URLEncoding.EncodeToString(raw), false},
		"base64 without padding":     {strings.TrimRight(std, "="), false},
		"base64, a = too few":        {std[:87], false},
		"base64, a = too many":       {std + "=", false},
		"base64, spare bits":         {std[:85] + string(std[85]+1) + "==", false},
		"base64 with a line break":   {std[:76] + "\n" + std[76:], false},
		"base64, four line breaks for four characters": {std[:40] + "\n\n\n\n" + std[44:], false},
		"base64, line breaks for the padding":          {std[:86] + "\n\n", false},
		"base64, \\r\\n for the last group":            {std[:84] + "\r\n\r\n", false},
		"base64 with a blank in front":                 {" " + std, false},
		"base64 with a line end":                       {std + "\n", false},
		"base64 of 63 bytes":                           {base64.StdEncoding.EncodeToString(raw[:63]), false},
		"base64 of 65 bytes":                           {base64.StdEncoding.EncodeToString(append(raw, 1)), false},
		"base64 of 66 bytes":                           {base64.StdEncoding.EncodeToString(append(raw, 1, 2)), false},
		"base64 with junk":                             {std[:40] + "!" + std[41:], false},
		"padding in the middle":                        {std[:40] + "==" + std[42:], false},
		"empty":                                        {"", false},
	} {
		got, err := Decode(nil, []byte(tc.text), 64)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !bytes.Equal(got, raw) && name != "hex of digits" {
			t.Errorf("%s: %x", name, got)
		}
		if err != nil && (got != nil || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	// Into space that is at hand, whatever is in it.
	var space [520]byte
	for _, size := range []int{32, 64, 256, 384, 512} {
		raw := make([]byte, size)
		rand.Read(raw)
		for _, text := range []string{base64.StdEncoding.EncodeToString(raw), hex.EncodeToString(raw)} {
			got, err := Decode(space[:0], []byte(text), size)
			if err != nil || !bytes.Equal(got, raw) || &got[0] != &space[0] {
				t.Errorf("%d bytes: %v", size, err)
			}
			if got, err = Decode(make([]byte, 0, 7), []byte(text), size); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%d bytes, too little space: %v", size, err)
			}
			if n := testing.AllocsPerRun(10, func() { Decode(space[:0], []byte(text), size) }); n > 1 { // the text itself
				t.Errorf("%v allocations", n)
			}
		}
	}
}

// FuzzDecode: what is read is written the same way again, so no signature has
// a second spelling but hex and hex in upper case.
func FuzzDecode(f *testing.F) {
	raw := make([]byte, 512)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	for _, size := range []int{32, 64, 256, 384, 512} {
		f.Add([]byte(base64.StdEncoding.EncodeToString(raw[:size])), size)
		f.Add([]byte(hex.EncodeToString(raw[:size])), size)
		f.Add([]byte(strings.ToUpper(hex.EncodeToString(raw[:size]))), size)
		f.Add([]byte(base64.URLEncoding.EncodeToString(raw[:size])), size)
	}
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		if size < 0 || size > 1024 {
			return
		}
		got, err := Decode(nil, text, size)
		if err != nil {
			return
		}
		lower := hex.EncodeToString(got)
		if s := string(text); len(got) != size || s != base64.StdEncoding.EncodeToString(got) && s != lower && s != strings.ToUpper(lower) {
			t.Errorf("%q is read as %x", text, got)
		}
	})
}

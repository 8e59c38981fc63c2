package sigverify

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strconv"
	"testing"
)

// BenchmarkVerify shows, for each kind of key, what a signature costs on each
// path: batches of 256 by one key on one core.
func BenchmarkVerify(b *testing.B) {
	type signer struct {
		name  string
		key   *Key
		sign  func(digest []byte) []byte
		paths map[string]Paths
	}
	both := map[string]Paths{"library": NoPaths, "modulus": Modulus, "ifma": Lanes}
	var signers []signer
	for _, bits := range []int{2048, 3072, 4096} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			b.Fatal(err)
		}
		signers = append(signers, signer{"rsa-" + strconv.Itoa(bits), newRSA(&k.PublicKey), func(digest []byte) []byte {
			s, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest)
			if err != nil {
				b.Fatal(err)
			}
			return s
		}, both})
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	signers = append(signers,
		signer{"ed25519", New(parsed(b, ed.Public())), func(digest []byte) []byte { return ed25519.Sign(ed, digest) }, map[string]Paths{"library": NoPaths, "tables": Tables}},
		signer{"hmac", NewHMAC([]byte("secret")), func(digest []byte) []byte {
			m := hmac.New(sha256.New, []byte("secret"))
			m.Write(digest)
			return m.Sum(nil)
		}, map[string]Paths{"library": NoPaths, "mac": MAC}})
	for _, s := range signers {
		checks := make([]Check, 256)
		for i := range checks {
			digest := sha256.Sum256([]byte{byte(i)})
			checks[i] = Check{Key: s.key, Digest: digest, Signature: s.sign(digest[:])}
		}
		for name, paths := range s.paths {
			b.Run(s.name+"/"+name, func(b *testing.B) {
				if paths&Lanes != 0 && assembly() == nil {
					b.Skip("this machine has no AVX-512 IFMA")
				}
				e := NewEngine(Options{Without: AllPaths &^ paths})
				if err := e.Verify(checks); err != nil { // tables are built here
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := e.Verify(checks); err != nil {
						b.Fatal(err)
					}
				}
				if c := e.Counts(); !checks[0].Valid || !checks[255].Valid || paths != NoPaths && c.Fast < c.Library {
					b.Fatalf("the path was not taken: %+v", c)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(checks)), "ns/signature")
			})
		}
	}
}

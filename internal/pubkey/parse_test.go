package pubkey

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
)

func TestParseAcceptsEachSpelling(t *testing.T) {
	edPublic := edPrivate.Public().(ed25519.PublicKey)
	for name, der := range map[string][]byte{"rsa": marshal(t, &rsa2048().PublicKey), "ed25519": marshal(t, edPublic)} {
		want, err := ParseSPKI(der)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			want.PEM(),
			strings.TrimSuffix(want.PEM(), "\n"),
			strings.ReplaceAll(want.PEM(), "\n", "\r\n"),
			strings.TrimSuffix(strings.ReplaceAll(want.PEM(), "\n", "\r\n"), "\r\n"),
			pemOf("PUBLIC KEY", der, 76, "\n"),
			pemOf("PUBLIC KEY", der, 48, "\r\n"),
			pemOf("PUBLIC KEY", der, 10000, "\n"),
			b64(der),
		} {
			key, err := Parse(text)
			if err != nil || key.Fingerprint() != want.Fingerprint() {
				t.Errorf("%s: %v, key %q\n%s", name, err, key.Fingerprint(), text)
			}
		}
	}
	key, err := Parse(b64(edPublic))
	if err != nil || !edPublic.Equal(key.Ed25519()) || string(key.SPKI()) != string(marshal(t, edPublic)) {
		t.Errorf("raw Ed25519: %v, %+v", err, key)
	}
}

func TestParseRefusesOtherPEM(t *testing.T) {
	der := marshal(t, &rsa2048().PublicKey)
	good := pemOf("PUBLIC KEY", der, 64, "\n")
	lines := strings.SplitAfter(good, "\n")
	body := strings.Join(lines[1:len(lines)-2], "")
	for name, test := range map[string]struct{ text, rule, words string }{
		"empty":                 {"", RuleMalformed, "is empty"},
		"white space":           {" \r\n\t", RuleMalformed, "is empty"},
		"too long":              {good + strings.Repeat("\n", maxText), RuleMalformed, "longer than 16 KiB"},
		"PKCS#1 label":          {pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsa2048().PublicKey), 64, "\n"), RuleUnsupported, "-RSAPublicKey_in"},
		"certificate label":     {pemOf("CERTIFICATE", der, 64, "\n"), RuleUnsupported, "openssl x509"},
		"request label":         {pemOf("CERTIFICATE REQUEST", der, 64, "\n"), RuleUnsupported, "openssl req"},
		"PGP label":             {pemOf("PGP PUBLIC KEY BLOCK", der, 64, "\n"), RuleUnsupported, "PGP"},
		"EC label":              {pemOf("EC PUBLIC KEY", der, 64, "\n"), RuleUnsupported, "label is not PUBLIC KEY"},
		"SSH2 label":            {pemOf("SSH2 PUBLIC KEY", der, 64, "\n"), RuleUnsupported, "label is not PUBLIC KEY"},
		"lower-case label":      {strings.ReplaceAll(good, "PUBLIC KEY", "public key"), RuleMalformed, "has no line -----BEGIN PUBLIC KEY-----"},
		"em dashes":             {strings.ReplaceAll(good, "-----", "——"), RuleMalformed, "no base64"},
		"literal backslash n":   {strings.ReplaceAll(good, "\n", `\n`), RuleMalformed, "backslash"},
		"one line":              {strings.ReplaceAll(good, "\n", ""), RuleMalformed, "damaged"},
		"carriage returns":      {strings.ReplaceAll(good, "\n", "\r"), RuleMalformed, "white space after"},
		"text before":           {"key of 2026\n" + good, RuleMalformed, "text before"},
		"line before":           {"\n" + good, RuleMalformed, "text before"},
		"byte order mark":       {"\ufeff" + good, RuleMalformed, "text before"},
		"indented":              {"  " + good, RuleMalformed, "text before"},
		"text after":            {good + "thanks", RuleMalformed, "text after"},
		"NUL after":             {good + "\x00", RuleMalformed, "text after"},
		"two line ends":         {good + "\n", RuleMalformed, "white space after"},
		"blank after":           {strings.TrimSuffix(good, "\n") + " ", RuleMalformed, "white space after"},
		"CR LF and LF after":    {strings.TrimSuffix(good, "\n") + "\r\n\n", RuleMalformed, "white space after"},
		"two blocks":            {good + good, RuleMalformed, "more than one"},
		"two blocks, one END":   {lines[0] + body + good, RuleMalformed, "more than one"},
		"no END":                {lines[0] + body, RuleMalformed, "copy its last line"},
		"no BEGIN":              {body + lines[len(lines)-2], RuleMalformed, "has no line"},
		"END of another label":  {lines[0] + body + "-----END CERTIFICATE-----\n", RuleMalformed, "copy its last line"},
		"no body":               {pemBegin + "\n" + pemEnd + "\n", RuleMalformed, "damaged"},
		"empty body":            {pemBegin + "\n\n" + pemEnd + "\n", RuleMalformed, "empty line"},
		"header":                {lines[0] + "Comment: none\n\n" + body + pemEnd, RuleMalformed, "empty line"},
		"header, no blank":      {lines[0] + "Comment: none\n" + body + pemEnd, RuleMalformed, "no base64"},
		"blank line first":      {lines[0] + "\n" + body + pemEnd, RuleMalformed, "empty line"},
		"blank line last":       {lines[0] + body + "\n" + pemEnd, RuleMalformed, "empty line"},
		"blank at line end":     {strings.Replace(good, "\n"+lines[2], " \n"+lines[2], 1), RuleMalformed, "white space within"},
		"tab in line":           {lines[0] + "\t" + body + pemEnd, RuleMalformed, "white space within"},
		"CR in body":            {lines[0] + "\r" + body + pemEnd, RuleMalformed, "white space within"},
		"padding in the middle": {lines[0] + "AA==\n" + body + pemEnd, RuleMalformed, "not canonical base64"},
		"cut off in the middle": {lines[0] + lines[1] + pemEnd, RuleMalformed, "not the DER form"},
		"upstream placeholder":  {pemBegin + "\nREPLACE_WITH_RSA_PUBLIC_KEY_PEM\n" + pemEnd, RuleMalformed, "placeholder"},
		"runbook placeholder":   {pemBegin + "\n...PEM DATA...\n" + pemEnd, RuleMalformed, "placeholder"},
		"checksum line":         {lines[0] + body + "=aB3d\n" + pemEnd, RuleMalformed, "not canonical base64"},
		"raw Ed25519 in PEM":    {pemOf("PUBLIC KEY", edPrivate.Public().(ed25519.PublicKey), 64, "\n"), RuleMalformed, "not the DER form"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := Parse(test.text)
			wantRefusal(t, err, test.rule, test.words)
			if !key.IsZero() {
				t.Error("a key beside the error")
			}
		})
	}
}

func TestParseRefusesOtherBase64(t *testing.T) {
	edPublic := edPrivate.Public().(ed25519.PublicKey)
	der := marshal(t, &rsa2048().PublicKey)
	raw := b64(edPublic) // 43 characters and one =
	spare := raw[:42] + string(raw[42]+1) + "="
	for name, test := range map[string]struct{ text, rule, words string }{
		"line break at the end": {raw + "\n", RuleMalformed, "white space within"},
		"line break within":     {raw[:20] + "\r\n" + raw[20:], RuleMalformed, "white space within"},
		"blank before":          {" " + raw, RuleMalformed, "white space within"},
		"no padding":            {strings.TrimSuffix(raw, "="), RuleMalformed, "not canonical base64"},
		"too much padding":      {raw + "=", RuleMalformed, "not canonical base64"},
		"spare bits":            {spare, RuleMalformed, "not canonical base64"},
		"URL alphabet":          {base64.URLEncoding.EncodeToString(append([]byte{0xfb, 0xff}, edPublic[:30]...)), RuleMalformed, "URL alphabet"},
		"garbage after":         {raw + "!", RuleMalformed, "no base64"},
		"not ASCII":             {"ключ", RuleMalformed, "no base64"},
		"31 bytes":              {b64(edPublic[:31]), RuleMalformed, "not the DER form"},
		"33 bytes":              {b64(append([]byte{0}, edPublic...)), RuleMalformed, "not the DER form"},
		"hexadecimal":           {hex.EncodeToString(edPublic), RuleMalformed, "not the DER form"},
		"PKCS#1":                {b64(x509.MarshalPKCS1PublicKey(&rsa2048().PublicKey)), RuleUnsupported, "bare PKCS#1"},
		"cut off":               {b64(der[:len(der)-3]), RuleMalformed, "not the DER form"},
		"OpenSSH":               {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA audit@example", RuleUnsupported, "ssh-keygen -e"},
		"OpenSSH ECDSA":         {"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=", RuleUnsupported, "ssh-keygen -e"},
		"public JSON Web Key":   {`{"kty":"OKP","crv":"Ed25519","x":"` + raw + `"}`, RuleMalformed, "no base64"},
		"placeholder":           {"<your key here>", RuleMalformed, "placeholder"},
		"small order":           {point(t, pointIdentity), RuleWeak, "small order"},
		"order 8":               {point(t, pointOrder8), RuleWeak, "small order"},
		"mixed order":           {point(t, pointMixed), RuleWeak, "not of prime order"},
		"second encoding":       {point(t, pointSecondForm), RuleMalformed, "non-canonical"},
		"no point":              {point(t, pointOffCurve), RuleMalformed, "no point on the curve"},
		"32 zero bytes":         {point(t, strings.Repeat("00", 32)), RuleWeak, "small order"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := Parse(test.text)
			wantRefusal(t, err, test.rule, test.words)
			if !key.IsZero() {
				t.Error("a key beside the error")
			}
		})
	}
}

func point(t *testing.T, hexadecimal string) string {
	t.Helper()
	b, err := hex.DecodeString(hexadecimal)
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}

func TestParseSPKIRefusesOtherDER(t *testing.T) {
	edPublic := edPrivate.Public().(ed25519.PublicKey)
	n := rsa2048().N
	numbers := tlv(0x30, integer(n), integer(publicE))
	rsaAlgorithm := tlv(0x30, derRSA, derNull)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The last bit of this key is zero, so that it may be declared unused.
	evenPublic := edPublic
	for seed := make([]byte, 32); evenPublic[31]&1 != 0; seed[0]++ {
		evenPublic = ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	}
	for name, test := range map[string]struct {
		der         []byte
		rule, words string
	}{
		"nothing":             {nil, RuleMalformed, "not the DER form"},
		"too long":            {make([]byte, maxText+1), RuleMalformed, "longer than 16 KiB"},
		"ECDSA":               {marshal(t, &ec.PublicKey), RuleUnsupported, "elliptic-curve"},
		"X25519":              {marshal(t, x25519.PublicKey()), RuleUnsupported, "X25519"},
		"Ed448":               {tlv(0x30, tlv(0x30, []byte("\x06\x03\x2b\x65\x71")), tlv(0x03, noUnusedBits, make([]byte, 57))), RuleUnsupported, "Ed448"},
		"RSASSA-PSS":          {tlv(0x30, tlv(0x30, derRSAPSS), tlv(0x03, noUnusedBits, numbers)), RuleUnsupported, "RSASSA-PSS"},
		"ML-DSA-65":           {tlv(0x30, tlv(0x30, []byte("\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x12")), tlv(0x03, noUnusedBits, make([]byte, 1952))), RuleUnsupported, "ML-DSA"},
		"unknown type":        {tlv(0x30, tlv(0x30, []byte("\x06\x03\x2b\x65\x01")), tlv(0x03, noUnusedBits, make([]byte, 8))), RuleUnsupported, "no audit log"},
		"bytes after":         {append(rsaSPKI(n, publicE), 0), RuleMalformed, "canonical DER"},
		"bytes after Ed25519": {append(edSPKI(edPublic), 0), RuleMalformed, "canonical DER"},
		"no NULL":             {tlv(0x30, tlv(0x30, derRSA), tlv(0x03, noUnusedBits, numbers)), RuleMalformed, "canonical DER"},
		"NULL for Ed25519":    {tlv(0x30, tlv(0x30, derEd25519, derNull), tlv(0x03, noUnusedBits, edPublic)), RuleMalformed, "canonical DER"},
		"other parameters":    {tlv(0x30, tlv(0x30, derRSA, integer(n)), tlv(0x03, noUnusedBits, numbers)), RuleMalformed, "canonical DER"},
		"bytes in BIT STRING": {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits, numbers, []byte{0})), RuleMalformed, "canonical DER"},
		"third number":        {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits, tlv(0x30, integer(n), integer(publicE), integer(publicE)))), RuleMalformed, "canonical DER"},
		"third element":       {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits, numbers), derNull), RuleMalformed, "canonical DER"},
		"no BIT STRING":       {tlv(0x30, rsaAlgorithm), RuleMalformed, "not the DER form"},
		"unused bits":         {tlv(0x30, tlv(0x30, derEd25519), tlv(0x03, []byte{1}, evenPublic)), RuleMalformed, "canonical DER"},
		"length not minimal":  {append([]byte{0x30, 0x81, 0x2a}, edSPKI(edPublic)[2:]...), RuleMalformed, "not the DER form"},
		"leading zero":        {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits, tlv(0x30, tlv(0x02, []byte{0, 0}, n.Bytes()), integer(publicE)))), RuleMalformed, "pair of modulus and exponent"},
		"no numbers":          {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits)), RuleMalformed, "pair of modulus and exponent"},
		"negative modulus":    {tlv(0x30, rsaAlgorithm, tlv(0x03, noUnusedBits, tlv(0x30, tlv(0x02, n.Bytes()), integer(publicE)))), RuleMalformed, "not a positive number"},
		"zero modulus":        {rsaSPKI(new(big.Int), publicE), RuleMalformed, "not a positive number"},
		"Ed25519 of 31 bytes": {edSPKI(edPublic[:31]), RuleMalformed, "exactly 32 bytes"},
		"Ed25519 of 33 bytes": {edSPKI(append([]byte{0}, edPublic...)), RuleMalformed, "exactly 32 bytes"},
		"OCTET STRING":        {tlv(0x30, tlv(0x30, derEd25519), tlv(0x04, noUnusedBits, edPublic)), RuleMalformed, "not the DER form"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseSPKI(test.der)
			wantRefusal(t, err, test.rule, test.words)
			if !key.IsZero() {
				t.Error("a key beside the error")
			}
		})
	}
}

package edpoint

import (
	"bytes"
	"crypto/sha512"
	"sync"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// A scalar below 2^253 is written in windows signed digits of 8 bits, each
// from -128 to 127, so a table holds the multiples 1 to 128 for every window.
const (
	windows   = 32
	multiples = 128
)

// Table holds j·256^i·P for each window i and multiple j of one point P: half
// a megabyte, for as many products as one likes without a doubling. A Table is
// never changed, and may be used by several goroutines at once.
type Table struct {
	encoded [32]byte // of the point that NewTable was given
	entries [windows][multiples]affine
}

// affine is a point with Z = 1 in the form that an addition takes.
type affine struct{ yPlusX, yMinusX, xy2d field.Element }

// extended is a point (X:Y:Z:T) with x = X/Z, y = Y/Z, xy = T/Z (Hisil, Wong,
// Carter and Dawson, "Twisted Edwards curves revisited", section 3).
type extended struct{ x, y, z, t field.Element }

// d2 is 2d, the curve's constant.
var d2 = func() *field.Element {
	// d = -121665/121666 (RFC 8032 section 5.1).
	var d, denominator field.Element
	d.Mult32(d.One(), 121665)
	d.Negate(&d)
	denominator.Mult32(denominator.One(), 121666)
	d.Multiply(&d, denominator.Invert(&denominator))
	return d.Add(&d, &d)
}()

// base is the table of the base point, which every signature needs.
var base = sync.OnceValue(func() *Table { return tableOf(edwards25519.NewGeneratorPoint()) })

// NewTable makes the table of the negative of the public key A, which must be
// one that Check accepts. It costs as much as some fifty signatures.
func NewTable(a []byte) (*Table, error) {
	if err := Check(a); err != nil {
		return nil, err
	}
	p, err := new(edwards25519.Point).SetBytes(a)
	if err != nil {
		return nil, ErrNotOnCurve
	}
	t := tableOf(p.Negate(p))
	copy(t.encoded[:], a)
	return t, nil
}

func tableOf(p *edwards25519.Point) *Table {
	t := new(Table)
	step := extendedOf(p)
	row := make([]extended, multiples)
	inverses := make([]field.Element, multiples)
	for i := range t.entries {
		// step = 256^i·P, row[j] = (j+1)·step
		single := step.affine(new(field.Element).Invert(&step.z))
		row[0] = step
		for j := 1; j < multiples; j++ {
			row[j] = row[j-1]
			row[j].add(&single)
		}
		invert(inverses, func(j int) *field.Element { return &row[j].z })
		for j := range row {
			t.entries[i][j] = row[j].affine(&inverses[j])
		}
		// 256·step = 128·step + 128·step
		step = row[multiples-1]
		step.add(&t.entries[i][multiples-1])
	}
	return t
}

func extendedOf(p *edwards25519.Point) extended {
	x, y, z, t := p.ExtendedCoordinates()
	return extended{*x, *y, *z, *t}
}

// affine divides by Z, whose inverse it is given.
func (p *extended) affine(inverse *field.Element) (a affine) {
	var x, y field.Element
	x.Multiply(&p.x, inverse)
	y.Multiply(&p.y, inverse)
	a.yPlusX.Add(&y, &x)
	a.yMinusX.Subtract(&y, &x)
	a.xy2d.Multiply(&x, &y)
	a.xy2d.Multiply(&a.xy2d, d2)
	return a
}

// add adds a to p; the formulas hold for any two points of the curve, equal
// and neutral ones too (add-2008-hwcd-3 with Z2 = 1).
func (p *extended) add(a *affine) { p.addSigned(&a.yPlusX, &a.yMinusX, &a.xy2d, false) }

// subtract adds -a: x changes its sign, and with it xy.
func (p *extended) subtract(a *affine) { p.addSigned(&a.yMinusX, &a.yPlusX, &a.xy2d, true) }

func (p *extended) addSigned(yPlusX, yMinusX, xy2d *field.Element, negative bool) {
	var pp, mm, c, d, e, f, g, h field.Element
	pp.Multiply(pp.Add(&p.y, &p.x), yPlusX)
	mm.Multiply(mm.Subtract(&p.y, &p.x), yMinusX)
	c.Multiply(&p.t, xy2d)
	d.Add(&p.z, &p.z)
	e.Subtract(&pp, &mm)
	h.Add(&pp, &mm)
	if negative {
		g.Subtract(&d, &c)
		f.Add(&d, &c)
	} else {
		g.Add(&d, &c)
		f.Subtract(&d, &c)
	}
	p.x.Multiply(&e, &f)
	p.y.Multiply(&g, &h)
	p.z.Multiply(&f, &g)
	p.t.Multiply(&e, &h)
}

// addMultiple adds the table's point, scalar times; scalar is little-endian
// and below 2^253. Time depends on it: signatures are public.
func (p *extended) addMultiple(t *Table, scalar []byte) {
	carry := 0
	for i, b := range scalar {
		digit := int(b) + carry
		carry = 0
		if digit > multiples-1 {
			digit -= 256
			carry = 1
		}
		switch {
		case digit > 0:
			p.add(&t.entries[i][digit-1])
		case digit < 0:
			p.subtract(&t.entries[i][-digit-1])
		}
	}
}

// invert sets out[i] = 1/z(i), none of which is 0, by one inversion and three
// multiplications each (Montgomery's trick).
func invert(out []field.Element, z func(int) *field.Element) {
	var product field.Element
	product.One()
	for i := range out {
		out[i] = product // of all before i
		product.Multiply(&product, z(i))
	}
	product.Invert(&product)
	for i := len(out) - 1; i >= 0; i-- {
		out[i].Multiply(&out[i], &product)
		product.Multiply(&product, z(i))
	}
}

// BatchSize is how many signatures a Batch holds.
const BatchSize = 64

// Batch checks Ed25519 signatures against tables, each by its own equation
// and by the rules of crypto/ed25519: S below L, no cofactor, R compared as
// bytes. Only the inversion that encodes R is shared, which decides nothing.
// The zero value is ready. It is for one goroutine.
type Batch struct {
	n        int
	sums     [BatchSize]extended
	expected [BatchSize][32]byte
	inverses [BatchSize]field.Element
	valid    [BatchSize]bool
	input    []byte
}

// Full tells whether the batch must be checked before another Add.
func (b *Batch) Full() bool { return b.n == BatchSize }

// Add takes up a signature over message by the key of t. It takes up nothing
// and returns false if the signature is not 64 bytes long or S is not below L.
func (b *Batch) Add(t *Table, message, signature []byte) bool {
	if b.Full() || len(signature) != 64 {
		return false
	}
	var s, k edwards25519.Scalar
	if _, err := s.SetCanonicalBytes(signature[32:]); err != nil {
		return false
	}
	b.input = append(append(append(b.input[:0], signature[:32]...), t.encoded[:]...), message...)
	hash := sha512.Sum512(b.input)
	if _, err := k.SetUniformBytes(hash[:]); err != nil {
		return false
	}
	// R = S·B - k·A
	sum := &b.sums[b.n]
	sum.x.Zero()
	sum.y.One()
	sum.z.One()
	sum.t.Zero()
	sum.addMultiple(base(), s.Bytes())
	sum.addMultiple(t, k.Bytes())
	b.expected[b.n] = [32]byte(signature[:32])
	b.n++
	return true
}

// Check tells of the signatures that were taken up, in their order, whether
// each is valid, and empties the batch. The answer stands until the next Add.
func (b *Batch) Check() []bool {
	n := b.n
	b.n = 0
	invert(b.inverses[:n], func(i int) *field.Element { return &b.sums[i].z })
	for i := range n {
		var x, y field.Element
		x.Multiply(&b.sums[i].x, &b.inverses[i])
		y.Multiply(&b.sums[i].y, &b.inverses[i])
		encoded := y.Bytes()
		encoded[31] |= byte(x.IsNegative() << 7)
		b.valid[i] = bytes.Equal(encoded, b.expected[i][:])
	}
	return b.valid[:n]
}

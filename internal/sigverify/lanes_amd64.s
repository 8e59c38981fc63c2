//go:build !purego

#include "textflag.h"

// Registers:
//	AX a, BX b (moves by four digits), CX n, DI t, SI walks t, R8 inner count,
//	R9 digits, R10 outer count, R11 walks a, R12 walks n, DX dst
//	Z0-Z3   four digits of b
//	Z4-Z7   the four digits of m that make the four lowest columns vanish
//	Z8-Z11  four columns, low halves of products
//	Z12-Z15 the same columns, high halves
//	Z16-Z23 eight consecutive digits of a or n
//	Z24 -1/n mod 2^52, Z25 carry, Z26 mask

// MAC adds the products of digit d with five consecutive digits to four
// columns. Column k takes the low half of v(k+1) and the high half of v(k).
#define MAC(d, v0, v1, v2, v3, v4) \
	VPMADD52LUQ v1, d, Z8  \
	VPMADD52HUQ v0, d, Z12 \
	VPMADD52LUQ v2, d, Z9  \
	VPMADD52HUQ v1, d, Z13 \
	VPMADD52LUQ v3, d, Z10 \
	VPMADD52HUQ v2, d, Z14 \
	VPMADD52LUQ v4, d, Z11 \
	VPMADD52HUQ v3, d, Z15

// M sets m so that col + m*n[0] is 0 mod 2^52.
#define M(col, m) \
	VPXORQ m, m, m \
	VPMADD52LUQ Z24, col, m

// CARRY makes col vanish by m*n[0] and carries what is left into next.
#define CARRY(m, col, next) \
	VPMADD52LUQ Z20, m, col \
	VPSRLQ $52, col, Z25    \
	VPADDQ Z25, next, next

// func mulLanes(dst, a, b, n, t *vector, inv *vector, digits int)
//
// Montgomery multiplication in eight lanes, four digits of b at a time. The
// columns of t stay below 2^62: each takes at most 4*80 products of 52 bits.
TEXT ·mulLanes(SB), NOSPLIT, $0-56
	MOVQ dst+0(FP), DX
	MOVQ a+8(FP), AX
	MOVQ b+16(FP), BX
	MOVQ n+24(FP), CX
	MOVQ t+32(FP), DI
	MOVQ inv+40(FP), SI
	MOVQ digits+48(FP), R9
	VMOVDQU64 (SI), Z24

	// t = 0, digits+4 columns.
	VPXORQ Z0, Z0, Z0
	MOVQ DI, SI
	LEAQ 4(R9), R8
zero:
	VMOVDQU64 Z0, (SI)
	ADDQ $64, SI
	DECQ R8
	JNZ  zero

	MOVQ R9, R10
	SHRQ $2, R10

rows:
	VMOVDQU64 (BX), Z0
	VMOVDQU64 64(BX), Z1
	VMOVDQU64 128(BX), Z2
	VMOVDQU64 192(BX), Z3
	VMOVDQU64 (AX), Z16
	VMOVDQU64 64(AX), Z17
	VMOVDQU64 128(AX), Z18
	VMOVDQU64 192(AX), Z19
	VMOVDQU64 (CX), Z20
	VMOVDQU64 64(CX), Z21
	VMOVDQU64 128(CX), Z22
	VMOVDQU64 192(CX), Z23
	VMOVDQU64 (DI), Z8
	VMOVDQU64 64(DI), Z9
	VMOVDQU64 128(DI), Z10
	VMOVDQU64 192(DI), Z11

	// The four lowest columns: what a*b brings, column by column.
	VPMADD52LUQ Z16, Z0, Z8
	VPMADD52LUQ Z17, Z0, Z9
	VPMADD52LUQ Z18, Z0, Z10
	VPMADD52LUQ Z19, Z0, Z11
	VPMADD52HUQ Z16, Z0, Z9
	VPMADD52HUQ Z17, Z0, Z10
	VPMADD52HUQ Z18, Z0, Z11
	VPMADD52LUQ Z16, Z1, Z9
	VPMADD52LUQ Z17, Z1, Z10
	VPMADD52LUQ Z18, Z1, Z11
	VPMADD52HUQ Z16, Z1, Z10
	VPMADD52HUQ Z17, Z1, Z11
	VPMADD52LUQ Z16, Z2, Z10
	VPMADD52LUQ Z17, Z2, Z11
	VPMADD52HUQ Z16, Z2, Z11
	VPMADD52LUQ Z16, Z3, Z11

	// The digits of m, each from the column that it must make vanish.
	M(Z8, Z4)
	CARRY(Z4, Z8, Z9)
	VPMADD52LUQ Z21, Z4, Z9
	VPMADD52HUQ Z20, Z4, Z9
	M(Z9, Z5)
	CARRY(Z5, Z9, Z10)
	VPMADD52LUQ Z22, Z4, Z10
	VPMADD52HUQ Z21, Z4, Z10
	VPMADD52LUQ Z21, Z5, Z10
	VPMADD52HUQ Z20, Z5, Z10
	M(Z10, Z6)
	CARRY(Z6, Z10, Z11)
	VPMADD52LUQ Z23, Z4, Z11
	VPMADD52HUQ Z22, Z4, Z11
	VPMADD52LUQ Z22, Z5, Z11
	VPMADD52HUQ Z21, Z5, Z11
	VPMADD52LUQ Z21, Z6, Z11
	VPMADD52HUQ Z20, Z6, Z11
	M(Z11, Z7)
	VPMADD52LUQ Z20, Z7, Z11
	VPSRLQ $52, Z11, Z25
	VPADDQ 256(DI), Z25, Z25
	VMOVDQU64 Z25, 256(DI)

	// The other columns, four at a time, stored four digits lower: that is
	// the division by 2^208. a and n end with four zeros.
	MOVQ AX, R11
	MOVQ CX, R12
	MOVQ DI, SI
	MOVQ R9, R8
	SHRQ $2, R8
columns:
	VMOVDQU64 256(SI), Z8
	VMOVDQU64 320(SI), Z9
	VMOVDQU64 384(SI), Z10
	VMOVDQU64 448(SI), Z11
	VPXORQ Z12, Z12, Z12
	VPXORQ Z13, Z13, Z13
	VPXORQ Z14, Z14, Z14
	VPXORQ Z15, Z15, Z15
	VMOVDQU64 (R11), Z16
	VMOVDQU64 64(R11), Z17
	VMOVDQU64 128(R11), Z18
	VMOVDQU64 192(R11), Z19
	VMOVDQU64 256(R11), Z20
	VMOVDQU64 320(R11), Z21
	VMOVDQU64 384(R11), Z22
	VMOVDQU64 448(R11), Z23
	MAC(Z0, Z19, Z20, Z21, Z22, Z23)
	MAC(Z1, Z18, Z19, Z20, Z21, Z22)
	MAC(Z2, Z17, Z18, Z19, Z20, Z21)
	MAC(Z3, Z16, Z17, Z18, Z19, Z20)
	VMOVDQU64 (R12), Z16
	VMOVDQU64 64(R12), Z17
	VMOVDQU64 128(R12), Z18
	VMOVDQU64 192(R12), Z19
	VMOVDQU64 256(R12), Z20
	VMOVDQU64 320(R12), Z21
	VMOVDQU64 384(R12), Z22
	VMOVDQU64 448(R12), Z23
	MAC(Z4, Z19, Z20, Z21, Z22, Z23)
	MAC(Z5, Z18, Z19, Z20, Z21, Z22)
	MAC(Z6, Z17, Z18, Z19, Z20, Z21)
	MAC(Z7, Z16, Z17, Z18, Z19, Z20)
	VPADDQ Z12, Z8, Z8
	VPADDQ Z13, Z9, Z9
	VPADDQ Z14, Z10, Z10
	VPADDQ Z15, Z11, Z11
	VMOVDQU64 Z8, (SI)
	VMOVDQU64 Z9, 64(SI)
	VMOVDQU64 Z10, 128(SI)
	VMOVDQU64 Z11, 192(SI)
	ADDQ $256, R11
	ADDQ $256, R12
	ADDQ $256, SI
	DECQ R8
	JNZ  columns

	ADDQ $256, BX
	DECQ R10
	JNZ  rows

	// Columns to digits of 52 bits.
	VPTERNLOGQ $0xff, Z26, Z26, Z26
	VPSRLQ $12, Z26, Z26
	VPXORQ Z25, Z25, Z25
digits:
	VPADDQ (DI), Z25, Z8
	VPSRLQ $52, Z8, Z25
	VPANDQ Z26, Z8, Z8
	VMOVDQU64 Z8, (DX)
	ADDQ $64, DI
	ADDQ $64, DX
	DECQ R9
	JNZ  digits

	VZEROUPPER
	RET

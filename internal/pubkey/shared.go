package pubkey

import "math/big"

// SharedPrimes finds RSA keys that share a prime: anyone can factor both, by one
// gcd. It returns pairs of indexes into keys, the lower one first. Every key that
// shares a prime with another stands in at least one pair; k keys with one common
// prime give at most k pairs, not k²/2. Keys of another type are passed over, and
// so is a key equal to an earlier one: that is a duplicate, not a weak key.
//
// Instead of comparing all pairs it walks a product tree (after Bernstein's batch
// gcd), so that a thousand keys take about a second.
func SharedPrimes(keys []Key) [][2]int {
	var index []int // of each leaf of the tree
	var leaves []*big.Int
	seen := make(map[string]bool)
	for i, key := range keys {
		if key.rsa == nil || seen[string(key.spki)] {
			continue
		}
		seen[string(key.spki)] = true
		index = append(index, i)
		leaves = append(leaves, key.rsa.N)
	}
	tree := productTree(leaves)
	var pairs [][2]int
	reported := make(map[[2]int]bool)
	for leaf := range leaves {
		other := tree.partner(leaf)
		if other < 0 {
			continue
		}
		pair := [2]int{index[min(leaf, other)], index[max(leaf, other)]}
		if !reported[pair] {
			reported[pair] = true
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// products is a binary tree of products: row 0 holds the leaves, and node i of the
// next row is the product of the nodes 2i and 2i+1.
type products [][]*big.Int

func productTree(leaves []*big.Int) products {
	tree := products{leaves}
	for row := leaves; len(row) > 1; {
		var next []*big.Int
		for i := 0; i+1 < len(row); i += 2 {
			next = append(next, new(big.Int).Mul(row[i], row[i+1]))
		}
		if len(row)%2 == 1 {
			next = append(next, row[len(row)-1])
		}
		tree = append(tree, next)
		row = next
	}
	return tree
}

// partner returns another leaf that has a factor in common with the given one, or
// -1. It climbs from the leaf, compares it with the product beside the path, and
// descends into the first product that holds a common factor.
func (t products) partner(leaf int) int {
	n := t[0][leaf]
	for height, node := 0, leaf; height < len(t); height, node = height+1, node/2 {
		beside := node ^ 1
		if beside >= len(t[height]) || !shareFactor(n, t[height][beside]) {
			continue
		}
		for ; height > 0; height-- {
			beside *= 2
			if !shareFactor(n, t[height-1][beside]) {
				beside++
			}
		}
		return beside
	}
	return -1
}

// shareFactor tells whether n and product have a common factor. Reducing the
// product first keeps the gcd, which takes quadratic time, at the length of n.
func shareFactor(n, product *big.Int) bool {
	rest := new(big.Int).Mod(product, n)
	return rest.GCD(nil, nil, rest, n).Cmp(big.NewInt(1)) != 0
}

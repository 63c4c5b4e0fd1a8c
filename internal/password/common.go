package password

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
)

// commonList holds the common passwords, one a line, folded, sorted, none
// shorter than eight code points. Where they come from: common.md.
//
//go:embed common.txt.gz
var commonList []byte

// commonSet holds the list as sorted 64-bit hashes: 170 KB instead of a
// megabyte of strings. A password that is not on the list collides with one
// that is in one case of 10^15, and is then refused.
type commonSet struct {
	seed maphash.Seed
	sums []uint64
}

// loadCommon reads the list once, when somebody first chooses a password: a
// server that only refreshes tokens never pays for it.
var loadCommon = sync.OnceValue(func() commonSet {
	set := commonSet{maphash.MakeSeed(), make([]uint64, 0, 22000)}
	err := eachCommon(func(entry []byte) { set.sums = append(set.sums, maphash.Bytes(set.seed, entry)) })
	if err != nil {
		panic(fmt.Sprintf("the embedded list of common passwords: %v", err)) // a defect of the binary
	}
	slices.Sort(set.sums)
	return set
})

func eachCommon(do func(entry []byte)) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(commonList))
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(unzipped)
	for lines.Scan() {
		do(lines.Bytes())
	}
	return lines.Err()
}

// isCommon reports whether a folded password is on the list.
func isCommon(folded string) bool {
	set := loadCommon()
	_, found := slices.BinarySearch(set.sums, maphash.String(set.seed, folded))
	return found
}

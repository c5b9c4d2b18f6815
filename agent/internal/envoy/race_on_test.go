//go:build race

package envoy_test

// hugeReply is smaller under the race detector, which reads JSON 20 times slower; the bound on memory is the same.
const hugeReply = 5 << 20

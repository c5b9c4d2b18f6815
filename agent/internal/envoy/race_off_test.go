//go:build !race

package envoy_test

const hugeReply = 100 << 20

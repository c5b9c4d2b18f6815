package traffic

import (
	"fmt"
	"math"
	"strconv"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// maxExact is the largest float64 up to which every whole number has a value of its own.
const maxExact = 1 << 53

// toCount turns a number as apps report it into a count. 3.0 is three; 2.5, -1, NaN and infinity are errors.
func toCount(v float64) (drain.Count, error) {
	if math.IsNaN(v) || v < 0 || v > maxExact || v != math.Trunc(v) {
		return drain.Count{}, fmt.Errorf("%v is no number of requests", v)
	}
	return drain.Known(int64(v)), nil
}

// parsePort reads a TCP port number, 1 to 65535.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: want a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

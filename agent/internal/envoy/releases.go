package envoy

import (
	"fmt"
	"strings"
	"time"
)

// Release is what the releases of Envoy from one on do by themselves while they drain.
type Release struct {
	Major, Minor int    // from this one on
	Idle         string // HTTP connections without a request
	Streams      string // requests, streams and upgraded connections such as WebSockets
	Short        string // what a --drain-time-s that is shorter than the drain does

	ends float64 // the part of --drain-time-s after which streams are ended; 0 never
}

// Releases returns what is known of Envoy's releases, the newest last. The others are as their documentation says, 1.41 as its changelog announces it.
func Releases() []Release {
	return []Release{
		{
			1, 36, "closed between one and two times `--drain-time-s`", "left alone",
			"new connections are refused and idle ones closed before the drain is over", 0,
		},
		{
			1, 41, "closed as soon as the drain begins", "ended in the last third of `--drain-time-s`",
			"streams and upgraded connections are ended before the drain is over", 2. / 3,
		},
	}
}

// releaseOf returns the row for a version such as "1.41.0-dev", and whether the table knows that release. One that nobody can read or that is
// newer is taken for the newest row, which asks the most of --drain-time-s; one that is older for the oldest.
func releaseOf(version string) (row Release, known bool) {
	all := Releases()
	newest := all[len(all)-1]
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n < 2 {
		return newest, false
	}
	for _, r := range all {
		if major > r.Major || major == r.Major && minor >= r.Minor {
			row, known = r, major == newest.Major && minor <= newest.Minor
		}
	}
	if row.Major == 0 {
		row = all[0]
	}
	return row, known
}

// Doubt says what in this Envoy may disturb a drain that may take so long, and what to do about it; "" for nothing. A --drain-time-s that is
// not told is none.
func (d Description) Doubt(drain time.Duration) string {
	r, known := releaseOf(d.Version)
	var doubts []string
	if d.Version != "" && !known {
		doubts = append(doubts, fmt.Sprintf("nobody here knows what envoy %s does while it drains; it is taken for %d.%d: idle connections %s, streams %s; try a drain under a long request before you rely on it",
			d.Version, r.Major, r.Minor, r.Idle, r.Streams))
	}
	begins, need := d.DrainTime, drain
	if r.ends > 0 {
		begins = time.Duration(r.ends * float64(d.DrainTime))
		need = time.Duration(float64(drain) / r.ends)
	}
	if d.DrainTime > 0 && begins < drain {
		doubts = append(doubts, fmt.Sprintf("a drain may take %v, and envoy %s runs with --drain-time-s %.0f: after %v %s; give it --drain-time-s %.0f or more",
			drain.Round(time.Second), d.Version, d.DrainTime.Seconds(), begins.Round(time.Second), r.Short, (need+time.Second-1).Truncate(time.Second).Seconds()))
	}
	return strings.Join(doubts, "; ")
}

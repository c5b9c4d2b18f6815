package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// With returns the settings with those changed that a text names, as the agent's flags would: quiet-max=1s accept-loss=0.1. What does not
// apply to an agent's flags applies to nothing here; the error says what is wrong, a line for each, and what may stand there.
// An exposure that is named, in whatever place, stands whatever the order of stops.
func (s Settings) With(text string) (Settings, error) { //nolint:gocognit // one case for each kind of flag
	times := map[string]*time.Duration{
		"propagation": &s.Propagation, "announce-max": &s.AnnounceMax, "quiet-min": &s.QuietMin, "quiet-max": &s.QuietMax, "exposure": &s.Exposure,
		"settle": &s.Settle, "drain-max": &s.DrainMax, "grace-period": &s.Grace, "margin": &s.Margin,
	}
	var errs []error
	ordered := false
	for part := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(strings.TrimPrefix(part, "--"), "=")
		switch to := times[name]; {
		case to != nil:
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 || d > 24*time.Hour {
				errs = append(errs, fmt.Errorf("%s: write a time from 0s to 24h, such as %s=1.5s", part, name))
			}
			*to, s.GraceNamed, s.exposureNamed = d, s.GraceNamed || name == "grace-period", s.exposureNamed || name == "exposure"
		case name == "accept-loss":
			n, err := strconv.ParseFloat(value, 64)
			if err != nil || !(n >= 0 && n <= 1e6) {
				errs = append(errs, fmt.Errorf("%s: write a number of requests, such as accept-loss=0.1", part))
			}
			s.AcceptLoss = n
		case name == "stop-order" && (value == "app,proxy" || value == "proxy,app"):
			s.ProxyFirst = value == "proxy,app"
			ordered = true
		default:
			errs = append(errs, fmt.Errorf("%s: no replay knows this; write propagation, announce-max, quiet-min, quiet-max, exposure, settle, drain-max, grace-period, margin, accept-loss with =VALUE, or stop-order=app,proxy or proxy,app", part))
		}
	}
	if ordered && !s.exposureNamed {
		if s.Exposure = 200 * time.Millisecond; s.ProxyFirst {
			s.Exposure = 5 * time.Millisecond
		}
	}
	return s, errors.Join(errs...)
}

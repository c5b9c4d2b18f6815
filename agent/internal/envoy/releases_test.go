package envoy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What /server_info says decides which row of the table holds. A release that stands in none is said, and judged by the strictest.
func TestDrainTimeTooShortForTheRelease(t *testing.T) {
	for _, tt := range []struct {
		version   string
		drainTime int
		drain     time.Duration
		want      string // "": no warning
	}{
		{"d79f6e8d453ee260e9094093b8dd31af0056e67b/1.36.2/Clean/RELEASE/BoringSSL", 600, 5 * time.Minute, ""},
		{"d79f6e8d453ee260e9094093b8dd31af0056e67b/1.36.2/Clean/RELEASE/BoringSSL", 45, 5 * time.Minute, "after 45s new connections are refused and idle ones closed before the drain is over; give it --drain-time-s 300 or more"},
		{"aa/1.37.0/Clean/RELEASE/BoringSSL", 30, 31 * time.Second, "--drain-time-s 31 or more"},
		{"aa/1.38.1/Clean/RELEASE/BoringSSL", 30, 30 * time.Second, ""},
		{"aa/1.39.3/Clean/RELEASE/BoringSSL", 5, 20 * time.Second, "envoy 1.39.3 runs with --drain-time-s 5: after 5s new connections"},
		{"aa/1.40.0/Clean/RELEASE/BoringSSL", 45, 40 * time.Second, ""},
		{"aa/1.41.0-dev/Clean/RELEASE/BoringSSL", 45, 40 * time.Second, "after 30s streams and upgraded connections are ended before the drain is over; give it --drain-time-s 60 or more"},
		{"aa/1.41.0-dev/Clean/RELEASE/BoringSSL", 60, 40 * time.Second, ""},
		{"aa/2.0.0/Clean/RELEASE/BoringSSL", 45, 40 * time.Second, "after 30s streams"},
		{"aa/2.0.0/Clean/RELEASE/BoringSSL", 600, 40 * time.Second, "nobody here knows what envoy 2.0.0 does while it drains; it is taken for 1.41: idle connections closed as soon as"},
		{"aa/1.42.0/Clean/RELEASE/BoringSSL", 600, 40 * time.Second, "nobody here knows what envoy 1.42.0 does"},
		{"aa/1.35.9/Clean/RELEASE/BoringSSL", 600, 40 * time.Second, "nobody here knows what envoy 1.35.9 does while it drains; it is taken for 1.36: "},
		{"aa/strange/Clean/RELEASE/BoringSSL", 600, 20 * time.Second, "nobody here knows what envoy strange does while it drains; it is taken for 1.41: "},
		{"aa/strange/Clean/RELEASE/BoringSSL", 10, 20 * time.Second, "; a drain may take 20s, and envoy strange runs with --drain-time-s 10: after 7s streams"},
		{"no-slash", 600, 20 * time.Second, "nobody here knows what envoy no-slash does"},
		{"aa/1.40.0/Clean/RELEASE/BoringSSL", 0, 20 * time.Second, ""}, // not told
	} {
		t.Run(fmt.Sprintf("%s with %d s, drain of %v", tt.version, tt.drainTime, tt.drain), func(t *testing.T) {
			admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/server_info" {
					http.NotFound(w, r)
					return
				}
				options := `"drain_strategy":"Gradual"`
				if tt.drainTime > 0 {
					options += fmt.Sprintf(`,"drain_time":"%ds"`, tt.drainTime)
				}
				fmt.Fprintf(w, `{"version":%q,"state":"LIVE","uptime_current_epoch":"77s","command_line_options":{%s}}`, tt.version, options)
			}))
			defer admin.Close()
			got := describe(t, connect(t, admin.URL)).Doubt(tt.drain)
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("says %q, want %q", got, tt.want)
			}
		})
	}
}

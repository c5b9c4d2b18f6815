package timeline_test

import (
	"fmt"
	"strings"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// The log of a pod, mixed with that of its other containers: what became of its stop?
func ExampleDecode() {
	log := `listening on :8080
{"time":"2026-01-02T15:04:05.000Z","level":"info","msg":"drain","seq":1,"elapsed_ms":0,"from":"serving","to":"draining","reason":"preStop","proxy_in_flight":7,"proxy_rung":"http"}
{"time":"2026-01-02T15:04:09.000Z","level":"info","msg":"verdict","outcome":"clean","total_ms":4000,"reason":"all quiet"}
`
	for line, err := range timeline.Decode(strings.NewReader(log)) {
		switch {
		case err != nil:
			fmt.Println(err)
		case line.Event != nil && line.Event.ProxyInFlight != nil: // nil: nobody could read it, which is not zero
			fmt.Println("requests in flight:", *line.Event.ProxyInFlight)
		case line.Verdict != nil:
			fmt.Println(line.Verdict.Outcome, "after", line.Verdict.TotalMS, "ms")
		}
	}
	// Output:
	// requests in flight: 7
	// clean after 4000 ms
}

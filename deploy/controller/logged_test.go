package main

import (
	"encoding/json"
	"testing"
)

// asLogged compares what is kept of a verdict with the agent's own log line: every field that is there, and where the message was whole
// each field that the line has, but what no message has room for.
func asLogged(t *testing.T, p *stopping, kept map[string]json.RawMessage, whole bool) {
	t.Helper()
	var line map[string]json.RawMessage
	if err := json.Unmarshal([]byte(p.line), &line); err != nil {
		t.Fatal(err)
	}
	for key, value := range kept {
		if string(line[key]) != string(value) {
			t.Errorf("%s: %s is %s, its log says %s", p.Name, key, value, line[key])
		}
	}
	for key := range line {
		_, there := kept[key]
		room := key != "in_flight_curve" && key != "arrivals_curve" && key != "requests_per_second"
		if there != room && (whole || there) {
			t.Errorf("%s: %s is kept: %v", p.Name, key, there)
		}
	}
}

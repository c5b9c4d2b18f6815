package envoy

import (
	"encoding/json"
	"testing"
)

func TestStatsMatcher(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`null`:                true,
		`{}`:                  true,
		`{"reject_all":true}`: false,
		`{"inclusion_list":{"patterns":[{"prefix":"http2."}]}}`:                                     true,
		`{"inclusion_list":{"patterns":[{"prefix":"http."},{"suffix":"_bytes"}]}}`:                  true,
		`{"inclusion_list":{"patterns":[{"exact":"HTTP2.pending_send_bytes"}]}}`:                    false,
		`{"inclusion_list":{"patterns":[{"exact":"HTTP2.pending_send_bytes","ignore_case":true}]}}`: true,
		`{"inclusion_list":{"patterns":[{"safe_regex":{"regex":"http2\\..*"}}]}}`:                   true,
		`{"inclusion_list":{"patterns":[{"safe_regex":{"regex":"http2"}}]}}`:                        false,
		`{"inclusion_list":{"patterns":[{"custom":{}}]}}`:                                           false,
		`{"inclusion_list":{}}`: false,
		`{"exclusion_list":{"patterns":[{"contains":"pending"}]}}`:       false,
		`{"exclusion_list":{"patterns":[{"prefix":"http."}]}}`:           true,
		`{"exclusion_list":{"patterns":[{"custom":{}}]}}`:                false,
		`{"exclusion_list":{"patterns":[{"safe_regex":{"regex":"("}}]}}`: false,
	} {
		var m *statsMatcher
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		if got := m.shows(pendingBytes); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

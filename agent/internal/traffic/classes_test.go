package traffic

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClassesOfSeries(t *testing.T) {
	var many strings.Builder
	for i := range 33 {
		fmt.Fprintf(&many, "a{kind=\"k%d\"} 1\n", i)
	}
	tests := map[string]struct {
		selector, page string
		total          int64
		want           map[string]int64
	}{
		"by kind":              {"a", "a{kind=\"http\"} 2\na{kind=\"grpc_stream\"} 1\na{kind=\"batch\"} 0\n", 3, map[string]int64{"http": 2, "grpc_stream": 1}},
		"no label":             {"a", "a 3\n", 3, nil},
		"some have a label":    {"a", "a 3\na{kind=\"http\"} 2\n", 5, map[string]int64{"http": 2}},
		"an empty one":         {"a", "a{kind=\"\"} 3\n", 3, nil},
		"what is asked for":    {`a{pod="x"}`, "a{pod=\"x\",kind=\"http\"} 2\na{pod=\"y\",kind=\"grpc\"} 4\n", 2, map[string]int64{"http": 2}},
		"two labels":           {"a", "a{kind=\"http\",route=\"/x\"} 2\na{kind=\"http\",route=\"/y\"} 1\n", 3, map[string]int64{"http /x": 2, "http /y": 1}},
		"two with one name":    {`a`, "a{b=\"x\"} 2\na{c=\"x\"} 1\n", 3, map[string]int64{"x": 3}},
		"too many":             {"a", many.String(), 33, nil},
		"a name that is a lot": {"a", "a{kind=\"" + strings.Repeat("x", 65) + "\"} 2\n", 2, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sel, err := parseExpression(tt.selector)
			if err != nil {
				t.Fatal(err)
			}
			n, got, err := sel.read(body{Reader: strings.NewReader(tt.page)})
			if err != nil || n.N != tt.total || !maps.Equal(got, tt.want) {
				t.Errorf("%v by %v, %v; want %d by %v", n, got, err, tt.total, tt.want)
			}
		})
	}
}

// The classes are those of the newest read: none when it failed.
func TestClassesOfTheNewestRead(t *testing.T) {
	body := "a{kind=\"http\"} 2\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
	t.Cleanup(srv.Close)
	s := source(t, "prometheus:"+srv.URL+"#a")
	classes := func(want map[string]int64) {
		t.Helper()
		if got := s.Classes(); !maps.Equal(got, want) {
			t.Errorf("classes %v, want %v", got, want)
		}
	}
	classes(nil)
	checkRead(t, s, 2, "")
	classes(map[string]int64{"http": 2})
	srv.Close()
	checkRead(t, s, 0, "refused")
	classes(nil)
	if classes := source(t, "none").Classes(); classes != nil {
		t.Errorf("none has classes: %v", classes)
	}
}

package traffic

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"

func TestExpressions(t *testing.T) {
	const page = "# TYPE busy gauge\nbusy{handler=\"/metrics\",m=\"GET\"} 1\nbusy{handler=\"/a\",m=\"GET\"} 2\nbusy{handler=\"/b\"} 4\n" +
		"# TYPE started counter\nstarted 7\n# TYPE done counter\ndone 5\n# TYPE took histogram\n# TYPE empty gauge\nvllm:run 3\nvllm:wait 4\nlow -1\nold 3 1000\n"
	tests := []struct {
		expression string
		want       int64
		err        string
	}{
		{`busy`, 7, ""},
		{`busy{handler="/a"}`, 2, ""},
		{`busy{handler!="/metrics"}`, 6, ""},
		{`busy{handler!='/metrics'}`, 6, ""},
		{"busy{handler!~`/m.*|/a`,}", 4, ""},
		{`busy{handler=~"/a|/b"}`, 6, ""},
		{`busy{handler=~"/"}`, 0, ""}, // whole values only
		{`busy{m=""}`, 4, ""},
		{`busy{m!=""}`, 3, ""},
		{`busy{m!="GET",handler!="/b"}`, 0, ""},
		{`busy{m="PUT"}`, 0, ""},
		{`busy{method="PUT"}`, 0, "no series has the label method"},
		{`busy{method=~".+"}`, 0, "no series has the label method"},
		{`busy - 1`, 6, ""},
		{`busy-1`, 6, ""},
		{`busy - 8`, 0, "less than nothing"},
		{`empty - 1`, 0, "less than nothing"},
		{`started - done`, 2, ""},
		{`started-done{}`, 2, ""},
		{`done - started`, 0, "less than nothing"},
		{`started - gone`, 0, "no such metric on the page: gone"},
		{`gone - started`, 0, "no such metric on the page: gone"},
		{`took_count`, 0, ""},
		{`started_count`, 0, "no such metric"},
		{`empty_count`, 0, "no such metric"},
		{`{__name__=~"vllm:(run|wait)"}`, 7, ""},
		{`{__name__=~"vllm:(run|wait)"} - 2`, 5, ""},
		{`{"busy",handler="/b"}`, 4, ""},
		{`{__name__="busy"}`, 7, ""},
		{`low`, 0, "no number of requests"},
		{`old`, 0, "by its own timestamp"},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) { checkPage(t, "text/plain", page, tt.expression, tt.want, tt.err) })
	}
}

func checkPage(t *testing.T, kind, page, expression string, want int64, wantErr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		io.WriteString(w, page)
	}))
	t.Cleanup(srv.Close)
	checkRead(t, source(t, "prometheus:"+srv.URL+"#"+expression), want, wantErr)
}

func TestTimestamps(t *testing.T) {
	for _, tt := range []struct {
		age time.Duration
		err string
	}{{0, ""}, {time.Hour, "by its own timestamp"}, {-time.Hour, "by its own timestamp"}} {
		at := time.Now().Add(-tt.age)
		checkPage(t, "text/plain", fmt.Sprintf("a 3 %d\n", at.UnixMilli()), "a", 3, tt.err)
		checkPage(t, openMetrics, fmt.Sprintf("a 3 %d.25\n# EOF\n", at.Unix()), "a", 3, tt.err)
	}
}

func TestOpenMetrics(t *testing.T) {
	for _, tt := range []struct {
		page, expression string
		want             int64
		err              string
	}{
		{"# TYPE a counter\na_total{b=\"} #\\\"\"} 3 # {trace_id=\"x\"} 0.5 1520879607.789\n# EOF\n", `a_total{b!=""}`, 3, ""},
		{"# TYPE a counter\n# EOF\n", "a_total", 0, ""},
		{"# TYPE a gauge\n# EOF\n", "a_total", 0, "no such metric"},
		{"# TYPE a gauge\na 3.0\n# EOF\n", "a", 3, ""},
		{"# TYPE a gauge\na 3 now\n# EOF\n", "a", 0, "text format"},
		{"# TYPE a gauge\na{b=\"c\"\n# EOF\n", "a", 0, "text format"},
		{"# TYPE a gauge\na 3\n", "a", 0, "cut off"},
		{"# TYPE a gauge\n", "a", 0, "cut off"},
	} {
		checkPage(t, openMetrics, tt.page, tt.expression, tt.want, tt.err)
	}
	checkPage(t, "application/vnd.google.protobuf; proto=x", "", "a", 0, "want text")
}

// Of an answer without a length nobody can tell that its series were cut off.
func TestAnEndThatNobodyCanTell(t *testing.T) {
	for text, want := range map[string]string{"# TYPE a gauge\n": "may have been cut off", "# TYPE a gauge\na 0\n": ""} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			buf.WriteString("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + text)
			buf.Flush()
		}))
		t.Cleanup(srv.Close)
		checkRead(t, source(t, "prometheus:"+srv.URL+"#a"), 0, want)
	}
}

func TestText(t *testing.T) {
	const nginx = "Active connections: 3 \nserver accepts handled requests\n 16 16 31 \nReading: 0 Writing: 2 Waiting: 1 \n"
	for _, tt := range []struct {
		page, pattern string
		want          int64
		err           string
	}{
		{nginx, `Reading: (\d+) Writing: (\d+) - 1`, 1, ""},
		{nginx, `Active connections: (\d+)`, 3, ""},
		{nginx, `Writing: (\d+)`, 2, ""},
		{nginx, `Writing: (\d+) - 3`, 0, "less than nothing"},
		{nginx, `Busy: (\d+)`, 0, "nothing on the page matches"},
		{nginx, `(Writing)`, 0, "is no number"},
		{nginx, `Writing|x(y)`, 0, "no number in it"},
		{"busy 1\nbusy 2\n", `(?m)^busy (\d+)$`, 3, ""},
		{"busy -1\n", `busy (\S+)`, 0, "no number of requests"},
		{strings.Repeat("busy 1\n", maxText), `busy (\d+)`, 0, errTooLarge.Error()},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, tt.page) }))
		t.Cleanup(srv.Close)
		checkRead(t, source(t, "text:"+srv.URL+"#"+tt.pattern), tt.want, tt.err)
	}
}

func TestJSONDifferences(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"active processes":3,"in":9,"out":7,"a - /b":5}`)
	}))
	t.Cleanup(srv.Close)
	for _, tt := range []struct {
		pointer string
		want    int64
		err     string
	}{
		{`/active processes - 1`, 2, ""},
		{`/active%20processes`, 3, ""},
		{`/in - /out`, 2, ""},
		{`/out - /in`, 0, "less than nothing"},
		{`/in - /gone`, 0, "gone"},
		{`/a%20-%20~1b`, 5, ""},
	} {
		checkRead(t, source(t, "json:"+srv.URL+"#"+tt.pointer), tt.want, tt.err)
	}
}

func TestPresetsAreSources(t *testing.T) {
	for _, p := range Presets() {
		if p.Server == "" || p.Self == "" || !strings.HasPrefix(p.Source, "https://") {
			t.Errorf("preset %s says too little: %+v", p.Name, p)
		}
		for url, want := range map[string]string{
			"http://127.0.0.1:8000":          "http://127.0.0.1:8000" + p.Path,
			"http://127.0.0.1:8000/":         "http://127.0.0.1:8000" + p.Path,
			"http://127.0.0.1:8000/x/y?z=1":  "http://127.0.0.1:8000/x/y?z=1",
			"http://u:s3cr3t@127.0.0.1/page": "http://127.0.0.1/page",
		} {
			s, err := ParseSource("web=preset:" + p.Name + "@" + url)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.kind.page.url.String(); got != want || strings.Contains(s.Spec(), "s3cr3t") || s.Name() != "web" {
				t.Errorf("%s reads %s, want %s", s.Spec(), got, want)
			}
		}
	}
}

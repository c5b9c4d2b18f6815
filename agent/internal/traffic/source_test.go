package traffic

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestParseSource(t *testing.T) {
	for _, spec := range []string{
		`prometheus:http://127.0.0.1:8090/metrics#active_requests`,
		`prometheus:http://127.0.0.1:8090/metrics#active_requests{label="x",b="y=z#"}`,
		`prometheus:http://127.0.0.1:8090/metrics?a=b#{"with.dots",l="v"}`,
		`json:http://[::1]:8090/debug/vars#/app/in_flight`,
		`json:http://127.0.0.1:8090#`,
		`file:/run/app/in-flight`,
		`socket:8080`,
		`none`,
	} {
		for prefix, name := range map[string]string{"": "app", "worker-2=": "worker-2"} {
			s, err := ParseSource(prefix + spec)
			if err != nil {
				t.Errorf("ParseSource(%q): %v", prefix+spec, err)
				continue
			}
			if s.Name() != name || s.Spec() != prefix+strings.Replace(spec, "?a=b", "?***", 1) {
				t.Errorf("ParseSource(%q) = %q, %q", prefix+spec, s.Name(), s.Spec())
			}
		}
	}
}

func TestParseSourceRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		``:                                      "unknown kind",
		`8080`:                                  "unknown kind",
		`tcp:8080`:                              "unknown kind",
		`=none`:                                 "no container name",
		`App=none`:                              "no container name",
		`none:`:                                 "nothing after it",
		`prometheus:http://127.0.0.1/m`:         "is no metric",
		`prometheus:http://127.0.0.1/m#`:        "is no metric",
		`prometheus:http://127.0.0.1/m#a 1`:     "is no metric",
		`prometheus:http://127.0.0.1/m#a{b}`:    "is no metric",
		`prometheus:http://127.0.0.1/m#a{b="c"`: "neither a comma nor }",
		`prometheus:http://127.0.0.1/m#a{b=c}`:  "no value in quotes",
		`prometheus:http://127.0.0.1/m#a{b='c}`: "does not end",
		`prometheus:http://127.0.0.1/m#a{b=~"("}`:       "no regular expression",
		`prometheus:http://127.0.0.1/m#a{b>"c"}`:        "none of =",
		`prometheus:http://127.0.0.1/m#{b="c"}`:         "no name in it",
		`prometheus:http://127.0.0.1/m#a{__name__="c"}`: "two names",
		`prometheus:http://127.0.0.1/m#a - b - c`:       "follows it",
		`prometheus:http://127.0.0.1/m#a - -1`:          "no name in it",
		`prometheus:http://127.0.0.1/m#a + b`:           "follows it",
		`prometheus:127.0.0.1:80/m#a`:                   "first path segment",
		`text:http://127.0.0.1/#(`:                      "no regular expression",
		`text:http://127.0.0.1/#\d+`:                    "has no group",
		`json:http://127.0.0.1/#/a - b`:                 "is no JSON pointer",
		`preset:nginx`:                                  "has no @",
		`preset:no-such@http://127.0.0.1`:               "no preset",
		`preset:nginx@http://127.0.0.1#a`:               "its own selector",
		`json:file:///etc/passwd#/a`:                    "is no URL",
		`json:http://#/a`:                               "is no URL",
		`json:http://127.0.0.1/#a`:                      "is no JSON pointer",
		`json:http://127.0.0.1/#%zz`:                    "invalid URL escape",
		`file:in-flight`:                                "no absolute path",
		`socket:0`:                                      "is no port",
		`socket:65536`:                                  "is no port",
		`socket:http`:                                   "is no port",
	} {
		if _, err := ParseSource(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSource(%q) = %v, want an error with %q", spec, err, want)
		}
	}
}

func TestNoneIsUnknown(t *testing.T) {
	s := source(t, "none")
	if n, err := s.Read(t.Context()); n.Known || err != nil || !s.None() {
		t.Errorf("none read %v, %v", n, err)
	}
}

// source returns an open source that the test closes.
func source(t *testing.T, spec string) *Source {
	t.Helper()
	s, err := ParseSource(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// checkRead compares one read with a count, or with a part of the error that makes it unknown.
func checkRead(t *testing.T, s *Source, want int64, wantErr string) {
	t.Helper()
	n, err := s.Read(t.Context())
	switch {
	case wantErr == "" && (err != nil || n != drain.Known(want)):
		t.Errorf("read %v, %v, want %d", n, err, want)
	case wantErr != "" && (n.Known || err == nil || !strings.Contains(err.Error(), wantErr)):
		t.Errorf("read %v, %v, want unknown and %q", n, err, wantErr)
	}
}

type answer struct {
	what string
	body string
	want int64
	err  string
}

// checkAnswers serves each body in turn and reads it through the same source.
func checkAnswers(t *testing.T, spec func(url string) string, answers []answer) {
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
	t.Cleanup(srv.Close)
	s := source(t, spec(srv.URL))
	for _, a := range answers {
		t.Run(a.what, func(t *testing.T) {
			body = a.body
			checkRead(t, s, a.want, a.err)
		})
	}
}

func TestPrometheus(t *testing.T) {
	checkAnswers(t, func(url string) string { return "prometheus:" + url + `#in_flight{route="/a"}` }, []answer{
		{"one", "# HELP in_flight x\n# TYPE in_flight gauge\nin_flight{route=\"/a\"} 3\n", 3, ""},
		{"whole float", `in_flight{route="/a"} 3.0` + "\n", 3, ""},
		{"exponent", `in_flight{route="/a"} 1e2` + "\n", 100, ""},
		{"sum", "in_flight{route=\"/a\",m=\"GET\"} 3\nother 9\nin_flight{m=\"PUT\",route=\"/a\"} 4\nin_flight{route=\"/b\"} 5\n", 7, ""},
		{"an old sample", "  in_flight { route = \"/a\" , } \t2 1700000000000\n", 0, "own timestamp"},
		{"blanks", "  in_flight { route = \"/a\" , } \t2\n", 2, ""},
		{"zero", `in_flight{route="/a"} 0` + "\n", 0, ""},
		{"other metrics are not parsed", "in_flightx y z\nzz{ 1\nin_flight{route=\"/a\"} 1\n", 1, ""},
		{"long foreign line", "x{a=\"" + strings.Repeat("a", 1<<17) + "in_flight\"} 1\nin_flight{route=\"/a\"} 1\n", 1, ""},
		{"a buffer begins in the middle of a line", strings.Repeat("#", 4096) + "in_flight{route=\"/a\"} 9\nin_flight{route=\"/a\"} 1\n", 1, ""},
		{"quoted name", `{"in_flight",route="/a"} 6` + "\n", 6, ""},
		{"windows line ends are foreign", "in_flight{route=\"/a\"} 0\r\n", 0, "text format"},
		{"empty", "", 0, "no such metric"},
		{"declared, no series", "# TYPE in_flight gauge\n", 0, ""},
		{"described, no series", "# HELP in_flight x\n", 0, ""},
		{"declared, cut off", "# TYPE in_flight gauge", 0, "no such metric"},
		{"another is declared", "# TYPE in_flight_total counter\n# TYPE in gauge\n", 0, "no such metric"},
		{"this label is new", `in_flight{route="/b"} 3` + "\n", 0, ""},
		{"no label", "in_flight 0\n", 0, "no such metric"},
		{"longer name", `in_flight_total{route="/a"} 0` + "\n", 0, "no such metric"},
		{"fraction", `in_flight{route="/a"} 0.5` + "\n", 0, "no number of requests"},
		{"fractions that add up", "in_flight{route=\"/a\",m=\"a\"} 0.5\nin_flight{route=\"/a\",m=\"b\"} 0.5\n", 0, "no number of requests"},
		{"negative", `in_flight{route="/a"} -1` + "\n", 0, "no number of requests"},
		{"negative beside positive", "in_flight{route=\"/a\",m=\"a\"} 1\nin_flight{route=\"/a\",m=\"b\"} -1\n", 0, "no number of requests"},
		{"NaN", `in_flight{route="/a"} NaN` + "\n", 0, "no number of requests"},
		{"infinite", `in_flight{route="/a"} +Inf` + "\n", 0, "no number of requests"},
		{"cut off", `in_flight{route="/a"} 0`, 0, "text format"},
		{"cut off in the name", "in_flight", 0, "no such metric"},
		{"garbage", "in_flight{route=\"/a\"} zero\n", 0, "text format"},
		{"page too large", strings.Repeat("#"+strings.Repeat(" ", 4095), maxMetrics/4096) + "\n" + "in_flight{route=\"/a\"} 0\n", 0, errTooLarge.Error()},
		{"too many series", strings.Repeat("in_flight{route=\"/a\"} 0\n", maxSelected/20), 0, errTooLarge.Error()},
	})
}

func TestJSON(t *testing.T) {
	checkAnswers(t, func(url string) string { return "json:" + url + "#/a~1b/1/n%20n" }, []answer{
		{"number", `{"a/b":[null,{"n n":3}]}` + "\n", 3, ""},
		{"whole float", `{"a/b":[null,{"n n":3.0}]}`, 3, ""},
		{"zero", `{"a/b":[null,{"n n":0}]}`, 0, ""},
		{"string", `{"a/b":[null,{"n n":"0"}]}`, 0, "want a number"},
		{"null", `{"a/b":[null,{"n n":null}]}`, 0, "want a number"},
		{"boolean", `{"a/b":[null,{"n n":false}]}`, 0, "want a number"},
		{"array", `{"a/b":[null,{"n n":[]}]}`, 0, "want a number"},
		{"fraction", `{"a/b":[null,{"n n":0.1}]}`, 0, "no number of requests"},
		{"negative", `{"a/b":[null,{"n n":-3}]}`, 0, "no number of requests"},
		{"huge", `{"a/b":[null,{"n n":1e400}]}`, 0, "out of range"},
		{"more than a count holds", `{"a/b":[null,{"n n":1e300}]}`, 0, "no number of requests"},
		{"missing key", `{"a/b":[null,{}]}`, 0, `"n n"`},
		{"missing index", `{"a/b":[]}`, 0, "index"},
		{"not an object", `7`, 0, "read json"},
		{"empty", ``, 0, "EOF"},
		{"cut off", `{"a/b":[null,{"n n":0`, 0, "EOF"},
		{"two documents", `{"a/b":[null,{"n n":0}]}{}`, 0, "follows the document"},
		{"garbage behind", `{"a/b":[null,{"n n":0}]} x`, 0, "invalid character"},
		{"too large", `{"a/b":[null,{"n n":0}],"x":"` + strings.Repeat("x", maxJSON) + `"}`, 0, errTooLarge.Error()},
	})
}

func TestHTTPAnswersThatAreNoCount(t *testing.T) {
	const page = "in_flight 0\n"
	mux := http.NewServeMux()
	for path, status := range map[string]int{"/404": 404, "/500": 500, "/503": 503, "/204": 204, "/206": 206} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); io.WriteString(w, page) })
	}
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })
	mux.Handle("/redirect", http.RedirectHandler("/ok", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://localhost/s3cr3t", http.StatusFound))
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, page)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{
		"/ok": "", "/404": "404", "/500": "500", "/503": "503", "/204": "204", "/206": "206", "/redirect": "", "/away": "another host", "/round": "again and again", "/short": "unexpected EOF",
	} {
		checkRead(t, source(t, "prometheus:"+srv.URL+path+"#in_flight"), 0, want)
	}
	srv.Close()
	checkRead(t, source(t, "prometheus:"+srv.URL+"/ok#in_flight"), 0, "refused")
}

func TestHTTPStopsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	s := source(t, "json:"+srv.URL+"#/n")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if n, err := s.Read(ctx); n.Known || err == nil {
		t.Errorf("read %v, %v from an app that does not answer", n, err)
	}
}

func TestHTTPIgnoresTheProxyOfTheEnvironment(t *testing.T) {
	transport := newPage(&url.URL{Scheme: "http", Host: "192.0.2.1"}, "", 1).client.Transport.(*http.Transport)
	if transport.Proxy != nil { // the standard library reads the environment once, so a test cannot set it
		t.Error("the client may ask a proxy")
	}
}

func TestHTTPKeepsOneConnection(t *testing.T) {
	remotes := make(map[string]bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		io.WriteString(w, "in_flight 1\n")
	}))
	t.Cleanup(srv.Close)
	s := source(t, "prometheus:"+srv.URL+"#in_flight")
	for range 10 {
		checkRead(t, s, 1, "")
	}
	if len(remotes) != 1 {
		t.Errorf("10 reads took %d connections", len(remotes))
	}
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

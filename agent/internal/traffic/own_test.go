package traffic

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// counting is a server whose gauge and counters count every request that it has not answered, the one that asks for them too. Each
// path says it in another way; /work is held until release.
func counting(t *testing.T, release <-chan struct{}) *httptest.Server {
	t.Helper()
	var busy, started, handled atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		n := busy.Load()
		fmt.Fprintf(w, "# TYPE busy gauge\nbusy{handler=\"/metrics\"} 1\nbusy{handler=\"/work\"} %d\n", n-1)
		fmt.Fprintf(w, "started_total{handler=\"/metrics\"} 9\nstarted_total{handler=\"/work\"} %d\n", started.Load())
		fmt.Fprintf(w, "handled_total{handler=\"/metrics\"} 8\nhandled_total{handler=\"/work\"} %d\n", handled.Load())
	})
	mux.HandleFunc("/json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"busy":%d}`, busy.Load()) })
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "Busy: %d of 8", busy.Load()) })
	mux.HandleFunc("/moved/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path[len("/moved"):], http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/closed/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+marker {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, r.URL.Path[len("/closed"):], http.StatusMovedPermanently)
	})
	mux.HandleFunc("/work", func(w http.ResponseWriter, _ *http.Request) {
		started.Add(1)
		<-release
		handled.Add(1)
		io.WriteString(w, "ok")
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Add(-1)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// A gauge that counts its own reader: what was in flight is read right, in every form, also behind redirects and credentials.
func TestAGaugeThatCountsItsOwnReader(t *testing.T) {
	release := make(chan struct{})
	srv := counting(t, release)
	token := writeSecret(t, t.TempDir()+"/token", marker)
	var sources []*Source
	for _, at := range []string{"", "/moved", "/closed"} {
		for _, form := range []string{
			"prometheus:%s/metrics#busy - 1", `prometheus:%s/metrics#busy{handler!="/metrics"}`, `prometheus:%s/metrics#busy{handler!~"/metr.*"}`,
			`prometheus:%s/metrics#busy - busy{handler="/metrics"}`,
			`prometheus:%s/metrics#started_total{handler!="/metrics"} - handled_total{handler!="/metrics"}`,
			"json:%s/json#/busy - 1", `text:%s/text#Busy: (\d+) - 1`,
		} {
			sources = append(sources, withAuth(t, fmt.Sprintf(form, srv.URL+at), token))
		}
	}
	for _, s := range sources {
		checkRead(t, s, 0, "")
	}
	answered := make(chan error)
	for range 2 {
		go func() {
			res, err := http.Get(srv.URL + "/work")
			if err == nil {
				res.Body.Close()
			}
			answered <- err
		}()
	}
	gauge := source(t, "json:"+srv.URL+"/json#/busy - 1")
	eventually(t, "two are in flight", func() bool {
		n, err := gauge.Read(t.Context())
		return err == nil && n.N == 2
	})
	for _, s := range sources {
		checkRead(t, s, 2, "")
	}
	close(release)
	for range 2 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	for _, s := range sources { // a server may still be leaving its handler when its answer is read
		eventually(t, s.Spec()+" reads 0", func() bool { n, err := s.Read(t.Context()); return err == nil && n.N == 0 })
	}
}

// Who subtracts a reader that is not counted reads no zero from an idle server, but unknown.
func TestWhatIsNotCountedCannotBeSubtracted(t *testing.T) {
	for _, form := range []string{"prometheus:%s#a - 1", "text:%s#a (\\d+) - 1"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a 0\n") }))
		checkRead(t, source(t, fmt.Sprintf(form, srv.URL)), 0, "less than nothing is left")
		srv.Close()
	}
}

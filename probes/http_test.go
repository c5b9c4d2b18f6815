package probes

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	var disk, cache, proxy toggle
	cache.fail("cold\nand dirty")
	proxy.fail("refused")
	r := registry(t, Config{
		Readiness: []Check{{Name: "disk", Run: disk.run}, {Name: "cache", Run: cache.run, Policy: Degraded}},
		Startup:   []Check{{Name: "proxy", Run: proxy.run, Policy: Degraded}},
	})
	mux := http.NewServeMux()
	r.RegisterHTTP(mux)
	server := httptest.NewServer(mux)
	defer server.Close()

	want := func(path string, code int, body string) {
		t.Helper()
		if c, b := get(t, server.URL+path); c != code || b != body {
			t.Errorf("GET %s: %d %q, want %d %q", path, c, b, code, body)
		}
	}
	want("/livez", 200, "ok\n")
	want("/livez?verbose", 200, "livez check passed\n")
	want("/readyz", 200, "ok\n")
	want("/readyz?verbose", 200, "[+]owner ok\n[+]disk ok\n[~]cache degraded: cold; and dirty\nreadyz check passed\n")
	want("/readyz/cache", 503, "[-]cache failed: cold; and dirty\nreadyz/cache check failed\n")
	want("/readyz/disk", 200, "ok\n")
	want("/readyz/none", 404, "no such check\n")
	want("/startupz", 200, "ok\n")
	want("/startupz/proxy", 503, "[-]proxy failed: refused\nstartupz/proxy check failed\n")
	want("/syntheticz", 200, "ok\n")

	proxy.pass()
	want("/startupz/proxy", 200, "ok\n")
	disk.fail("full")
	want("/readyz", 503, "[+]owner ok\n[-]disk failed: full\n[~]cache degraded: cold; and dirty\nreadyz check failed\n")
	disk.pass()
	r.FailReadiness("draining")
	want("/readyz", 503, "[-]owner failed: draining\n[+]disk ok\n[~]cache degraded: cold; and dirty\nreadyz check failed\n")
	want("/livez", 200, "ok\n")

	res, err := http.Post(server.URL+"/readyz", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %d, want 405", res.StatusCode)
	}
}

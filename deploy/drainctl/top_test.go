package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTopFollowsWhatStops(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/live" || r.Header.Get("Authorization") != "Bearer s3cr3t" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(`: hello

data: {"said":"2 pods with an agent are stopping.","list":[{"pod":"shop/web-1","workload":"Deployment web","phase":"draining","left":"21 s","in_flight":"3","waiting":"app: 3 requests"},{"pod":"bank/api-1","workload":"Deployment api","phase":"no answer","left":"9 s","in_flight":"?","waiting":"?"}]}

data: {"said":"0 pods with an agent are stopping.","list":[]}

`))
	}))
	defer s.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cr3t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "2 pods with an agent are stopping.\nPOD         WORKLOAD        PHASE     LEFT  IN FLIGHT  WAITS FOR\nshop/web-1  Deployment web  draining  21 s  3          app: 3 requests\n"
	if code, out, said := drainctl(t, "", "top", "--from="+s.URL, "-n", "shop", "--token-file="+token, "--once"); code != exitOK || out != want {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	code, out, said := drainctl(t, "", "top", "--from="+s.URL, "-n", "shop", "--token-file="+token)
	if code != exitUsage || out != want+"0 pods with an agent are stopping.\n" || !strings.Contains(said, "ended the view") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	for from, want := range map[string]string{s.URL: "401", "x": "write http://HOST:PORT", "http://u:s3cr3t@127.0.0.1:1": "127.0.0.1:1"} {
		if code, out, said := drainctl(t, "", "top", "--from="+from); code != exitUsage || !strings.Contains(said, want) || strings.Contains(out+said, "s3cr3t") {
			t.Errorf("%s: %d %s", from, code, said)
		}
	}
}

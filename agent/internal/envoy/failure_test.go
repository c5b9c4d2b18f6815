package envoy_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
)

// An admin that fails in the same way again and again has one text, though each connection has another port of ours.
func TestTheSameFailureHasTheSameText(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset
			_ = conn.Close()
		}
	}))
	t.Cleanup(srv.Close)
	c := connect(t, srv.URL)
	for range 3 {
		err := c.Sample(t.Context()).Err
		if err == nil || regexp.MustCompile(`:\d+->|filter=`).MatchString(err.Error()) {
			t.Errorf("error %v", err)
		}
	}
}

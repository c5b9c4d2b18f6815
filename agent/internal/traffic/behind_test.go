package traffic

import (
	"fmt"
	"net"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// A connection from the pod itself may be the proxy's idle one: it counts only where nobody else reads what the proxy has.
func TestAProxysIdleConnectionIsNoRequest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	idle, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for behind, want := range map[bool]int64{false: 1, true: 0} {
		source, err := ParseSource(fmt.Sprintf("socket:%d", ln.Addr().(*net.TCPAddr).Port))
		if err != nil {
			t.Fatal(err)
		}
		source.kind.sockets.own = func() map[endpoint]bool { return nil } // the test's connection stands for another process's
		if behind {
			source.BehindProxy()
		}
		if n, err := source.Read(t.Context()); err != nil || n != drain.Known(want) {
			t.Errorf("behind a proxy: %v; read %v, %v, want %d", behind, n, err, want)
		}
	}
}

package envoy_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// silent accepts connections, says what arrived first on each, and never answers.
func silent(t *testing.T) (port int, arrived chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	arrived = make(chan struct{}, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data := make([]byte, 4096)
				for first := true; ; first = false {
					if _, err := conn.Read(data); err != nil {
						return
					}
					if first {
						arrived <- struct{}{}
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, arrived
}

// thriftCall is a call of the method "ping" in the framed binary protocol.
func thriftCall() []byte {
	message := append([]byte{0x80, 1, 0, 1, 0, 0, 0, 4}, "ping"...)
	message = append(message, 0, 0, 0, 1, 0) // sequence number, end of the arguments
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// dubboCall is a call of org.example.Shop#buy with serialization hessian2.
func dubboCall() []byte {
	var body []byte
	for _, text := range []string{"2.0.2", "org.example.Shop", "0.0.0", "buy", ""} {
		body = append(append(body, byte(len(text))), text...)
	}
	body = append(body, 'H', 'Z') // no attachments
	head := []byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	return append(binary.BigEndian.AppendUint32(head, uint32(len(body))), body...)
}

// TestCallsOfOtherProtocols: a call that the server does not answer reads 1 at least, or unknown; an idle Envoy reads 0, or says what hides it.
func TestCallsOfOtherProtocols(t *testing.T) {
	t.Parallel()
	filters := map[string]struct {
		filter obj
		call   []byte
	}{
		"thrift": {extension("thrift", "extensions.filters.network.thrift_proxy.v3.ThriftProxy", obj{
			"stat_prefix": "in", "transport": "FRAMED", "protocol": "BINARY",
			"thrift_filters": []obj{extension("envoy.filters.thrift.router", "extensions.filters.network.thrift_proxy.router.v3.Router", nil)},
			"route_config":   obj{"name": "all", "routes": []obj{{"match": obj{"method_name": ""}, "route": obj{"cluster": "app"}}}},
		}), thriftCall()},
		"dubbo": {extension("dubbo", "extensions.filters.network.dubbo_proxy.v3.DubboProxy", obj{
			"stat_prefix": "in", "protocol_type": "Dubbo", "serialization_type": "Hessian2",
			"route_config": []obj{{"name": "all", "interface": "org.example.Shop", "routes": []obj{{"match": obj{"method": obj{"name": obj{"exact": "buy"}}}, "route": obj{"cluster": "app"}}}}},
		}), dubboCall()},
		"mongo before TCP": {tcpFilter("in", "app"), []byte("hello")},
	}
	for name, test := range filters {
		for what, more := range map[string]obj{"shown": nil, "hidden": hidden()} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				upstream, arrived := silent(t)
				in := freePort(t)
				l := listener("in", in, "INBOUND", test.filter)
				if name == "mongo before TCP" {
					l = listener("in", in, "INBOUND", extension("mongo", "extensions.filters.network.mongo_proxy.v3.MongoProxy", obj{"stat_prefix": "m"}), test.filter)
				}
				_, c := startWith(t, []obj{l}, []obj{cluster("app", upstream, nil)}, more)
				zeroOrSaid := func(s envoy.Sample) bool {
					return s.InFlight.Known && s.InFlight.N == 0 || !s.InFlight.Known && s.Err != nil && len(s.Notes) > 0
				}
				first := until(t, c, "nothing, or what hides it", zeroOrSaid)
				conn := dial(t, fmt.Sprintf("127.0.0.1:%d", in))
				if _, err := conn.Write(test.call); err != nil {
					t.Fatal(err)
				}
				select {
				case <-arrived:
				case <-t.Context().Done():
				}
				busy := until(t, c, "the call", func(s envoy.Sample) bool { return s.InFlight.N >= 1 || !s.InFlight.Known })
				for range 20 {
					if s := c.Sample(t.Context()); s.InFlight.Known && s.InFlight.N == 0 && s.Age == 0 {
						t.Fatalf("a call is under way: %+v", s)
					}
				}
				conn.Close()
				until(t, c, "nothing any more, or what hides it", zeroOrSaid)
				t.Logf("idle %v, busy %v by %q, notes %q", first.InFlight, busy.InFlight, busy.Rung, busy.Notes)
			})
		}
	}
}

package traffic

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// beTheCrowd opens many connections and holds them until its standard input ends. It is a second process, because our
// own connections would not count.
func beTheCrowd(addr, many string) int {
	n, _ := strconv.Atoi(many)
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer c.Close()
	}
	fmt.Println("connected")
	os.Stdin.Read(make([]byte, 1))
	return 0
}

func startCrowd(b *testing.B, addr net.Addr, n int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerVariable+"="+addr.String(), crowdVariable+"="+strconv.Itoa(n))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	said := make([]byte, 128)
	if k, err := out.Read(said); err != nil || string(said[:k]) != "connected\n" {
		b.Fatalf("crowd: %s, %v", said[:k], err)
	}
}

// BenchmarkLook shows what one look costs with n connections on the port, by way of reading.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		for way, newTable := range ways() {
			b.Run(fmt.Sprintf("inbound/%s/%d", way, n), func(b *testing.B) {
				s := listen(b, "tcp4", "127.0.0.1:0")
				startCrowd(b, s.Addr(), n)
				in := NewInbound([]uint16{s.port})
				in.follow.table = newTable([]uint16{s.port})
				for deadline := time.Now().Add(20 * time.Second); in.Look(b.Context()).Conns.N != int64(n); {
					if time.Now().After(deadline) {
						b.Fatal("the connections did not arrive")
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					in.Look(b.Context())
				}
			})
		}
	}
}

// BenchmarkWatch shows what it costs to see that a container is up, and that it has left.
func BenchmarkWatch(b *testing.B) {
	s := listen(b, "tcp4", "127.0.0.1:0")
	for name, port := range map[string]uint16{"up": s.port, "gone": 1} {
		b.Run(name, func(b *testing.B) {
			w := PortWatch("app", port)
			b.ReportAllocs()
			for b.Loop() {
				w.Look(b.Context())
			}
		})
	}
}

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// A client that reads slowly has its whole answer after its pod was told to stop: when the app has written the last byte, megabytes
// of it still stand in Envoy and in the kernel, whose share goes with the pod's network.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const chunks = 650_000 // 8 MB
	for _, shape := range []string{"classic", "native"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			if shape == "native" {
				onlyLong(t) // writing so many chunks takes the processors from others
			}
			w := load(t, shape, namespace(t, "restricted")).replicas(1).start(t)
			seen := watch(t, w.ns)
			pod := running(t, w)[0]
			response, err := http.Get(fmt.Sprintf("http://%s/stream?ms=0&chunks=%d", w.target(t), chunks))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			kubectl(t, "-n", w.ns, "delete", "pod", pod, "--wait=false")
			got, err := readSlowly(response.Body)
			want := 0
			for i := range chunks {
				want += len(fmt.Sprintf("chunk %d\n", i))
			}
			if err != nil || got != want {
				t.Errorf("%d of %d bytes arrived, %v", got, want, err)
			}
			stoppedCleanly(t, shape, seen.gone(t, pod, time.Minute))
		})
	}
}

// readSlowly takes 1.3 MB/s.
func readSlowly(from io.Reader) (n int, err error) {
	mouthful := make([]byte, 32<<10)
	turn := time.NewTicker(25 * time.Millisecond)
	defer turn.Stop()
	for err == nil {
		<-turn.C
		var some int
		some, err = io.ReadFull(from, mouthful)
		n += some
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the number says whether it was all
	}
	return n, err
}

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
)

const fakeTCP, fakeTLS = 8081, 8443

// fakeApp holds WebSockets, gRPC streams, TCP and TLS connections for as long as their clients do, whatever it is told, and answers as
// many bytes as it is asked for. SIGTERM ends it at once; a polite one then closes its WebSockets, and ends when it is asked to (POST /end).
func fakeApp() {
	f := &holder{told: context.Background()}
	if os.Getenv("FAKE_APP") == "polite" {
		f.told, _ = signal.NotifyContext(f.told, syscall.SIGTERM)
	}
	f.calls = grpc.NewServer(grpc.UnknownServiceHandler(f.stream))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	go func() { fail((&http.Server{Addr: ":8080", Handler: f, Protocols: &protocols}).ListenAndServe()) }()
	go echo(listenOn(fakeTCP))
	secret := httptest.NewUnstartedServer(http.HandlerFunc(f.answer))
	secret.Listener = listenOn(fakeTLS)
	secret.StartTLS()
	fail(http.ListenAndServe(":8090", f.management()))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func listenOn(port int) net.Listener {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		fail(err)
	}
	return l
}

func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}()
	}
}

type holder struct {
	told                      context.Context //nolint:containedctx // over when the polite one has got its SIGTERM
	calls                     *grpc.Server
	sockets, streams, answers atomic.Int64
}

func (f *holder) stream(_ any, s grpc.ServerStream) error {
	f.streams.Add(1)
	defer f.streams.Add(-1)
	<-s.Context().Done()
	return nil
}

// answer sends as many bytes as the query says.
func (f *holder) answer(w http.ResponseWriter, r *http.Request) {
	f.answers.Add(1)
	defer f.answers.Add(-1)
	n, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
	w.Header().Set("Content-Length", strconv.Itoa(n))
	_, _ = w.Write(make([]byte, n))
}

func (f *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/answer" {
		f.answer(w, r)
		return
	}
	if r.ProtoMajor == 2 {
		f.calls.ServeHTTP(w, r)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	f.sockets.Add(1)
	defer f.sockets.Add(-1)
	select {
	case <-conn.CloseRead(context.Background()).Done():
	case <-f.told.Done():
		_ = conn.Close(websocket.StatusGoingAway, "") // its client knows
	}
}

func (f *holder) management() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "active_work{kind=\"websocket\"} %d\nactive_work{kind=\"grpc_stream\"} %d\nactive_work{kind=\"answer\"} %d\n",
			f.sockets.Load(), f.streams.Load(), f.answers.Load())
	})
	mux.HandleFunc("POST /drain", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /end", func(http.ResponseWriter, *http.Request) { os.Exit(0) })
	return mux
}

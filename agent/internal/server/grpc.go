package server

import (
	"net/http"
	"strings"

	"google.golang.org/grpc"
)

// maxMessage bounds a gRPC request; a health check names a service and nothing else.
const maxMessage = 4 << 10

// addGRPC serves gRPC health on the hook port: HTTP/2 without TLS, which is what kubelet's gRPC probes speak. Everything else
// stays HTTP/1.1, so that one connection is one call and the limit of connections limits the calls too.
func (s *Server) addGRPC() {
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	s.opts.Probes.RegisterGRPC(s.grpc)
	plain, rpc := s.public.http.Handler, s.public.conns.asked(s.grpc)
	s.public.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor == 1:
			plain.ServeHTTP(w, r)
		case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			rpc.ServeHTTP(w, r)
		default:
			http.Error(w, "HTTP/2 is for gRPC health only; use HTTP/1.1", http.StatusHTTPVersionNotSupported)
		}
	})
	s.public.http.Protocols = new(http.Protocols)
	s.public.http.Protocols.SetHTTP1(true)
	s.public.http.Protocols.SetUnencryptedHTTP2(true)
	s.public.http.HTTP2 = &http.HTTP2Config{ // the least HTTP/2 admits; the default lets a peer claim 1 MiB with one frame header
		MaxConcurrentStreams:          8,
		MaxReadFrameSize:              16 << 10,
		MaxReceiveBufferPerConnection: 64 << 10,
		MaxReceiveBufferPerStream:     64 << 10,
	}
}

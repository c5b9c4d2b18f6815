package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const maxBody = 4 << 20 // as gRPC's default

// jsonCall serves a unary method as HTTP/JSON: the body is the request; what the path names is added to it.
// Errors are google.rpc.Status as JSON, under the HTTP code that google.rpc.Code gives for them.
func jsonCall[Req any, Resp proto.Message, PReq interface {
	*Req
	proto.Message
}](call func(context.Context, PReq) (Resp, error),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := PReq(new(Req))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil && len(body) > 0 {
			err = protojson.Unmarshal(body, req)
		}
		if err == nil {
			fromPath(r, req.ProtoReflect())
		}
		if err != nil {
			code := codes.InvalidArgument
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				code = codes.ResourceExhausted
			}
			reply(w, nil, status.Error(code, fmt.Sprintf("read the body: %.200s", err.Error())))
			return
		}
		resp, err := call(r.Context(), req)
		reply(w, resp, err)
	}
}

// fromPath sets the text fields that the route's path names.
func fromPath(r *http.Request, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if value := r.PathValue(string(f.Name())); value != "" && f.Kind() == protoreflect.StringKind && !f.IsList() {
			m.Set(f, protoreflect.ValueOfString(value))
		}
	}
}

func reply(w http.ResponseWriter, resp proto.Message, err error) {
	code := http.StatusOK
	if err != nil {
		s := status.Convert(err)
		resp, code = s.Proto(), httpCode(s.Code())
	}
	body, err := protojson.MarshalOptions{EmitDefaultValues: true, UseProtoNames: true}.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}

func httpCode(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted: // only ever a body that is too large
		return http.StatusRequestEntityTooLarge
	case codes.Canceled:
		return 499
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Unimplemented:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}

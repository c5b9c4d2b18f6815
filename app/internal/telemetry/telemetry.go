// Package telemetry ties a request's log lines, spans and ids together.
package telemetry

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Headers of the ids. A request id names one try, a correlation id everything that one wish led to.
const (
	RequestID     = "X-Request-Id"
	CorrelationID = "X-Correlation-Id"
)

const maxID = 128

// Provider makes spans. Without an endpoint they are made, so that logs carry trace ids, and go nowhere. The endpoint
// (host:port, OTLP over gRPC without TLS) is connected in the background: a collector that is not there delays nothing.
func Provider(ctx context.Context, endpoint string, attrs ...attribute.KeyValue) (*sdk.TracerProvider, error) {
	opts := []sdk.TracerProviderOption{sdk.WithResource(resource.NewSchemaless(attrs...))}
	if endpoint != "" {
		exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure())
		if err != nil {
			return nil, fmt.Errorf("export traces to %s: %w", endpoint, err)
		}
		opts = append(opts, sdk.WithBatcher(exporter))
	}
	return sdk.NewTracerProvider(opts...), nil
}

type ids struct{ request, correlation string }

type idsKey struct{}

// Handler continues the caller's W3C trace, or begins one, and gives every request its ids, which are answered too.
// It serves HTTP and gRPC: a gRPC call's metadata are its headers.
func Handler(tracer trace.Tracer, next http.Handler) http.Handler {
	var w3c propagation.TraceContext
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		id := ids{request: clean(r.Header.Get(RequestID))}
		if id.request == "" {
			id.request = rand.Text()
		}
		if id.correlation = clean(r.Header.Get(CorrelationID)); id.correlation == "" {
			id.correlation = id.request
		}
		ctx, span := tracer.Start(ctx, r.Method+" "+r.URL.Path, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("request_id", id.request), attribute.String("correlation_id", id.correlation)))
		defer span.End()
		w.Header().Set(RequestID, id.request)
		w.Header().Set(CorrelationID, id.correlation)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, idsKey{}, id)))
	})
}

// clean refuses ids that would not fit into a log line.
func clean(id string) string {
	if len(id) > maxID {
		return ""
	}
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return id
}

// LogHandler adds request_id, correlation_id, trace_id and span_id to lines that are logged with a request's context.
type LogHandler struct{ slog.Handler }

// Handle adds the ids.
func (h LogHandler) Handle(ctx context.Context, rec slog.Record) error {
	if id, ok := ctx.Value(idsKey{}).(ids); ok {
		rec.AddAttrs(slog.String("request_id", id.request), slog.String("correlation_id", id.correlation))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		rec.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, rec)
}

// WithAttrs keeps the ids in derived loggers.
func (h LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LogHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the ids in derived loggers.
func (h LogHandler) WithGroup(name string) slog.Handler { return LogHandler{h.Handler.WithGroup(name)} }

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// grpcPod is the server of grpc_model.py, whose page of metrics is on another port.
const grpcPod = `apiVersion: apps/v1
kind: Deployment
metadata: {name: model}
spec:
  selector: {matchLabels: {app: model}}
  template:
    metadata:
      labels: {app: model}
      annotations:
        drain-agent.io/proxy: none
        drain-agent.io/app-source: prometheus:http://127.0.0.1:9100/metrics#model_requests
        drain-agent.io/longest-request: 2m
    spec:
      terminationGracePeriodSeconds: 150
      containers:
      - name: server
        image: registry.example/grpc-model:1
        ports: [{name: grpc, containerPort: 8000}]
        readinessProbe: {tcpSocket: {port: grpc}, periodSeconds: 5}
`

// plain hands bytes through as they are.
type plain struct{}

func (plain) Name() string { return "plain" }

func (plain) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (plain) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

// call reads a stream of so many seconds to its end, on a connection of its own.
func (s *streams) call(ctx context.Context, address, seconds string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/model.Model/Complete", grpc.ForceCodec(plain{}))
	if err == nil {
		err = errors.Join(stream.SendMsg([]byte(seconds)), stream.CloseSend())
	}
	for first := true; err == nil; first = false {
		var token []byte
		if err = stream.RecvMsg(&token); err == nil && first {
			s.brought()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("cut off: %w", err)
}

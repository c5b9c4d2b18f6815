// Package api is the wire contract of the payment service: messages, gRPC clients and servers, all generated
// from demo.proto. Regenerating needs protoc (Debian: protobuf-compiler) in PATH; the plugins are pinned here.
package api

//go:generate env GOBIN=${PWD}/../../.cache/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//go:generate env GOBIN=${PWD}/../../.cache/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
//go:generate protoc --plugin=../../.cache/bin/protoc-gen-go --plugin=../../.cache/bin/protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative demo.proto

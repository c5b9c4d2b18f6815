# The demo app as an image: one static binary and nothing else.
#   docker build -f Dockerfile.app -t ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev .
ARG BUILDER=golang:1.26
FROM ${BUILDER} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
ARG REVISION=
ARG TARGETOS=linux
# Set by BuildKit; where it is empty, Go takes the builder's own.
ARG TARGETARCH=
ENV CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH}
RUN go build -trimpath -buildvcs=false -ldflags="-s -X main.stamped=${VERSION} -X main.revision=${REVISION}" -o /out/app ./app

FROM scratch
COPY --from=build /out/app /app
USER 65532:65532
EXPOSE 8080 8090
ENTRYPOINT ["/app"]
CMD ["serve"]

# The demo app as an image: one static binary and nothing else.
#   docker build -f Dockerfile.app -t drain-agent-app:dev .
ARG BUILDER=golang:1.26
FROM ${BUILDER} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ENV CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH}
RUN go build -trimpath -ldflags=-s -o /out/app ./app

FROM scratch
COPY --from=build /out/app /app
USER 65532:65532
EXPOSE 8080 8090
ENTRYPOINT ["/app"]
CMD ["serve"]

package main

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dependencies is every module in the agent's binary and why it is there. What "comes with" another leaves with it.
func dependencies() map[string]string {
	return map[string]string{
		"github.com/alecthomas/kong": "the command line and its environment twins",

		"google.golang.org/genproto/googleapis/rpc": "comes with grpc",
		"google.golang.org/protobuf":                "the messages of gRPC health",
		"github.com/go-json-experiment/json":        "reads an admin reply of any length piece by piece, in bounded memory",

		"google.golang.org/grpc": "gRPC health, served (probes) and asked (the verb probe)",
		"golang.org/x/net":       "comes with grpc: HTTP/2",
		"golang.org/x/text":      "comes with x/net",

		"github.com/prometheus/client_golang": "GET /metrics",
		"github.com/prometheus/client_model":  "comes with client_golang",
		"github.com/beorn7/perks":             "comes with client_golang",
		"github.com/cespare/xxhash/v2":        "comes with client_golang",
		"github.com/prometheus/procfs":        "comes with client_golang, though we register no process collector",
		"github.com/prometheus/common":        "reads the app's metrics (--app-source=prometheus:)",
		"github.com/munnerz/goautoneg":        "comes with common",
		"github.com/pandatix/go-abnf":         "comes with common",

		"github.com/go-openapi/jsonpointer": "--app-source=json:URL#/pointer",
		"github.com/fsnotify/fsnotify":      "--app-source=file:, --watch=NAME=file:, --drain-file: noticed without polling",
		"github.com/vishvananda/netlink":    "sock_diag: the inbound ports' sockets; only its package nl",
		"github.com/vishvananda/netns":      "comes with netlink",
		"golang.org/x/sys":                  "peer credentials, sock_diag's constants",
	}
}

// unwanted packages would come in by accident. Two that did stay, because client_golang brings them: expvar, whose page is on the
// default mux, which nobody serves here; testing and go/format, through a parser that prometheus/common uses.
func unwanted() map[string]string {
	return map[string]string{
		"github.com/vishvananda/netlink": "all of rtnetlink; nl is enough",
		"golang.org/x/net/trace":         "pages of gRPC that nobody serves, with two template engines: build with -tags=grpcnotrace",
		"html/template":                  "nothing here writes HTML",
		"net/http/pprof":                 "opens a profiler on the default mux",
		"C":                              "the image has no C library",
	}
}

const imageLimit = 9_000_000 // bytes, compressed; the binary is all there is in the image

// The binary is built as the image builds it.
func TestBinaryHoldsToItsBudget(t *testing.T) {
	binary, tags := buildAsTheImageDoes(t)
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	allowed := dependencies()
	for _, module := range info.Deps {
		if _, ok := allowed[module.Path]; !ok {
			t.Errorf("%s is new in the binary: leave it out, or write its reason here", module.Path)
		}
		delete(allowed, module.Path)
	}
	for path := range allowed {
		t.Errorf("%s is no longer in the binary: take it off the list", path)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags="+tags, ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	packages, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path, why := range unwanted() {
		if slices.Contains(strings.Fields(string(packages)), path) {
			t.Errorf("%s is in the binary: %s", path, why)
		}
	}
	size := packed(t, binary)
	t.Logf("%d bytes compressed", size)
	if size > imageLimit {
		t.Errorf("%d bytes compressed, the budget is %d", size, imageLimit)
	}
}

// buildAsTheImageDoes runs the go build of Dockerfile.agent.
func buildAsTheImageDoes(t *testing.T) (binary, tags string) {
	t.Helper()
	dockerfile, err := os.ReadFile("../Dockerfile.agent")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^RUN .*(go build .*-o) (\S+) \./agent$`).FindStringSubmatch(string(dockerfile))
	if line == nil {
		t.Fatal("Dockerfile.agent has no line RUN go build … -o FILE ./agent")
	}
	if tag := regexp.MustCompile(`-tags[= ](\S+)`).FindStringSubmatch(line[1]); tag != nil {
		tags = tag[1]
	}
	binary = filepath.Join(t.TempDir(), "drain-agent")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line[1]+` "$OUT" ./agent`)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "VERSION=", "OUT="+binary)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line[1], err, out)
	}
	return binary, tags
}

func packed(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Len()
}

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

func TestOwnerIsFoundByWhatEnvoySays(t *testing.T) {
	tests := map[string]struct {
		flag     string
		envoy    envoy.Description
		want     string
		evidence string
	}{
		"istio sidecar": {"auto", envoy.Description{NodeID: "sidecar~10.0.0.1~pod.ns~ns.svc.cluster.local"}, "istio", "node id sidecar~"},
		"istio gateway": {"auto", envoy.Description{NodeID: "router~10.0.0.1~gw.ns~ns.svc.cluster.local"}, "istio", "node id router~"},
		"istio by its metadata": {
			"auto", envoy.Description{NodeID: "x", MetadataKeys: []string{"APP_CONTAINERS", "ISTIO_VERSION"}}, "istio", "ISTIO_VERSION",
		},
		"istio by its listener": {"auto", envoy.Description{Listeners: []string{"virtualInbound", "virtualOutbound"}}, "istio", "virtualInbound"},
		"envoy gateway": {
			"auto", envoy.Description{Listeners: []string{"default/eg/http", "envoy-gateway-proxy-ready-0.0.0.0-19003"}}, "envoy-gateway", "proxy-ready",
		},
		"contour": {"auto", envoy.Description{Listeners: []string{"envoy-admin", "ingress_http", "stats-health"}}, "contour", "ingress_http"},
		"kuma":    {"auto", envoy.Description{MetadataKeys: []string{"dataplane.admin.port"}}, "kuma", "dataplane.admin.port"},
		"consul":  {"auto", envoy.Description{Listeners: []string{"public_listener:10.0.0.1:20000"}}, "consul", "public_listener:"},
		"nobody":  {"auto", envoy.Description{NodeID: "sidecar", Listeners: []string{"inbound"}}, "envoy", "no sign"},
		"a flag beats every sign": {
			"envoy", envoy.Description{NodeID: "sidecar~10.0.0.1~pod.ns~x"}, "envoy", "--proxy=envoy",
		},
		"a flag needs no sign": {"istio", envoy.Description{}, "istio", "--proxy=istio"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, evidence := ownerOf(tt.flag, tt.envoy)
			if got.name != tt.want || !strings.Contains(evidence, tt.evidence) {
				t.Errorf("owner %s by %q, want %s by %q", got.name, evidence, tt.want, tt.evidence)
			}
			if text := got.text(evidence); !strings.Contains(text, got.name) || got.does == "" || !strings.Contains(text, got.does) {
				t.Errorf("the timeline says %q", text)
			}
		})
	}
}

// An owner that hangs, refuses or says no is an error soon, never a wait.
func TestAskingTheOwnerIsBounded(t *testing.T) {
	release := make(chan struct{})
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		switch r.URL.Path {
		case "/hangs":
			<-release
		case "/no":
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()
	defer close(release)
	w := newWires(&config{flags: &runFlags{}})
	if err := w.askOwner(t.Context(), server.URL+"/drain"); err != nil || asked != "POST /drain" {
		t.Errorf("%v, asked %q", err, asked)
	}
	if err := w.askOwner(t.Context(), server.URL+"/no"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a refusal gave %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.askOwner(ctx, server.URL+"/hangs"); err == nil || ctx.Err() != nil {
		t.Errorf("a hanging owner gave %v", err)
	}
}

// Without a description there is no owner to be asked, and saying so is an error.
func TestNoOwnerNoHandover(t *testing.T) {
	admin, err := envoy.New("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	w := newWires(&config{flags: &runFlags{}, admin: admin})
	if err := w.act(t.Context(), drain.HandOver); err == nil {
		t.Error("a handover to nobody succeeded")
	}
}

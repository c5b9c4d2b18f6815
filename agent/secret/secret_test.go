package secret_test

import (
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/secret"
)

func TestHide(t *testing.T) {
	for value, want := range map[string]string{
		"prometheus:http://u:s3cr3t@127.0.0.1:80/m#a":                            "prometheus:http://***@127.0.0.1:80/***#a",
		"web=prometheus:http://s3cr3t@127.0.0.1/metrics?token=s3cr3t#a{b=\"@\"}": "web=prometheus:http://***@127.0.0.1/metrics?***#a{b=\"@\"}",
		"preset:puma@http://127.0.0.1:9293/stats?token=s3cr3t":                   "preset:puma@http://127.0.0.1:9293/stats?***",
		"prometheus:http://u:s3cr/3t?#@[::1/m#a":                                 "prometheus:http://***",
		"postgres://u:12#s3cr3t@h/db":                                            "postgres://***",
		"postgres://u:12?s3cr3t@h/db":                                            "postgres://***",
		"http://u:12/s3cr3t@h":                                                   "http://***",
		"http://u:12/metrics#s3cr3t@h/m#a":                                       "http://***",
		"http://u:s3cr3t%zz@h/m":                                                 "http://***@h/***",
		"http://u:s3cr3t/metrics":                                                "http://***",
		"u:s3cr3t@http://h/metrics":                                              "***",
		"u:s3cr3t@h:80/s3cr3t":                                                   "***@h:80/***",
		"--report=http:/h/s3cr3t":                                                "--report=http:/h/***",
		"preset:puma@127.0.0.1:9293/s3cr3t":                                      "preset:puma@127.0.0.1:9293/***",
		"http://$(POD_IP):8080/metrics#a{b=\"c@d\"}":                             "http://$(POD_IP):8080/metrics#a{b=\"c@d\"}",
		"registry:5000/drain-agent:v1":                                           "registry:5000/drain-agent:v1",
		"registry:5000/a/b@sha256:0a1b":                                          "registry:5000/a/b@sha256:0a1b",
		"registry.example/a/b:v1@sha256:0a1b":                                    "registry.example/a/b:v1@sha256:0a1b",
		"image:v1/2":                                                             "image:v1/2", "c:/etc/x": "c:/etc/x", "app:5s": "app:5s",
		"prometheus:u:s3cr3t@127.0.0.1:80/metrics#a":                                       "prometheus:***@127.0.0.1:80/metrics#a",
		"prometheus:/hooks/s3cr3t#a":                                                       "prometheus:/hooks/***#a",
		"http://127.0.0.1/@x#(?m)b@c":                                                      "http://***",
		"http://127.0.0.1:8090/hooks/T0/s3cr3t":                                            "http://127.0.0.1:8090/hooks/***/***",
		"http://127.0.0.1:8090/metrics/s3cr3t":                                             "http://127.0.0.1:8090/metrics/***",
		"http://127.0.0.1:8090//s3cr3t":                                                    "http://127.0.0.1:8090//***",
		"http://127.0.0.1:8090/metrics;s3cr3t":                                             "http://127.0.0.1:8090/***",
		"json:http://127.0.0.1:8080/internal/inflight#/n":                                  "json:http://127.0.0.1:8080/internal/inflight#/n",
		"http://127.0.0.1:8080/api/v1/in-flight_requests":                                  "http://127.0.0.1:8080/api/v1/in-flight_requests",
		"http://127.0.0.1:8080/api/metrics-s3cr3t/count":                                   "http://127.0.0.1:8080/api/***/count",
		"http://127.0.0.1:8080/api/met%72ics/Status":                                       "http://127.0.0.1:8080/api/***/***",
		"127.0.0.1:8090/s3cr3t":                                                            "127.0.0.1:8090/***",
		"http://127.0.0.1:15000":                                                           "http://127.0.0.1:15000",
		"http://127.0.0.1:15000/":                                                          "http://127.0.0.1:15000/",
		"prometheus:http://127.0.0.1:4000/metrics/#a - 1":                                  "prometheus:http://127.0.0.1:4000/metrics/#a - 1",
		"prometheus:http://127.0.0.1:8080/actuator/prometheus#http_server_requests_active": "prometheus:http://127.0.0.1:8080/actuator/prometheus#http_server_requests_active",
		"text:http://127.0.0.1/server-status?auto#Busy: (\\d+)?":                           "text:http://127.0.0.1/server-status?***#Busy: (\\d+)?",
		"unix:///run/envoy/admin.sock":                                                     "unix:///run/envoy/admin.sock",
		"socket:80":                                                                        "socket:80", "none": "none", "app=file:/a/b?c": "app=file:/a/b?c", "/run/secrets/token": "/run/secrets/token", "": "",
	} {
		if got := secret.Hide(value); got != want {
			t.Errorf("Hide(%q) = %q, want %q", value, got, want)
		}
		if again := secret.Hide(want); again != want {
			t.Errorf("Hide(%q) = %q: it is hidden once more", want, again)
		}
	}
}

func TestHideText(t *testing.T) {
	for text, want := range map[string]string{
		"write http://127.0.0.1:PORT/PATH":                    "write http://127.0.0.1:PORT/PATH",
		"unexpected argument http://u:s3cr3t@h/p, really":     "unexpected argument http://***@h/***, really",
		"wait for http://h:15000: POST http://h/drain: no":    "wait for http://h:15000: POST http://h/drain: no",
		`Get "http://h/s3cr3t?s3cr3t": (see http://h/s3cr3t)`: `Get "http://h/***?***": (see http://h/***)`,
		"--report=http://u:pa's3cr3t@h/report: no":            "--report=http://***@h/report: no",
		`wait for http://u:a"s3cr3t@h/x"s3cr3t?a=1 to come`:   `wait for http://***@h/***?*** to come`,
		`parse "http://u:a s3cr3t@h": no`:                     `parse "http://***@h": no`,
		`parse "http://u:\"s3cr3t@h/metrics", 'http://h/a'`:   `parse "http://***@h/metrics", 'http://h/***'`,
	} {
		got := secret.HideText(text)
		if got != want {
			t.Errorf("HideText(%q) = %q, want %q", text, got, want)
		}
		if strings.Contains(got, "s3cr3t") {
			t.Error(got)
		}
	}
}

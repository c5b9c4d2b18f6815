package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nginxPod is Debian's nginx with stub_status and files that take their time.
const nginxPod = `apiVersion: apps/v1
kind: Deployment
metadata: {name: files}
spec:
  selector: {matchLabels: {app: files}}
  template:
    metadata:
      labels: {app: files}
      annotations: {drain-agent.io/proxy: none}
    spec:
      terminationGracePeriodSeconds: 150
      containers:
      - name: server
        image: registry.example/files:1
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {httpGet: {path: /stub_status, port: http}, periodSeconds: 5}
`

// nodePod is the server of stream.js.
var nodePod = strings.NewReplacer("files", "stream", "registry.example/files:1", "registry.example/node-model:1", "/stub_status", "/metrics",
	"{drain-agent.io/proxy: none}", "{drain-agent.io/proxy: none, drain-agent.io/app-source: \"preset:prom-client@http://127.0.0.1:8000\", drain-agent.io/longest-request: 2m}").Replace(nginxPod)

const nginxConfig = `daemon off;
user root;
pid @DIR@/nginx.pid;
error_log stderr warn;
events {}
http {
  access_log off;
  client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi; uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;
  server {
    listen 8000;
    location = /stub_status { stub_status; }
    location /files/ { alias @SITE@/; limit_rate 20k; }
  }
}
`

// files writes the files and returns the program that serves them: each process has a folder of its own.
func (l *lab) files() (program string, err error) {
	site := filepath.Join(l.dir, "site")
	if err := os.Mkdir(site, 0o755); err != nil { //nolint:gosec // its workers are another user
		return "", err
	}
	for _, seconds := range lengths {
		var n int
		if _, err := fmt.Sscan(seconds, &n); err != nil {
			return "", err
		}
		file := make([]byte, n*20<<10)
		for i := range file {
			file[i] = '.'
		}
		file = append(file, "\ndata: [DONE]\n"...)
		for i := 100; i < len(file)-20; i += 100 {
			file[i] = '\n'
		}
		if err := os.WriteFile(filepath.Join(site, seconds), file, 0o644); err != nil { //nolint:gosec // as above
			return "", err
		}
	}
	config := filepath.Join(l.dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(nginxConfig, "@SITE@", site)), 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(l.dir, "files")
	return program, os.WriteFile(program, []byte("#!/bin/sh\nd=$(mktemp -d "+l.dir+"/nginx-XXXXXX)\nsed s,@DIR@,$d,g "+config+" >$d/nginx.conf\nexec nginx -c $d/nginx.conf\n"), 0o755) //nolint:gosec // a program
}

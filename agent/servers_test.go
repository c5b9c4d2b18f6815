package main

import (
	"os"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/traffic"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// tried returns what "make appsources" wrote down: by preset, the program's version and what was read idle, after requests, during one.
func tried(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../scripts/appsources/results.tsv")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 5 {
			t.Fatalf("results.tsv: %q", line)
		}
		all[fields[0]] = fields
	}
	return all
}

func TestEveryServerThatWasTriedIsAPreset(t *testing.T) {
	all := tried(t)
	for _, p := range traffic.Presets() {
		// Idle it read 0 while it was asked: it counts its reader just where the preset takes that away.
		if taken := strings.HasSuffix(p.Read, " - 1") || strings.Contains(p.Read, "!="); taken != strings.HasPrefix(p.Self, "yes") {
			t.Errorf("%s reads %s, and is said to count its own reader: %s", p.Name, p.Read, p.Self)
		}
		if r, ok := all[p.Name]; ok && (r[3] != "0" || r[4] != "1") {
			t.Errorf("%s read %s after its requests and %s during one, want 0 and 1", p.Name, r[3], r[4])
		}
		delete(all, p.Name)
	}
	if len(all) > 0 {
		t.Errorf("no presets: %v", all)
	}
}

// fileText is one of the files that "make appsources" runs, so that what the page shows is what was tried.
func fileText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../scripts/appsources/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func before(t *testing.T, text, end string) string {
	t.Helper()
	text, _, ok := strings.Cut(text, end)
	if !ok {
		t.Fatalf("no %q in it", end)
	}
	return text
}

func serversPage(t *testing.T) string {
	results := tried(t)
	presets := newTable("server", "line to paste", "reads", "counts its own reader", "tried")
	for _, p := range traffic.Presets() {
		was := "not yet"
		if r, ok := results[p.Name]; ok {
			was = r[1] + ": idle " + r[2] + ", after requests " + r[3] + ", during one " + r[4]
		}
		presets.row("["+p.Server+"]("+p.Source+")", code("--app-source=preset:"+p.Name+"@http://127.0.0.1:PORT"), code(p.Kind+":…"+p.Path+"#"+p.Read), p.Self, was)
	}
	return `# How does my server say what it holds?

Try it before you deploy it, beside the server: ` + "`drain-agent probe-source SPEC`" + ` prints what a source reads, with ` + "`-w`" + ` each change. An idle server must read 0, a server with one long request 1.
An idle server that always reads 1 counts the very request that reads it: subtract it, ` + "`#busy - 1`" + `, or leave its series out, ` + "`#busy{handler!=\"/metrics\"}`" + `.

## Servers that are known

A preset has the path and the selector; a path in the URL wins. "Tried" is what ` + "`make appsources`" + ` read of the real program; what was not tried stands as its documentation has it, and of a page that was only replayed nobody knows whether the program still writes it: probe them first.

` + presets.String() + `
Spring counts with ` + "`uri=\"UNKNOWN\"`" + ` whatever is asked for, so that the agent's own request cannot be told by its path; three releases name the metric in three ways, which the preset knows. Django's is the difference of two counters: a worker that is killed within a request leaves one behind for ever, and the drain waits for its deadline. vLLM and SGLang were also read with one request running and two waiting, 3, and once their clients were gone, 0. SGLang's page of metrics is not what the preset reads: its gauges are written with its log, every 40 tokens, and a request that has just begun is missing from them. Releases before ` + "`/v1/loads`" + ` came (January 2026) are unknown, and hold a stop to its deadline: give those ` + "`--decode-log-interval 1`" + ` and ` + "`'--app-source=prometheus:http://127.0.0.1:PORT/metrics#{__name__=~\"sglang:num_(running|queue)_reqs\"}'`" + `. Some releases of llama.cpp answer a JSON string instead of a page: unknown. So is LiteLLM's first page after a start, where it takes longer than five seconds.

### gunicorn

No worker type of gunicorn has a gauge; its hooks make one for any app. In ` + "`gunicorn.conf.py`" + `, with ` + "`PROMETHEUS_MULTIPROC_DIR`" + ` naming an empty folder:

` + "```python\n" + fileText(t, "gunicorn.conf.py") + "```" + `

### Node

prom-client has no gauge of requests, and ` + "`nodejs_active_requests`" + ` is not one: it counts what libuv does. With Express:

` + "```js\n" + before(t, fileText(t, "app.js"), "\napp.get('/work'") + "```" + `

### Sidekiq

Its own count of busy jobs is in Redis, written every ten seconds, and prometheus_exporter reads it every thirty: a job is missing from both while it begins, and a drain would cut it. A middleware counts in the process itself. In an initializer:

` + "```ruby\n" + fileText(t, "sidekiq.rb") + "```" + `

A worker needs no source for its own sake: ` + "`--workers=NAME`" + ` waits for its end. The source says how much is left.

## Others

| what the server has | source |
| --- | --- |
| a gauge | ` + "`prometheus:URL#in_flight`" + `; series that match are added up, the matchers are ` + "`= != =~ !~`" + ` |
| two counters, as go-grpc-prometheus has them | ` + "`prometheus:URL#grpc_server_started_total - grpc_server_handled_total`" + ` |
| a number in JSON | ` + "`json:URL#/a/b`, also `#/in - /out` or `#/a - 1`" + ` |
| a page for people | ` + "`text:URL#Busy: (\\d+)`" + `: what the groups hold is added up over all matches; at the end ` + "` - 1`" + ` |
| a worker that pulls its work (Celery, Sidekiq, a consumer of Kafka) | none is needed: ` + "`--workers=NAME`" + `; SIGTERM tells it, and its end is waited for |
| a file that it writes | ` + "`file:/run/app/in-flight`" + `: a number and a newline; read as soon as it changes |
| nothing at all | ` + "`none`" + `: Envoy's count stands alone. ` + "`socket:PORT`" + ` counts connections that come from outside of the pod; those from within may be Envoy's idle ones and are not counted where Envoy is read |

A family that is declared without series is 0, and so is one that is there without a series that matches. A family that is not there, a label that none of its series has, a fraction, NaN, something negative, a sample with an old timestamp of its own, a page that was cut off: unknown, and said. Unknown holds a drain until its deadline.

## Credentials and private authorities

` + "`--app-auth-file=[NAME=]PATH`" + `, repeatable, is read again when it changes:

| the file holds | meaning |
| --- | --- |
| one word | bearer token (a service account's ` + "`token`" + `) |
| lines ` + "`Name: value`" + ` | headers; ` + "`TLS-Server-Name`" + ` is the name in the server's certificate |
| PEM certificates | authorities to trust, or the server's very certificate |
| PEM certificate and key | what we show of ourselves |
| (a directory) | a mounted Secret: ` + "`token`, `username` and `password`, `ca.crt`, `tls.crt` and `tls.key`" + ` |

A secret in a URL works and stands in the manifest for everybody to read: put it into a file. What the agent, drainctl and the controller show of a URL in a flag is scheme, host, port, what stands behind the ` + "`#`" + `, and the parts of its path that consist of these words, with dashes or underscores between them: ` + strings.Join(secret.Words(), ", ") + `. User, password, query and every other part of a path are ` + "`***`" + `: a webhook has its secret in the path, and nobody can tell by its look. Where nobody can tell the host, all of the URL is: its host or port is none, or an ` + "`" + `@` + "`" + ` stands behind them outside of quotes, for a password may hold ` + "`" + `/` + "`" + `, ` + "`" + `?` + "`" + ` and ` + "`" + `#` + "`" + `. What is no URL is shown, as an image with its tag (` + "`" + `registry:5000/drain-agent:v1` + "`" + `) or digest. Only a user or a password is warned of. Redirects are followed on the same host; another port gets no credentials.
`
}

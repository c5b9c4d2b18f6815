package main

import (
	"flag"
	"fmt"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/agent/internal/server"
)

var update = flag.Bool("update", false, "write docs/reference instead of comparing it")

const referenceDir = "../docs/reference"

// TestReference compares the pages with the code that they are made from. go test ./agent -run TestReference -update writes them.
func TestReference(t *testing.T) {
	pages := map[string]string{
		"flags.md":      flagsPage(t),
		"presets.md":    presetsPage(),
		"metrics.md":    metricsPage(t),
		"log.md":        logPage(t),
		"exit-codes.md": exitCodesPage(t),
		"endpoints.md":  endpointsPage(),

		"../how-to/what-my-server-holds.md": serversPage(t),
	}
	for name, text := range pages {
		path := filepath.Join(referenceDir, name)
		text = "<!-- Written by go test ./agent -run TestReference -update; change the code, not this page. -->\n" + strings.TrimRight(text, "\n") + "\n"
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%s is not what the code says (%v): run go test ./agent -run TestReference -update", path, err)
		}
	}
}

// table is a Markdown table; cells may hold any text.
type table struct{ b strings.Builder }

func newTable(heads ...string) *table {
	t := &table{}
	t.row(heads...)
	t.row(slices.Repeat([]string{"---"}, len(heads))...)
	return t
}

func (t *table) row(cells ...string) {
	for _, cell := range cells {
		t.b.WriteString("| " + strings.NewReplacer("|", `\|`, "\n", " ").Replace(cell) + " ")
	}
	t.b.WriteString("|\n")
}

func (t *table) String() string { return t.b.String() + "\n" }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func commandModel(t *testing.T) (*kong.Kong, *cli) {
	t.Helper()
	line := new(cli)
	k, err := kong.New(line, kong.Name("drain-agent"), kong.DefaultEnvars("DRAIN_AGENT"))
	if err != nil {
		t.Fatal(err)
	}
	return k, line
}

func flagsPage(t *testing.T) string {
	k, _ := commandModel(t)
	var b strings.Builder
	b.WriteString(`# Command line

Every flag has an environment twin, named beside it; the flag wins. Of a flag that may be repeated the twin takes several values, a line each. ` + "`run`" + ` is the default command: what the container runs.
All problems of a configuration are told at once; only nonsense ends the agent (exit code 1), what is merely doubtful is logged as a warning and the agent runs.
Durations are written ` + "`1500ms`, `30s`, `2m`" + `. Where the default is "preset", [presets](presets.md) has the numbers.

`)
	for _, node := range k.Model.Children {
		fmt.Fprintf(&b, "## drain-agent %s\n\n%s\n\n", strings.Join(strings.Fields(node.Name+" "+positionals(node)), " "), node.Help)
		if len(node.Flags) == 0 {
			continue
		}
		flags := newTable("flag", "default", "meaning", "environment")
		for _, f := range node.Flags {
			flags.row(flagName(f), flagDefault(f), f.Help, code(strings.Join(f.Envs, " ")))
		}
		b.WriteString(flags.String())
	}
	return b.String()
}

func positionals(node *kong.Node) (names string) {
	for _, arg := range node.Positional {
		name := strings.ToUpper(arg.Name)
		if !arg.Required {
			name = "[" + name + "]"
		}
		names += " " + name
	}
	return names
}

func flagName(f *kong.Flag) string {
	name := "--" + f.Name
	if f.PlaceHolder != "" && !f.HasDefault {
		name += "=" + f.PlaceHolder
	}
	if f.Short != 0 {
		return fmt.Sprintf("`-%c`, %s", f.Short, code(name))
	}
	return code(name)
}

func flagDefault(f *kong.Flag) string {
	if strings.Contains(f.Help, "Preset kube-proxy:") || f.Name == "exposure" {
		return "preset"
	}
	return code(f.Default)
}

// Every flag of run can be given by its environment twin.
func TestEveryFlagHasAnEnvironmentTwin(t *testing.T) {
	k, _ := commandModel(t)
	for _, f := range k.Model.Children[0].Flags {
		t.Run(f.Name, func(t *testing.T) {
			if len(f.Envs) != 1 {
				t.Fatalf("environment variables %v, want one", f.Envs)
			}
			t.Setenv(f.Envs[0], "§")
			k, _ := commandModel(t)
			if _, err := k.Parse([]string{"run"}); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(k.Model.Children[0].Flags, func(g *kong.Flag) bool { return g.Name == f.Name })
			if got := fmt.Sprintf("%+v", k.Model.Children[0].Flags[i].Target.Interface()); !strings.Contains(got, "§") {
				t.Errorf("the flag is %s", got)
			}
		})
	}
}

func presetsPage() string {
	page := newTable("preset", "propagation", "announce-max", "quiet-min", "quiet-max", "exposure")
	var sources strings.Builder
	for _, p := range budget.Presets() {
		page.row(code(p.Name), p.Propagation.String(), p.AnnounceMax.String(), p.QuietMin.String(), p.QuietMax.String(), p.Exposure.String())
		fmt.Fprintf(&sources, "- %s: %s.\n", code(p.Name), p.Source)
	}
	return `# Presets

` + "`--preset`" + ` says who sends new connections to the pod, and so how long they go on coming after its deletion. A flag that is given wins over it.

` + page.String() + `## Where the numbers come from

` + sources.String() + `
The rest:

- ` + "`exposure`" + ` 200ms: an app that exits at once was really exposed for 0.05-0.15 s (measured: 300 idle connections, each reused every 8-12 s; 1-4 requests lost per stop). 5ms with ` + "`--stop-order=proxy,app`" + `: there the race is one round trip.
- ` + "`accept-loss`" + ` 0.02, and ` + "`quiet-max`" + ` 15s beside kube-proxy: the table in [how a drain works](../explanation/how-a-drain-works.md#the-stopping-score), simulated.
`
}

func metricsPage(t *testing.T) string {
	page := newTable("metric", "type", "labels", "meaning")
	families := scrape(t)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		family := families[name]
		page.row(code(name), strings.ToLower(family.GetType().String()), labels(family), family.GetHelp())
	}
	return `# Metrics

` + "`GET :9909/metrics`" + `, Prometheus text. Base units, a registry of its own, no pod labels, nothing of the Go runtime. What is unknown has no sample: it is never shown as 0.

` + page.String()
}

// scrape is what a scrape shows of an agent that has seen everything once.
func scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	c, err := load(defaults(t))
	if err != nil {
		t.Fatal(err)
	}
	m := server.NewMetrics(metricsOptions(c))
	m.InFlight("proxy", "clusters+http", 1, true)
	m.InFlight("app", appExample, 1, true)
	m.Classes("proxy", "clusters+http", map[string]int64{"requests": 1, "websocket": 1, "upgrade": 1, "tcp": 1, "tls": 1})
	m.Classes("app", appExample, map[string]int64{"any of the app": 1})
	m.Score(0.01, true)
	m.Hold("app", time.Second)
	m.Hold("stranger", time.Second)
	for _, kind := range []envoy.Failure{envoy.Refused, envoy.Timeout, envoy.Status, envoy.Garbage} {
		m.Poll(time.Millisecond, string(kind))
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	textParser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := textParser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

const appExample = "prometheus:URL#metric"

// labels lists the names with the values that were seen, except where a value is this build's own.
func labels(family *dto.MetricFamily) string {
	values := map[string][]string{}
	for _, m := range family.Metric {
		for _, pair := range m.Label {
			if !slices.Contains(values[pair.GetName()], pair.GetValue()) {
				values[pair.GetName()] = append(values[pair.GetName()], pair.GetValue())
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch name {
		case "version", "goversion", "revision":
			out = append(out, code(name))
		case "rung":
			out = append(out, code(name)+": "+code("clusters+http")+", "+code("clusters")+", "+code("http")+", "+code("listener_cx")+", "+code("total_connections")+", or the app source")
		default:
			out = append(out, code(name)+": "+strings.Join(values[name], ", "))
		}
	}
	return strings.Join(out, "; ")
}

// defaults are the flags of a bare drain-agent run.
func defaults(t *testing.T, args ...string) *runFlags {
	t.Helper()
	k, line := commandModel(t)
	if _, err := k.Parse(append([]string{"run"}, args...)); err != nil {
		t.Fatal(err)
	}
	return &line.Run
}

func logPage(t *testing.T) string {
	file, err := parser.ParseFile(token.NewFileSet(), "timeline/doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	var reader comment.Parser
	printer := comment.Printer{HeadingLevel: 2, HeadingID: func(*comment.Heading) string { return "" }}
	text := string(printer.Markdown(reader.Parse(file.Doc.Text())))
	text = strings.NewReplacer(` (\[Verdict.Termination])`, "", ` (\[Sink])`, "").Replace(text) // links that are none outside of Go
	_, text, _ = strings.Cut(text, "\n\n")                                                      // the sentence about the package
	golden, err := os.ReadFile("timeline/testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return `# Log

One JSON object per line on standard output, ` + "`--log-format=text`" + ` for people. The last line of a drain is its verdict.

` + text + `
## Levers

The actions that change Envoy or speak to the app: ` + actionNames() + `.

## Example

` + "```json\n" + example(string(golden)) + "```\n"
}

func actionNames() string {
	var names []string
	drain.Actions(0xff).Each(func(one drain.Actions) { names = append(names, code(one.String())) })
	return strings.Join(names, ", ")
}

// example is an event and a verdict of the timeline's own test.
func example(golden string) string {
	var event, verdict string
	for line := range strings.Lines(golden) {
		switch {
		case event == "" && strings.Contains(line, `"action":"answer`):
			event = line
		case verdict == "" && strings.Contains(line, `"msg":"verdict"`):
			verdict = line
		}
	}
	return event + verdict
}

func exitCodesPage(t *testing.T) string {
	meaning := map[drain.Outcome]string{
		drain.Clean:              "every configured source read zero, it stayed so, nobody sent any more, and all hooks were answered in order",
		drain.Deadline:           "the grace period, or kubelet's patience, was over first; `cut` names what was in flight",
		drain.ProxyDied:          "Envoy ended in mid-drain",
		drain.AppDied:            "the app ended in mid-drain",
		drain.FinishedByOperator: "`drain-agent finish`",
		drain.Aborted:            "hooks were called but no pod stop came: what was done is undone, the agent serves on",
		drain.Watchdog:           "the agent's own loop hung; the watchdog answered every hook",
		drain.ContainerRestart:   "one container was stopped, the pod lives on and so does the agent",
		drain.MaintenanceEnded:   "`undrain`, or the drain file went away; the agent serves on",
	}
	outcomes := newTable("outcome in the verdict", "exit code", "meaning")
	for _, o := range drain.Outcomes() {
		if meaning[o] == "" {
			t.Errorf("no words for the outcome %s", o)
		}
		outcomes.row(code(o.String()), fmt.Sprint(o.ExitCode()), meaning[o])
		words := fmt.Sprintf("%d %s", o.ExitCode(), strings.ReplaceAll(strings.ReplaceAll(o.String(), "by_", "by an "), "_", " "))
		if o.ExitCode() != 0 && !strings.Contains(description, words) {
			t.Errorf("drain-agent --help does not say %q", words)
		}
	}
	return `# Exit codes

## drain-agent run

` + outcomes.String() + `1 is for a command line that makes no sense. With ` + "`--exit-with`" + ` the code is always 0, so that a Job's own result stands.
A SIGTERM that concerns the agent alone (it is being restarted) is no drain: exit code 0.

## The other commands

0, or 1 with one line on standard error. ` + "`hook`" + ` is 0 also without an agent: kubelet would stop the container all the same, and say less; 1 is the failure of the command after its name.
`
}

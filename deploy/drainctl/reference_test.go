package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

var update = flag.Bool("update", false, "write the pages instead of comparing them")

const docs = "../../docs"

// TestReference compares the pages with the tables that they are made from: go test ./deploy/drainctl -run TestReference -update writes them.
func TestReference(t *testing.T) {
	for name, text := range map[string]string{
		"lint-rules.md":  rulesPage(t),
		"drainctl.md":    commandsPage(),
		"annotations.md": annotationsPage(),
	} {
		compare(t, filepath.Join(docs, "reference", name),
			"<!-- Written by go test ./deploy/drainctl -run TestReference -update; change the code, not this page. -->\n"+strings.TrimRight(text, "\n")+"\n")
	}
}

// between replaces what stands between two marks of a page.
func between(t *testing.T, page, begin, end, text string) {
	t.Helper()
	head, rest, found := strings.Cut(readText(t, page), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %q … %q", page, begin, end)
	}
	compare(t, page, head+begin+text+end+tail)
}

func compare(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("%s is not what the code writes (%v): run go test ./deploy/drainctl -run 'TestReference|TestComponents|TestHowTo' -update", path, err)
	}
}

func rulesPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Lint rules\n\nWhat `drainctl lint` knows. An *error* hurts at the next rollout, a *warning* under some conditions, *advice* is a practice that is missing.\n" +
		"All manifests that are given are judged together. What cannot be seen in manifests (idempotency, reconciliation, circuit breakers in code, dashboards) is not judged.\n\n| rule | severity |\n|---|---|\n")
	for _, r := range lint.Rules() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", r.ID, r.ID, r.Severity)
	}
	for _, r := range lint.Rules() {
		fmt.Fprintf(&b, "\n## %s\n\n%s. %s\n\nFix: %s\n", r.ID, strings.ToUpper(r.Severity.String()[:1])+r.Severity.String()[1:], r.Why, r.Fix)
	}
	text, err := os.ReadFile("../manifests/bad-service.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := manifest.Parse("bad-service.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range lint.Run(parsed) {
		if item := fmt.Sprintf("- [%s](#%s): %s\n", f.Rule, f.Rule, f.Message); !slices.Contains(found, item) {
			found = append(found, item)
		}
	}
	b.WriteString("\n# What is wrong with bad-service\n\n`drainctl lint -f deploy/manifests/bad-service.yaml` finds:\n\n" + strings.Join(found, "") +
		"\nThe other manifests in `deploy/manifests` give no finding.\n")
	return b.String()
}

func commandsPage() string {
	root := command("drainctl")
	var b strings.Builder
	fmt.Fprintf(&b, "# drainctl\n\n%s\n\nInstall: `go install ./deploy/drainctl`; as a kubectl plugin, name the binary `kubectl-drainctl`. Completion: `drainctl completion bash|zsh|fish|powershell`.\n\n"+
		"Exit codes: %d done, %d flags or manifests that cannot be read, %d `lint` found something of the severity of `--fail-on`.\n", root.Long, exitOK, exitUsage, exitFindings)
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		fmt.Fprintf(&b, "\n## drainctl %s\n\n%s.\n\n%s\n\n```\ndrainctl %s [flags]\n```\n", cmd.Name(), cmd.Short, cmd.Long, cmd.Use)
		if cmd.Example != "" {
			fmt.Fprintf(&b, "\nExamples:\n\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
		}
		b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", flagName(f), flagDefault(f), strings.ReplaceAll(f.Usage, "|", "\\|"))
		})
	}
	return b.String()
}

func flagName(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return fmt.Sprintf("`--%s`, `-%s`", f.Name, f.Shorthand)
	}
	return "`--" + f.Name + "`"
}

func flagDefault(f *pflag.Flag) string {
	if f.DefValue == "" || f.DefValue == "[]" {
		return ""
	}
	return "`" + f.DefValue + "`"
}

func annotationsPage() string {
	var b strings.Builder
	b.WriteString("# Annotations and labels\n\n## Written by drainctl inject\n\n| annotation of the pod | meaning |\n|---|---|\n" +
		"| `" + inject.TokenAnnotation + "` | The token that the hooks carry and the agent compares (`--token-file`). Who can read the pod can read it: it keeps other pods from calling hooks, not the pod's owners. |\n" +
		"| `" + inject.ExcludeInbound("istio") + "`, `" + inject.ExcludeInbound("consul") + "`, `" + inject.ExcludeInbound("kuma") + "` | The agent's port is added in a mesh's pods, so that kubelet's plain calls of the hooks pass its mTLS. |\n\n" +
		"## Read by drainctl inject\n\nAs annotation or label of the pod: a mesh is asked for its proxy.\n\n| key | value | mesh | Envoy's admin |\n|---|---|---|---|\n")
	for _, m := range inject.KnownMarks() {
		value := "any"
		if m.Value != "" {
			value = "`" + m.Value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` |\n", m.Key, value, m.Mesh, m.Admin)
	}
	b.WriteString("\nImages whose name contains one of these are an Envoy:\n\n| part of the name | mesh | Envoy's admin |\n|---|---|---|\n")
	for _, k := range inject.KnownImages() {
		admin := "read from arguments or ConfigMap"
		if k.Admin != "" {
			admin = "`" + k.Admin + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Image, k.Mesh, admin)
	}
	b.WriteString("\n## Istio's\n\nAnnotations with a prefix of Istio's that istio.io/api does not know break the rule [istio-annotation](lint-rules.md#istio-annotation).\n")
	return b.String()
}

func TestHelpNamesEveryCommand(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"kubectl-drainctl", "--help"}, nil, &out, &out); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for _, want := range []string{"inject", "uninject", "lint", "budget", "timeline", "completion", "kubectl drainctl"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not name %s", want)
		}
	}
}

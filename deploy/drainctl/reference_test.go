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

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
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
	b.WriteString("# Lint rules\n\nWhat `drainctl lint` knows. An *error* hurts at the next rollout, a *warning* under conditions that rollouts meet, *advice* is a practice that is missing and is said with `--advice` only.\n" +
		"All manifests that are given are judged together. What cannot be seen in manifests (idempotency, reconciliation, circuit breakers in code, dashboards) is not judged.\n" +
		"A finding that does not matter somewhere is silenced with a reason, by the annotation `lint.drain-agent.io/RULE: reason` of the object or its pods, or in `.drainctl.yaml` ([drainctl lint](drainctl.md#drainctl-lint)).\n\n| rule | severity |\n|---|---|\n")
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
	b.WriteString("\n# What is wrong with bad-service\n\n`drainctl lint --advice -f deploy/manifests/bad-service.yaml` finds:\n\n" + strings.Join(found, "") +
		"\nThe other manifests in `deploy/manifests` give no finding.\n")
	return b.String()
}

func commandsPage() string {
	root := command("drainctl")
	var b strings.Builder
	fmt.Fprintf(&b, "# drainctl\n\n%s\n\nInstall: `go install ./deploy/drainctl`; as a kubectl plugin, name the binary `kubectl-drainctl`. Completion: `drainctl completion bash|zsh|fish|powershell`.\n\n"+
		"Exit codes: %d done, %d flags or manifests that cannot be read, %d `lint` found something of the severity of `--fail-on` or `verify` something wrong, %d `inject` is done but for what it cannot edit, %d `verify` was interrupted.\n", root.Long, exitOK, exitUsage, exitFindings, exitPassed, exitUnfinished)
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
	for _, m := range roles.Marks() {
		value := "any"
		if m.Value != "" {
			value = "`" + m.Value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` |\n", m.Key, value, m.Mesh, roles.DefaultAdmin(m.Mesh))
	}
	b.WriteString("\nThe same keys with `false`, `disabled` or `no` keep the mesh out. Labels of the Namespace beside the pod count too (`istio-injection`, `istio.io/rev`, `kuma.io/sidecar-injection`). " +
		"The admin's port is read from `proxyAdminPort` (`proxy.istio.io/config`, mesh configuration), `kuma.io/envoy-admin-port`, `KUMA_DATAPLANE_ADMIN_PORT`, `-envoy-admin-bind-port`, `ENVOY_ADMIN_ACCESS_PORT`.\n\n" +
		"| key | value | meaning |\n|---|---|---|\n" +
		"| `" + roles.InjectAnnotation + "` | `false` | annotation or label of a workload or its pods, annotation of a Namespace: left alone |\n" +
		"| `" + roles.Annotation + "` | `NAME=ROLE,…` | what containers are for: `proxy`, `serving`, `worker`, `dependency`, `helper` |\n\n" +
		settingsTable() +
		"## Read by drain-controller alone\n\nAs label of a Namespace or a pod: `" + roles.InjectAnnotation + ": enabled`. A pod's label or annotation `false` or `disabled` keeps the agent out of it.\n\n" +
		"## Roles of known programs\n\nBy the last segment of the image reference, or by a word of the command.\n\n| role | images | commands | because | source |\n|---|---|---|---|---|\n")
	code := func(fields string) string {
		if fields == "" {
			return ""
		}
		return "`" + strings.Join(strings.Fields(fields), "` `") + "`"
	}
	for _, k := range roles.Programs() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", k.Role, code(k.Images), code(k.Words), k.What, k.Source)
	}
	b.WriteString("\n## Istio's\n\nAnnotations with a prefix of Istio's that istio.io/api does not know break the rule [istio-annotation](lint-rules.md#istio-annotation).\n")
	return b.String()
}

// settingsTable are the annotations that say what flags say to drainctl inject.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("### What flags say\n\n" +
		"As annotations of a pod, or of its Namespace for all pods in it, read by `drainctl inject` and by drain-controller alike; the pod's outranks the Namespace's, that the chart's `agent.defaults`. A flag of `drainctl inject` outranks them all. " +
		"One that cannot be read is an error to `drainctl inject`; at admission it has no effect, and whoever makes the pod is warned.\n\n| annotation | value | meaning |\n|---|---|---|\n")
	for _, s := range inject.Settings() {
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", inject.SettingPrefix, s.Name, s.Written, s.Meaning)
	}
	return b.String() + "\n"
}

func TestHelpNamesEveryCommand(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"kubectl-drainctl", "--help"}, nil, &out, &out); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for _, want := range []string{"inject", "uninject", "install", "lint", "budget", "timeline", "verify", "completion", "kubectl drainctl"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not name %s", want)
		}
	}
}

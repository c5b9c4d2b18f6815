//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const clusterScript = "../cluster/cluster"

// kubectlCommand runs kubectl as cluster admin, on our node or, with CLUSTER=external, on somebody's.
func kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, clusterScript, append([]string{"kubectl"}, args...)...)
	cmd.WaitDelay = 20 * time.Second // also for its output to be read after a clean end, on a starved machine
	return cmd
}

func try(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	cmd := kubectlCommand(ctx, args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}

func kubectl(t *testing.T, args ...string) []byte {
	t.Helper()
	return feed(t, nil, args...)
}

// feed is kubectl with a standard input.
func feed(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	out, err := try(context.WithoutCancel(t.Context()), input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namespace makes a namespace at the restricted Pod Security level, and takes it away with everything in it.
func namespace(t *testing.T, level string) string {
	t.Helper()
	name := strings.ToLower(strings.Map(letters, t.Name()))
	name = fmt.Sprintf("e2e-%s-%x", name[max(0, len(name)-40):], time.Now().UnixMilli()&0xffffff)
	object := corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": level}},
	}
	apply(t, name, &object)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pods at the end:\n%s", kubectl(t, "-n", name, "get", "pods", "-o", "wide"))
			t.Logf("last events:\n%s", tail(kubectl(t, "-n", name, "get", "events", "--sort-by=.lastTimestamp"), 25))
			t.Logf("kubelet's last words:\n%s", tail(kubeletLog(name), 15))
		}
		kubectl(t, "-n", name, "delete", "deployments,jobs,pods", "--all", "--grace-period=0", "--force")
		kubectl(t, "delete", "namespace", name, "--wait=false")
	})
	return name
}

// kubeletLog is what our node's kubelet wrote about a namespace; nothing on somebody else's cluster.
func kubeletLog(ns string) []byte {
	var lines []byte
	text, _ := os.ReadFile(filepath.Join(stateDir(), "log", "kubelet.log"))
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(ns)) {
			lines = append(lines, line...)
		}
	}
	return lines
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return -1
}

func tail(text []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// apply creates or changes objects, each of which has its TypeMeta set. They were decoded strictly, so kubectl need not fetch
// the schemas of the whole API to validate them.
func apply(t *testing.T, ns string, objects ...any) {
	t.Helper()
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Items           []any `json:"items"`
	}
	list.APIVersion, list.Kind, list.Items = "v1", "List", objects
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, text, "-n", ns, "apply", "--validate=false", "-f", "-")
}

func pods(t *testing.T, ns, selector string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal(kubectl(t, "-n", ns, "get", "pods", "-l", selector, "-o", "json"), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func podNamed(t *testing.T, ns, name string) corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := json.Unmarshal(kubectl(t, "-n", ns, "get", "pod", name, "-o", "json"), &pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// eventually polls once in a while; it is for states of the API, which are seconds old anyway.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %v waiting until %s", within, what)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("test ended while waiting until " + what)
		}
	}
}

// manifest is the path of a plain manifest.
func manifest(name string) string {
	return filepath.Join("..", "..", "deploy", "manifests", name+".yaml")
}

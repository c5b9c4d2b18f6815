//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

const meshScript = "../mesh/mesh"

var (
	mesh  = flag.Bool("mesh", false, "the tests under a real Istio, which scripts/mesh/mesh up brings")
	brief = flag.Bool("brief", false, "of them one way for each shape of pod, at half the load: what continuous integration has time for")
)

func onlyMesh(t *testing.T) {
	t.Helper()
	if !*mesh {
		t.Skip("needs a real Istio: scripts/e2e/run --mesh")
	}
}

// meshFile reads a file of istio/ or, without a folder, of testdata/mesh.
func meshFile(t *testing.T, name string) []byte {
	t.Helper()
	path := filepath.Join("testdata", "mesh", name)
	if strings.HasPrefix(name, "istio/") {
		path = filepath.Join("..", "..", name)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// meshed parses manifests into a namespace of their own; istio-init, which sets up the redirection, needs the privileged level.
func meshed(t *testing.T, texts ...[]byte) *workload {
	t.Helper()
	w := parse(t, bytes.Join(texts, []byte("\n---\n")), namespace(t, "privileged"))
	w.proxy = "istio-proxy"
	return w
}

// annotate adds annotations to the pods.
func (w *workload) annotate(pairs map[string]string) *workload {
	meta := &w.deployment.Spec.Template.ObjectMeta
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	for key, value := range pairs {
		meta.Annotations[key] = value
	}
	return w
}

// drainctlProgram is built once: nothing compiles under load.
var drainctlProgram = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../bin")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "drainctl")
	if out, err := exec.Command("go", "build", "-o", program, "../../deploy/drainctl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build drainctl: %w: %s", err, out)
	}
	return program, nil
})

// drainctl runs one command on a manifest.
func drainctl(t *testing.T, text []byte, args ...string) []byte {
	t.Helper()
	program, err := drainctlProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(text)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	t.Logf("drainctl %s: %s", strings.Join(args, " "), &said)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// throughTLS makes the load a client of the mesh: nothing stands between it and the pods, and nothing retries for it.
func throughTLS(t *testing.T) func(*openloop.Plan) {
	t.Helper()
	peer := meshPeer(t)
	return func(p *openloop.Plan) {
		narrow(p)
		p.TLS = peer
	}
}

// narrow is as much as two cores carry with a proxy on each side.
func narrow(p *openloop.Plan) {
	p.Rate, p.Slow = 100, 150
	if *brief {
		p.Rate, p.Slow = 50, 75
	}
}

// meshPeer signs a certificate with the mesh's authority. ALPN says HTTP inside of the mesh.
func meshPeer(t *testing.T) *tls.Config {
	t.Helper()
	var secret corev1.Secret
	if err := json.Unmarshal(kubectl(t, "-n", "istio-system", "get", "secret", "cacerts", "-o", "json"), &secret); err != nil {
		t.Fatal(err)
	}
	authority, err := tls.X509KeyPair(secret.Data["ca-cert.pem"], secret.Data["ca-key.pem"])
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour),
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/load/sa/load"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Leaf, &key.PublicKey, authority.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		InsecureSkipVerify: true, // servers of a mesh have no DNS names; who answers is not what is tested
		NextProtos:         []string{"istio-http/1.1"},
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der, authority.Certificate[0]}, PrivateKey: key}},
	}
}

// hooksHeld fails for every hook that kubelet could not run in a namespace.
func hooksHeld(t *testing.T, ns string) {
	t.Helper()
	if failed := failedHooks(t, ns); len(failed) > 0 {
		t.Errorf("hooks failed:\n%s", strings.Join(failed, "\n"))
	}
}

// drained holds after a rollout of pods with the agent: nothing lost, every hook held, every verdict clean, and no container killed
// that the verdict says nothing of.
func drained(t *testing.T, w *workload, r rollout) {
	t.Helper()
	lostNothing(t, r)
	hooksHeld(t, w.ns)
	for _, pod := range r.last {
		stoppedCleanly(t, pod.Name, pod)
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if end := s.State.Terminated; end != nil && end.ExitCode == 137 {
				t.Errorf("%s: %s was killed (%s)", pod.Name, s.Name, end.Reason)
			}
		}
	}
}

// meshClient is a client of the mesh.
func meshClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: meshPeer(t)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// move takes a workload into another namespace.
func (w *workload) move(ns string) *workload {
	w.ns = ns
	w.deployment.Namespace, w.service.Namespace = ns, ns
	return w
}

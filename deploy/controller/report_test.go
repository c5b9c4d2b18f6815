package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// token is what kubelet would put into a volume.
func (s *server) token(t *testing.T, pod *corev1.Pod, audience string, bound bool) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if bound {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = pod.Namespace, "default"
	if err := s.client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// mayAskForTokens is what the chart adds with ledger.reports.
func (s *server) mayAskForTokens(t *testing.T) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: "test-reports"}
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}}}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "drain-controller", Namespace: ownNamespace}},
		},
	} {
		if err := s.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.client.Delete(context.Background(), o) }) // the server ends soon
	}
}

// A pod that the webhook made has what a report needs, and the API server says whose report it is: with the pod's own token it becomes the
// row of its stop, to which the pod's last status adds none.
func TestReportsAtTheAPIServer(t *testing.T) {
	s := apiServer(t)
	ns := s.namespace(t, labelled, nil)
	s.mayAskForTokens(t)
	address := "https://drain-controller." + ownNamespace + ".svc/report"
	api := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	run := s.controller(t, "--api="+api, "--report="+address, "--unknown-after=2s")
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = ns, "default"
	if err := s.client.Create(t.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	pod := s.create(t, ns, envoyPod, func(p *corev1.Pod) { p.Spec.NodeName, p.Spec.ServiceAccountName = "node-7", "default" })
	if without := agentOf(s.create(t, ns, envoyPod)); without == nil || strings.Contains(strings.Join(without.Args, " "), "--report") {
		t.Errorf("a pod without an account: %+v", without)
	}
	agent, authority := agentOf(pod), pod.Annotations[inject.ReportCA]
	if agent == nil || !slices.Contains(agent.Args, "--report="+address) || !slices.Contains(agent.Args, "--report-auth-file=/etc/drain-agent-report") || !strings.Contains(authority, "BEGIN CERTIFICATE") {
		t.Fatalf("agent %+v, authority %q", agent, authority)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority))
	caller := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "drain-controller." + ownNamespace + ".svc"}}}
	v := timeline.Verdict{
		Time: time.Now(), Level: "info", Outcome: "deadline", TotalMS: 28000, Reason: "the budget is over", Cut: map[string]int64{"app": 2},
		InFlightCurve: [][2]int64{{0, 9}, {28000, 2}},
	}
	body, err := v.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	report := func(token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("https://127.0.0.1:%d/report", run.port), strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := caller.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(text)
	}
	own := s.token(t, pod, inject.ReportAudience, true)
	for what, token := range map[string]string{
		"of another audience": s.token(t, pod, "https://kubernetes.default.svc", true), "of no pod": s.token(t, pod, inject.ReportAudience, false), "invented": own[:len(own)-9] + "AAAAAAAAA",
	} {
		if status, text := report(token); status != http.StatusUnauthorized {
			t.Errorf("a token %s: %d %s", what, status, text)
		}
	}
	steps := 0
	s.stop(t, &stopping{Pod: pod, message: v.Termination(1024)}, func() {
		if steps++; steps == 1 { // it is being deleted
			eventually(t, "its report is kept", func() error {
				if status, text := report(own); status != http.StatusOK || !strings.Contains(text, `"kept"`) {
					return fmt.Errorf("%d %s", status, text) // "waits" until the watch has shown the deletion
				}
				return nil
			})
		}
		if rows := all(t, api, ns).Drains; len(rows) != 1 || rows[0].UID != string(pod.UID) || string(rows[0].Verdict["in_flight_curve"]) != "[[0,9],[28000,2]]" || rows[0].Node != "node-7" {
			t.Errorf("after step %d: %+v", steps, rows)
		}
	})
	if status, text := report(own); status != http.StatusUnauthorized && status != http.StatusNotFound { // tokens end with their pods, or seconds later
		t.Errorf("afterwards: %d %s", status, text)
	}
}

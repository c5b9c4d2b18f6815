package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Pods that drainctl inject of the first edition made, with agents of that edition, in a labelled namespace: those that were there before
// the controller, and those that come after it. All stay as they are, audit and Deployment say no more than that, and what their agents
// leave at their end is in the ledger.
func TestPodsOfTheFirstEdition(t *testing.T) {
	s := apiServer(t)
	on, off := s.namespace(t, labelled, nil), s.namespace(t, nil, nil)
	files, err := filepath.Glob("../internal/inject/testdata/first-edition/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	message := strings.TrimSpace(string(readFile(t, "internal/ledger/testdata/first-edition/message.json")))
	pods := map[string]*stopping{}
	create := func(order string) {
		for _, file := range files {
			docs, err := manifest.Parse(file, readFile(t, file))
			if err != nil {
				t.Fatal(err)
			}
			made := manifest.Objects(docs)[0].Workload.Pod
			name := order + strings.TrimSuffix(filepath.Base(file), ".yaml")
			template := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: made.Annotations}, Spec: made.Spec}
			template.Spec.NodeName = "node-7"
			s.warnings.take()
			pod, same := s.create(t, on, text(t, template)), s.create(t, off, text(t, template))
			if said := s.warnings.take(); said != "" || agentOf(pod) == nil || !equality.Semantic.DeepEqual(pod.Spec, same.Spec) {
				t.Errorf("%s: warnings %q, became\n%s", name, said, text(t, pod))
			}
			s.status(t, pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
			pods[string(pod.UID)] = &stopping{Pod: pod, message: message}
		}
	}
	create("before-")
	api, metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.controller(t, "--api="+api, "--metrics="+metrics, "--unknown-after=2s")
	watches(t, metrics)
	create("after-")
	for _, one := range pods {
		if !strings.HasPrefix(one.Name, "after-") {
			continue
		}
		if said := s.audited(t, one.Pod); said["namespaces.drain-agent.io/state"] != "already" || !strings.Contains(said["namespaces.drain-agent.io/reason"], "image ghcr.io/drain-agent/drain-agent:v0.0.1") {
			t.Errorf("%s: audit %q", one.Name, said)
		}
	}
	for _, file := range files {
		if said, err := s.try(t, on, string(readFile(t, file))); err != nil || said != "" {
			t.Errorf("%s: %v, warnings %q", file, err, said)
		}
	}
	for _, one := range pods {
		s.stop(t, one, func() {})
	}
	eventually(t, "the ledger has all of them", func() error {
		var reply drains
		if err := json.Unmarshal([]byte(fetch(t, "http://"+api+"/api/v1/drains?namespace="+on)), &reply); err != nil {
			return err
		}
		if len(reply.Drains) < len(pods) {
			return fmt.Errorf("%d of %d: %w", len(reply.Drains), len(pods), errNotYet)
		}
		for _, row := range reply.Drains {
			if one := pods[row.UID]; one == nil || row.Outcome != "clean" || row.TotalMS == nil || *row.TotalMS != 7729 || !row.Whole {
				t.Errorf("%+v", row.Stop)
			}
		}
		return nil
	})
}

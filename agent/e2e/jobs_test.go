package e2e

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const jobPort = "8090"

// fakeJob is a job that listens, works for a while and ends as it was told.
func fakeJob(ending string) {
	if _, err := net.Listen("tcp", ":"+jobPort); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-time.After(4 * time.Second)
	switch ending {
	case "crash":
		os.Exit(3)
	case "oom":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // PID 1 of its namespace cannot kill itself: the test does it
	}
	os.Exit(0)
}

// A job's pod ends when the job ends, with the job's own exit code, and Envoy goes with it.
func TestJobs(t *testing.T) {
	codes := map[string]int{"success": 0, "crash": 3, "oom": 137}
	for _, s := range []shape{nativeAgentFirst, classic} {
		for ending, code := range codes {
			t.Run(string(s)+" "+ending, func(t *testing.T) {
				t.Parallel()
				u := start(t, setup{
					shape: s, noApp: true, agent: []string{"--exit-with=app", "--watch=app=port:" + jobPort},
					manifest: func(p *corev1.Pod) { becomeJob(p, ending) },
				})
				if ending == "oom" {
					u.pause(5 * time.Second)
					_ = u.Kill("app")
				}
				u.wait()
				if got := u.ExitCode("app"); got != code {
					t.Errorf("the job's exit code is %d, want %d", got, code)
				}
				if got := u.ExitCode("agent"); got != 0 {
					t.Errorf("the agent's exit code is %d, want 0", got)
				}
				if got := u.ExitCode("proxy"); got != 0 {
					t.Errorf("envoy's exit code is %d, want 0", got)
				}
				if u.happened("agent", pod.Sigkill)+u.happened("proxy", pod.Sigkill) != 0 {
					t.Error("somebody had to be killed")
				}
				ended, _ := u.when("app", pod.Exited)
				if all, _ := u.when("", pod.Finished); all.Sub(ended) > 10*time.Second {
					t.Errorf("the pod ended %v after the job", all.Sub(ended))
				}
				_, verdicts := u.lines() // kubelet may start a sidecar again that has ended with the job
				if len(verdicts) == 0 || verdicts[0].Outcome != "clean" {
					t.Errorf("%+v, want a clean verdict first", verdicts)
				}
			})
		}
	}
}

// becomeJob makes the app a job that nobody restarts.
func becomeJob(p *corev1.Pod, ending string) {
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if c.Name == "app" {
			c.Image, c.Args, c.ReadinessProbe = "fake", nil, nil
			c.Env = []corev1.EnvVar{{Name: "FAKE_JOB", Value: ending}}
		}
	}
}

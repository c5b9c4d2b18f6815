package e2e

import (
	"bufio"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const blackout = 20 * time.Second

// Row 6: Envoy stands still for twenty seconds in mid-drain. Nobody is let go because of it.
func TestEnvoyPausedInMidDrain(t *testing.T) {
	t.Parallel()
	u := start(t, setup{grace: 60})
	long := u.background("/work?ms=6000")
	u.busy(1)
	u.Delete(nil)
	u.phase("draining", 1)
	u.signal("proxy", syscall.SIGSTOP)
	u.pause(blackout)
	if n := u.happened("app", pod.HookAnswered) + u.happened("proxy", pod.HookAnswered); n != 0 {
		t.Errorf("%d hooks were answered while envoy could not be read", n)
	}
	u.signal("proxy", syscall.SIGCONT)
	u.mustServe("in flight", <-long)
	u.wait()
	u.verdict("clean")
}

// Row 6, second half: the app's metrics hang for twenty seconds while raw TCP work runs.
func TestAppMetricsHangWithRawTCPWork(t *testing.T) {
	t.Parallel()
	s := setup{grace: 60}
	s.envoy.TCP = true
	u := start(t, s)
	conn, err := net.Dial("tcp", u.addr(tcpPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /work?ms=4000 HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
	u.busy(1)
	u.Delete(nil)
	u.phase("draining", 1)
	u.signal("app", syscall.SIGSTOP)
	u.pause(blackout)
	if n := u.happened("app", pod.HookAnswered); n != 0 {
		t.Error("the app's hook was answered while the app could not be read")
	}
	u.signal("app", syscall.SIGCONT)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("raw TCP work ended with %q, %v", line, err)
	}
	conn.Close()
	u.wait()
	u.verdict("clean")
}

// Row 7: what dies in mid-drain is not waited for.
func TestDeathInMidDrain(t *testing.T) {
	tests := map[string]struct {
		victim, outcome string
		exit            int
	}{
		"envoy": {"proxy", "proxy_died", 4},
		"app":   {"app", "app_died", 6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{})
			long := u.background("/work?ms=20000")
			u.busy(1)
			u.Delete(nil)
			u.phase("draining", 1)
			died := time.Now()
			if err := u.Kill(tt.victim); err != nil {
				t.Fatal(err)
			}
			for _, container := range []string{"app", "proxy"} {
				u.until("the hook of "+container, func() bool { return u.happened(container, pod.HookAnswered) == 1 })
				at, _ := u.when(container, pod.HookAnswered)
				if late := at.Sub(died); late > 10*time.Second { // unseen, a death holds to the deadline
					t.Errorf("hook of %s answered %v after the death", container, late)
				}
			}
			<-long // lost with the process that held it
			u.wait()
			u.verdict(tt.outcome)
			if code := u.ExitCode("agent"); code != tt.exit {
				t.Errorf("exit code %d, want %d", code, tt.exit)
			}
		})
	}
}

// Row 15: the agent itself stands still for five seconds, starves, or has little memory.
func TestPoorAgent(t *testing.T) {
	tests := map[string]func(u *under){
		"paused 5 s": func(u *under) {
			u.signal("agent", syscall.SIGSTOP)
			u.pause(5 * time.Second)
			u.signal("agent", syscall.SIGCONT)
		},
		"1 % CPU": func(*under) {},
		"32 MiB":  func(*under) {},
	}
	for name, disturb := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{grace: 40})
			switch name {
			case "1 % CPU":
				limitCPU(t, u.Pid("agent"), 1)
			case "32 MiB":
				limitMemory(t, u.Pid("agent"), 32<<20)
			}
			long := u.background("/work?ms=6000")
			u.busy(1)
			u.Delete(nil)
			u.phase("announcing", 1)
			disturb(u)
			u.mustServe("in flight", <-long)
			u.wait()
			_, verdicts := u.lines()
			if len(verdicts) != 1 {
				t.Fatalf("%d verdicts", len(verdicts))
			}
			v := verdicts[0]
			starving := name == "1 % CPU" && v.Outcome == "deadline" // it may read too rarely to prove a zero: then the budget decides
			if v.Outcome != "clean" && !starving {
				t.Errorf("outcome %s: %s", v.Outcome, v.Reason)
			}
			if v.TotalMS > 38_000 || u.happened("agent", pod.Sigkill) != 0 {
				t.Errorf("drain took %d ms, killed %d times", v.TotalMS, u.happened("agent", pod.Sigkill))
			}
			u.inOrder("app hook_answered", "proxy hook_answered")
		})
	}
}

func (u *under) signal(container string, sig syscall.Signal) {
	u.t.Helper()
	if u.istio && container == "proxy" {
		u.signalEnvoy(sig)
		return
	}
	if err := u.Signal(container, sig); err != nil {
		u.t.Fatal(err)
	}
}

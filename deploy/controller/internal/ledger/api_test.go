package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func ledgerOf(store Store) *Ledger {
	return &Ledger{store: store, log: slog.New(slog.DiscardHandler)}
}

func get200(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	status, text := call(h, http.MethodGet, path)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, status, text)
	}
	return text
}

func call(h http.Handler, method, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

// The keys of a row are a contract (docs/reference/ledger.md). What is unknown is null.
func TestRowsAsJSON(t *testing.T) {
	s := open(t, "memory", bounded)
	stop := stopAt("a", 1, func(s *Stop) {
		s.Verdict, s.GraceS, s.Deleted, s.Phase, s.ExitCode, s.Ran, s.Reason = json.RawMessage(`{"msg":"verdict","score":null}`), new(int64(30)), &Moment{noon}, "Running", new(int32(0)), true, "zero held"
		s.Workload.APIVersion, s.Workload.UID = "apps/v1", "d1"
	})
	none := lost(stop.Pod, "gone", noon)
	none.ID, none.UID, none.Deleted, none.GraceS, none.ExitCode = "b", "b", nil, nil, nil
	add(t, s, stop, none)
	api := ledgerOf(s).API()
	pod := `"namespace":"shop","pod":"web-a","node":"n1","workload":{"kind":"Deployment","name":"web","api_version":"apps/v1","uid":"d1"},"revision":"r1",`
	want := `{"drains":[` +
		`{"id":"a","pod_uid":"a",` + pod + `"grace_period_s":30,"deletion_asked_at":"2026-03-01T12:00:00.000Z","last_phase":"Running","agent_exit_code":0,"agent_ran":true,"pod_stopped":true,"outcome":"clean","reason":"zero held","ended_at":"2026-03-01T12:00:01.000Z","total_ms":1000,"requests_cut":0,"arrivals_after_release":0,"verdict_whole":true,"verdict":{"msg":"verdict","score":null}},` +
		`{"id":"b","pod_uid":"b",` + pod + `"grace_period_s":null,"deletion_asked_at":null,"last_phase":"Running","agent_exit_code":null,"agent_ran":true,"pod_stopped":true,"outcome":"unknown","reason":"gone","ended_at":"2026-03-01T12:00:00.000Z","total_ms":null,"requests_cut":null,"arrivals_after_release":null,"verdict_whole":false,"verdict":null}` +
		`],"next":null}` + "\n"
	if got := get200(t, api, "/api/v1/drains"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `{"next":null,"rollouts":[{"namespace":"shop","workload":{"kind":"Deployment","name":"web"},"revision":"r1","first_ended_at":"2026-03-01T12:00:00.000Z","last_ended_at":"2026-03-01T12:00:01.000Z","stops":2,"outcomes":{"clean":1,"unknown":1},"total_ms_p50":1000,"total_ms_p95":1000,"total_ms_max":1000,"total_ms_known":1,"requests_cut":0,"requests_cut_known":1,"arrivals_after_release":0,"arrivals_after_release_known":1}]}` + "\n"
	if got := get200(t, api, "/api/v1/rollouts"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := get200(t, api, "/api/v1/drains?namespace=none"); got != `{"drains":[],"next":null}`+"\n" {
		t.Errorf("no rows: %s", got)
	}
}

func TestQuestions(t *testing.T) {
	s := open(t, "memory", bounded)
	add(t, s, stopAt("a", 1), stopAt("b", 2, func(s *Stop) { s.Outcome = "deadline" }))
	api := ledgerOf(s).API()
	for path, want := range map[string]string{
		"/api/v1/drains?outcome=deadline&outcome=unknown":                             `"id":"b"`,
		"/api/v1/drains?limit=1":                                                      `"next":"`,
		"/api/v1/drains?since=2026-03-01T12:00:02Z&until=2026-03-01T13:00:00%2b00:00": `"id":"b"`,
		"/api/v1/drains?pod_stopped=false":                                            `[]`,
		"/api/v1/rollouts?workload=web&outcome=clean":                                 `"stops":1,`,
	} {
		if got := get200(t, api, path); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	status, text := call(api, http.MethodGet, "/api/v1/drains?limit=0&since=yesterday&pod_stopped=perhaps&worklaod=web&pod=a&pod=b")
	for _, want := range []string{"limit=0", "since=yesterday", "pod_stopped=perhaps", "worklaod", "pod=a: want it once"} {
		if status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%d %s, want %s in it", status, text, want)
		}
	}
	for path, want := range map[string]int{
		"/api/v1/rollouts?pod=a": http.StatusBadRequest, "/api/v1/drains?after=x": http.StatusBadRequest, "/api/v1/drains?limit=1001": http.StatusBadRequest,
		"/api/v1/": http.StatusNotFound, "/x": http.StatusNotFound, "/metrics": http.StatusNotFound,
	} {
		if status, text := call(api, http.MethodGet, path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut} {
		if status, _ := call(api, method, "/api/v1/drains"); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, status)
		}
	}
}

// Until the store is there, and while it does not answer, nobody is shown an empty ledger, and no password.
func TestStoreDoesNotAnswer(t *testing.T) {
	l := ledgerOf(nil)
	if status, text := call(l.API(), http.MethodGet, "/api/v1/drains"); status != http.StatusServiceUnavailable {
		t.Errorf("not open: %d %s", status, text)
	}
	s := open(t, "memory", bounded)
	l.store = s
	_ = s.Close()
	for _, path := range []string{"/api/v1/drains", "/api/v1/rollouts"} {
		if status, text := call(l.API(), http.MethodGet, path); status != http.StatusServiceUnavailable || strings.Contains(text, "sql") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	l.watched.Store(-1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newMetrics(l))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); name != "drain_controller_ledger_errors_total" && name != "drain_controller_ledger_events_left_out_total" {
			t.Errorf("%s is shown although nobody can know it", name)
		}
	}
}

// The names, labels and values of the metrics are a contract (docs/reference/ledger.md).
func TestMetricsOfTheLedger(t *testing.T) {
	s := open(t, "memory", bounded)
	add(t, s, stopAt("a", 2), stopAt("b", 7, func(s *Stop) { s.Outcome, s.Cut, s.Late, s.GraceS = "deadline", new(int64(3)), nil, new(int64(30)) }), lost(stopAt("c", 0).Pod, "gone", noon))
	l := ledgerOf(s)
	l.watched.Store(5)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newMetrics(l))
	if err := s.Saw(t.Context(), stopAt("d", 0, func(s *Stop) { s.Workload.Name = "young" }).Pod); err != nil { // it has not stopped yet: zero is true
		t.Fatal(err)
	}
	w := `kind="Deployment",namespace="shop"`
	stops := func(workload string, once ...string) (text string) {
		for _, outcome := range append(outcomes(), unknown) {
			n := 0
			if slices.Contains(once, outcome) {
				n = 1
			}
			text += fmt.Sprintf("drain_controller_stops_total{%s,outcome=%q,workload=%q} %d\n", w, outcome, workload, n)
		}
		return text
	}
	var want strings.Builder
	want.WriteString(`
# HELP drain_controller_arrivals_after_release_total Requests that came after the first container was let go, as the verdicts say.
# TYPE drain_controller_arrivals_after_release_total counter
drain_controller_arrivals_after_release_total{` + w + `,workload="web"} 0
# HELP drain_controller_ledger_errors_total Calls of the ledger's store that failed; each is tried again.
# TYPE drain_controller_ledger_errors_total counter
drain_controller_ledger_errors_total 0
# HELP drain_controller_ledger_events_left_out_total Stops that should have had an Event and have none, because there were too many or Kubernetes refused it.
# TYPE drain_controller_ledger_events_left_out_total counter
drain_controller_ledger_events_left_out_total 0
# HELP drain_controller_pods_watched Pods with an agent that are there.
# TYPE drain_controller_pods_watched gauge
drain_controller_pods_watched 5
# HELP drain_controller_requests_cut_total What was in flight when its process ended, as the verdicts say.
# TYPE drain_controller_requests_cut_total counter
drain_controller_requests_cut_total{` + w + `,workload="web"} 3
# HELP drain_controller_stop_grace_seconds Grace periods of the stops that have a known time; their quantiles are not kept.
# TYPE drain_controller_stop_grace_seconds summary
drain_controller_stop_grace_seconds_sum{` + w + `,workload="web"} 30
drain_controller_stop_grace_seconds_count{` + w + `,workload="web"} 1
# HELP drain_controller_stop_seconds Time from the first sign of a stop to its verdict.
# TYPE drain_controller_stop_seconds histogram
`)
	below := map[int64]int{2000: 1, 5000: 1}
	for _, most := range bounds() {
		n := below[most]
		if most > 5000 {
			n = 2
		}
		fmt.Fprintf(&want, "drain_controller_stop_seconds_bucket{%s,workload=\"web\",le=\"%v\"} %d\n", w, float64(most)/1000, n)
	}
	want.WriteString(`drain_controller_stop_seconds_bucket{` + w + `,workload="web",le="+Inf"} 2
drain_controller_stop_seconds_sum{` + w + `,workload="web"} 9
drain_controller_stop_seconds_count{` + w + `,workload="web"} 2
# HELP drain_controller_stops_total Stops of pods with an agent, by outcome of the verdict; unknown: the pod left none.
# TYPE drain_controller_stops_total counter
` + stops("web", "clean", "deadline", "unknown") + stops("young") + `# HELP drain_controller_stops_uncounted_total Stops that do not say how many requests were cut, or came late.
# TYPE drain_controller_stops_uncounted_total counter
drain_controller_stops_uncounted_total{count="cut",` + w + `,workload="web"} 1
drain_controller_stops_uncounted_total{count="late",` + w + `,workload="web"} 2
`)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want.String())); err != nil {
		t.Error(err)
	}
}

// kube is a client of which only some calls are expected.
type kube struct {
	client.Client
	refuse error
	made   []*corev1.Event
	gets   int
	above  *metav1.OwnerReference
}

func (k *kube) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	if k.refuse == nil {
		k.made = append(k.made, o.(*corev1.Event))
	}
	return k.refuse
}

func (k *kube) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	k.gets++
	if k.refuse == nil {
		o.SetUID("between")
		o.SetOwnerReferences([]metav1.OwnerReference{*k.above})
	}
	return k.refuse
}

func TestWhoIsTold(t *testing.T) {
	var log bytes.Buffer
	k, unsaid := &kube{}, 0
	teller := newTeller(k, slog.New(slog.NewJSONHandler(&log, nil)), func() { unsaid++ })
	deadline := func(s *Stop) { s.Outcome, s.Reason, s.Cut = "deadline", strings.Repeat("ö", 800), new(int64(4)) }
	for what, row := range map[string]struct {
		stop *Stop
		want string
	}{
		"clean":                {stopAt("a", 1), ""},
		"clean, and something": {stopAt("a", 1, func(s *Stop) { s.Cut = new(int64(2)) }), "DrainNotClean pod web-a on n1: clean after 1.0 s, 2 cut off"},
		"at the deadline":      {stopAt("a", 28, deadline), "DrainNotClean pod web-a on n1: deadline after 28.0 s, 4 cut off: öö"},
		"unknown":              {lost(stopAt("a", 1).Pod, "the pod is gone", noon), "DrainUnknown pod web-a on n1: unknown: the pod is gone"},
		"the pod lives":        {stopAt("a", 28, deadline, func(s *Stop) { s.PodStopped = false }), ""},
		"told long ago":        {stopAt("a", 28, deadline, func(s *Stop) { s.old = true }), ""},
	} {
		k.made = nil
		log.Reset()
		teller.tell(t.Context(), row.stop)
		var line struct {
			Msg  string `json:"msg"`
			Stop Stop   `json:"stop"`
		}
		if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Msg != "stop" || line.Stop.UID != "a" || line.Stop.Outcome != row.stop.Outcome {
			t.Errorf("%s: logged %s, %v", what, &log, err)
		}
		got := ""
		for _, e := range k.made {
			got = e.Reason + " " + e.Message
			if len(e.Message) > 1024 || e.InvolvedObject.Name != "web" || e.Namespace != "shop" || e.Type != "Warning" {
				t.Errorf("%s: %+v", what, e)
			}
		}
		if !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", what, got, row.want)
		}
	}
	k.refuse = apierrors.NewAlreadyExists(schema.GroupResource{}, "")
	teller.tell(t.Context(), stopAt("b", 1, deadline))
	if unsaid != 0 {
		t.Error("the other replica's Event is one")
	}
	k.refuse = errors.New("forbidden")
	teller.tell(t.Context(), stopAt("b", 1, deadline))
	if unsaid != 1 {
		t.Error("an Event that was refused was not counted")
	}
	k.refuse, k.made, unsaid = nil, nil, 0
	teller.rate = dry{}
	teller.tell(t.Context(), stopAt("c", 1, deadline))
	if len(k.made) != 0 || unsaid != 1 || !strings.Contains(log.String(), `"pod_uid":"c"`) {
		t.Errorf("beyond the rate: %d Events, %d left out", len(k.made), unsaid)
	}
}

// dry is a rate that is used up.
type dry struct{}

func (dry) TryAccept() bool            { return false }
func (dry) Accept()                    {}
func (dry) Stop()                      {}
func (dry) QPS() float32               { return 0 }
func (dry) Wait(context.Context) error { return nil }

func TestWorkloadBehindAPod(t *testing.T) {
	set := metav1.OwnerReference{Kind: "ReplicaSet", Name: "web-1", UID: "between", APIVersion: "apps/v1"}
	above := metav1.OwnerReference{Kind: "Rollout", Name: "web", UID: "u", APIVersion: "argoproj.io/v1alpha1", Controller: new(true)}
	of := func(o ...metav1.OwnerReference) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-1-x", UID: types.UID("p"), OwnerReferences: o}}
	}
	for what, row := range map[string]struct {
		pod   *corev1.Pod
		err   error
		want  string
		final bool
		gets  int
	}{
		"alone":             {of(), nil, "Pod web-1-x", true, 0},
		"StatefulSet":       {of(metav1.OwnerReference{Kind: "StatefulSet", Name: "db"}), nil, "StatefulSet db", true, 0},
		"behind its set":    {of(set), nil, "Rollout web", true, 1},
		"the set is gone":   {of(set), apierrors.NewNotFound(schema.GroupResource{}, ""), "ReplicaSet web-1", true, 2},
		"may not ask":       {of(set), apierrors.NewForbidden(schema.GroupResource{}, "", nil), "ReplicaSet web-1", true, 2},
		"no answer":         {of(set), context.DeadlineExceeded, "ReplicaSet web-1", false, 2},
		"another of a name": {of(func() metav1.OwnerReference { o := set; o.UID = "other"; return o }()), nil, "ReplicaSet web-1", true, 2},
	} {
		k := &kube{refuse: row.err, above: &above}
		o := &owners{reader: k}
		var w Workload
		var final bool
		for range 2 {
			w, final = o.of(t.Context(), row.pod)
		}
		if got := w.Kind + " " + w.Name; got != row.want || final != row.final || k.gets != row.gets {
			t.Errorf("%s: %s, final %v, %d questions; want %s, %v, %d", what, got, final, k.gets, row.want, row.final, row.gets)
		}
	}
}

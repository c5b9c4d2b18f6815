package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Bounds of the live view: agents are asked while somebody looks, at most once a second however many look.
const liveEvery, livePods, liveViewers = time.Second, 50, 16

// liveAnswer is how long an agent has for its answer. All are asked together: one that never answers, as behind a network policy, takes
// nothing from the others.
const liveAnswer = liveEvery / 2

// liveView is what the page and its events show of the pods that stop.
type liveView struct {
	Said string    `json:"said"`
	List []liveRow `json:"list"`
}

type liveRow struct {
	Pod      string `json:"pod"`
	Workload string `json:"workload"`
	Phase    string `json:"phase"`
	Left     string `json:"left"`
	InFlight string `json:"in_flight"`
	Waiting  string `json:"waiting"`
}

// live keeps the newest view.
type live struct {
	mu      sync.Mutex
	at      time.Time
	view    liveView
	viewers chan struct{}
}

// agentStatus is what is read of GET /status.
type agentStatus struct {
	Phase, Waiting string
	LeftMS         *int64
	Proxy, App     side
}

type side struct {
	InFlight *int64 `json:"in_flight"`
	Known    bool   `json:"known"`
}

func (l *Ledger) liveNow(ctx context.Context) liveView {
	l.mu.Lock()
	d := l.desk
	l.mu.Unlock()
	if d == nil {
		return liveView{Said: "The pods are not known yet.", List: []liveRow{}}
	}
	l.live.mu.Lock()
	defer l.live.mu.Unlock()
	if time.Since(l.live.at) >= liveEvery {
		l.live.view, l.live.at = d.look(ctx), time.Now()
	}
	return l.live.view
}

// look asks the agents of the pods that stop. All who look share it: it goes on when the one that began it goes away.
func (d *desk) look(ctx context.Context) liveView {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), liveEvery)
	defer cancel()
	var all corev1.PodList
	if err := d.pods.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return liveView{Said: "The pods are not known right now.", List: []liveRow{}}
	}
	pods := slices.DeleteFunc(all.Items, func(p corev1.Pod) bool { return !hasAgent(&p) || p.DeletionTimestamp == nil || over(&p) })
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return a.DeletionTimestamp.Compare(b.DeletionTimestamp.Time) })
	v := liveView{Said: fmt.Sprintf("%d pods with an agent are stopping.", len(pods)), List: make([]liveRow, min(len(pods), livePods))}
	if len(pods) > livePods {
		v.Said += fmt.Sprintf(" The %d whose time is over first are shown.", livePods)
	}
	var asked sync.WaitGroup
	for i := range v.List {
		asked.Go(func() { v.List[i] = d.row(ctx, &pods[i]) })
	}
	asked.Wait()
	return v
}

func (d *desk) row(ctx context.Context, pod *corev1.Pod) liveRow {
	answer, cancel := context.WithTimeout(ctx, liveAnswer)
	defer cancel()
	s, err := d.ask(answer, pod)
	w, _ := d.owner(ctx, pod)
	row := liveRow{Pod: pod.Namespace + "/" + pod.Name, Workload: w.Kind + " " + w.Name, Phase: "no answer", InFlight: "?", Waiting: "?"}
	left := pod.DeletionTimestamp.Sub(d.now())
	if err == nil {
		row.Phase, row.Waiting, row.InFlight = short(s.Phase), short(s.Waiting), s.inFlight()
		if s.LeftMS != nil {
			left = time.Duration(*s.LeftMS) * time.Millisecond
		}
	}
	row.Left = fmt.Sprintf("%.0f s", max(left, 0).Seconds())
	return row
}

// inFlight is the greater of what both sides count: each counts what the other may not see.
func (s agentStatus) inFlight() string {
	n, known := int64(0), false
	for _, one := range []side{s.Proxy, s.App} {
		if one.Known && one.InFlight != nil {
			n, known = max(n, *one.InFlight), true
		}
	}
	if !known {
		return "?"
	}
	return strconv.FormatInt(n, 10)
}

func short(text string) string { return printable(text[:min(len(text), 120)]) }

// statusClient follows nobody elsewhere, goes through no proxy and reads a bounded answer.
var statusClient = &http.Client{
	Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// askAgent asks a pod's agent how it stands, without its events. The address is that of the pod's status, which kubelet writes; of what
// the pod's author wrote only the port's number is in it.
func askAgent(ctx context.Context, pod *corev1.Pod) (s agentStatus, err error) {
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || ip.IsUnspecified() {
		return s, fmt.Errorf("a pod has no address: %q", pod.Status.PodIP)
	}
	address := url.URL{Scheme: "http", Host: net.JoinHostPort(ip.String(), pod.Annotations[portKey]), Path: "/status", RawQuery: "before=1"}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return s, err
	}
	reply, err := statusClient.Do(request)
	if err != nil {
		return s, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s", reply.Status)
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, 64<<10))
	if err != nil {
		return s, err
	}
	return readStatus(string(text))
}

// readStatus reads what has come as a whole: agents of the first edition send up to 256 events behind it, whoever asks.
func readStatus(text string) (s agentStatus, err error) {
	_, values, _ := members(text)
	get(values, "phase", &s.Phase)
	get(values, "left_ms", &s.LeftMS)
	get(values, "waiting", &s.Waiting)
	get(values, "proxy", &s.Proxy)
	get(values, "app", &s.App)
	if s.Phase == "" {
		return s, errors.New("an agent's answer is no status")
	}
	return s, nil
}

// livePage sends server-sent events until who looks goes away.
func (l *Ledger) livePage(w http.ResponseWriter, r *http.Request) {
	select {
	case l.live.viewers <- struct{}{}:
		defer func() { <-l.live.viewers }()
	default:
		http.Error(w, "too many look already", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	control := http.NewResponseController(w)
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		text, _ := json.Marshal(l.liveNow(r.Context()))               // plain values always can be
		_ = control.SetWriteDeadline(time.Now().Add(5 * time.Second)) // not every writer has one
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Audience is whom the tokens of reports are for. They are good for nothing else.
const Audience = "drain-controller"

// What came of reports.
const (
	kept     = "kept"
	there    = "there"    // its stop has a row already
	waits    = "waits"    // nobody asked the pod to stop as far as we know: its last status will tell
	nothing  = "nothing"  // no verdict
	stranger = "stranger" // no pod's token
	nobody   = "nobody"   // a pod that we do not see
	tooMany  = "too_many"
	failed   = "failed"
)

// Reports come at once from all pods of a node that is drained; each costs the API server a question about its token.
const reportsPerSecond, reportsAtOnce, reportsTogether = 100, 500, 16

// maxReport bounds a verdict; one with both curves has 4 KiB at most, and a row is bounded by mostRow.
const maxReport = 64 << 10

// reports takes verdicts from agents. A pod can report nothing but its own: its token says which it is, or its certificate.
type reports struct {
	who       func(ctx context.Context, token string) (Pod, error)
	certified func(*tls.ConnectionState) (Pod, error) // nil: no certificate counts
	keep      func(ctx context.Context, from Pod, v *verdict) (result string, err error)
	rate      flowcontrol.RateLimiter
	open      chan struct{}
	peers     *peers
	counted   *prometheus.CounterVec
}

func newReports(who func(context.Context, string) (Pod, error), keep func(context.Context, Pod, *verdict) (string, error)) *reports {
	r := &reports{
		who: who, keep: keep, rate: flowcontrol.NewTokenBucketRateLimiter(reportsPerSecond, reportsAtOnce), open: make(chan struct{}, reportsTogether), peers: newPeers(),
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_controller_reports_total",
			Help: "Verdicts that agents reported themselves, by what came of them: kept, there (its stop has a row), waits (for the pod's last status), nothing (no verdict), stranger (no token of a pod), nobody (a pod that is not seen), too_many, failed.",
		}, []string{"result"}),
	}
	for _, result := range []string{kept, there, waits, nothing, stranger, nobody, tooMany, failed} {
		r.counted.WithLabelValues(result)
	}
	return r
}

// ServeHTTP takes POST of a verdict's line.
func (s *reports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(5 * time.Second)) // not every server has one
	result, status := s.take(w, r)
	s.counted.WithLabelValues(result).Inc()
	if status >= http.StatusBadRequest {
		w.Header().Set("Connection", "close")
	}
	answer(w, status, map[string]string{"result": result})
}

// take reads a report. Only what may be an agent's gets a place and a question to the API server: strangers have what others do not need.
func (s *reports) take(w http.ResponseWriter, r *http.Request) (result string, status int) {
	if r.Method != http.MethodPost {
		return nothing, http.StatusMethodNotAllowed
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	who := func(ctx context.Context) (Pod, error) { return s.who(ctx, token) }
	switch {
	case ok && token != "" && len(token) <= 16<<10:
	case !ok && s.certified != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		who = func(context.Context) (Pod, error) { return s.certified(r.TLS) }
	default:
		return stranger, http.StatusUnauthorized
	}
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	if !s.peers.enter(address, time.Now()) {
		return tooMany, http.StatusServiceUnavailable
	}
	defer func() { s.peers.leave(address, result != kept) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReport))
	if err != nil {
		return nothing, http.StatusRequestEntityTooLarge
	}
	v := lastVerdict(string(body), true)
	if v == nil || !v.Whole {
		return nothing, http.StatusBadRequest
	}
	return s.asked(r.Context(), who, v)
}

// asked keeps a verdict if its token, or its certificate, is a pod's.
func (s *reports) asked(ctx context.Context, who func(context.Context) (Pod, error), v *verdict) (result string, status int) {
	select {
	case s.open <- struct{}{}:
		defer func() { <-s.open }()
	default:
		return tooMany, http.StatusServiceUnavailable
	}
	if !s.rate.TryAccept() {
		return tooMany, http.StatusServiceUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	from, err := who(ctx)
	switch {
	case errors.Is(err, errStranger):
		return stranger, http.StatusUnauthorized
	case err != nil:
		return failed, http.StatusServiceUnavailable
	}
	switch result, err = s.keep(ctx, from, v); {
	case err != nil:
		return failed, http.StatusServiceUnavailable
	case result == nobody:
		return nobody, http.StatusNotFound
	}
	return result, http.StatusOK
}

var errStranger = errors.New("not the token of a pod, for " + Audience)

// bearer asks the API server whose token it is. Only a token that is bound to a pod will do: kubelet's projected ones are. And it must be
// for us: an authenticator that knows no audiences answers without any, whomever the token is for.
func bearer(c client.Client) func(context.Context, string) (Pod, error) {
	return func(ctx context.Context, token string) (p Pod, err error) {
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}}}
		if err := c.Create(ctx, review); err != nil {
			return p, err
		}
		user := review.Status.User
		first := func(key string) string { return append(user.Extra["authentication.kubernetes.io/"+key], "")[0] }
		account, ours := strings.CutPrefix(user.Username, "system:serviceaccount:")
		p.Namespace, _, _ = strings.Cut(account, ":")
		p.Name, p.UID = first("pod-name"), first("pod-uid")
		if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, Audience) || !ours || p.Namespace == "" || p.Name == "" || p.UID == "" {
			return p, errStranger
		}
		return p, nil
	}
}

// desk is what reports and the page's live view are made with: the watched pods, and what makes rows.
type desk struct {
	pods  client.Reader // stripped
	owner func(context.Context, *corev1.Pod) (w Workload, final bool)
	store Store
	tell  func(context.Context, *Stop)
	now   func() time.Time
	ask   func(context.Context, *corev1.Pod) (agentStatus, error) // a pod's agent, for the page
}

// keep makes a report the row of its stop, unless it has one.
func (d *desk) keep(ctx context.Context, from Pod, v *verdict) (string, error) {
	var pod corev1.Pod
	if err := d.pods.Get(ctx, client.ObjectKey{Namespace: from.Namespace, Name: from.Name}, &pod); apierrors.IsNotFound(err) {
		return nobody, nil
	} else if err != nil {
		return "", err
	}
	if string(pod.UID) != from.UID || !hasAgent(&pod) {
		return nobody, nil
	}
	known := remembered(&pod, Pod{})
	known.Ran = true // who else speaks
	known.Workload, _ = d.owner(ctx, &pod)
	if now := d.now(); v.Time.Before(now.Add(-time.Hour)) || v.Time.After(now.Add(time.Hour)) {
		v.Time = now
	}
	stopping := known.Deleted != nil || over(&pod)
	if stopping == stayed(v.Outcome) {
		return waits, nil
	}
	s := row(known, v, stopping)
	added, err := d.store.Add(ctx, s)
	if err != nil || !added {
		return there, err
	}
	d.tell(ctx, s)
	return kept, nil
}

// Reports is where agents report to. Until the pods are known it says so, and the pod's last status tells the same.
func (l *Ledger) Reports() http.Handler { return l.reports }

func (l *Ledger) report(ctx context.Context, from Pod, v *verdict) (string, error) {
	l.mu.Lock()
	d := l.desk
	l.mu.Unlock()
	if d == nil {
		return "", errors.New("pods are not known yet")
	}
	result, err := d.keep(ctx, from, v)
	if err != nil {
		l.wrong(ctx, "keep a report", err)
	}
	return result, err
}

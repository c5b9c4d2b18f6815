package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// podsOf is a cache with these pods, by name.
type podsOf map[string]*corev1.Pod

func (p podsOf) Get(_ context.Context, key client.ObjectKey, to client.Object, _ ...client.GetOption) error {
	if p[key.Name] == nil {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	p[key.Name].DeepCopyInto(to.(*corev1.Pod))
	return nil
}

func (podsOf) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.ErrUnsupported
}

func curved(outcome string, seconds int) string {
	v := full()
	v.Outcome, v.Time, v.InFlightCurve = outcome, noon.Add(time.Duration(seconds)*time.Second), [][2]int64{{0, 3}, {800, 0}}
	text, _ := v.MarshalJSON() // never fails
	return string(text)
}

// receiver knows the tokens UID of these pods.
func (c *cluster) receiver(pods podsOf) *reports {
	d := &desk{pods: pods, owner: c.book.owner, store: c.store, tell: c.book.tell, now: c.book.now}
	return newReports(func(_ context.Context, token string) (Pod, error) {
		switch token {
		case "nobody's":
			return Pod{}, errStranger
		case "unasked":
			return Pod{}, errors.New("the API server is gone")
		}
		return Pod{Namespace: "shop", Name: "web-" + token, UID: token}, nil
	}, d.keep)
}

func post(h http.Handler, token, body string) (int, string) {
	return postFrom("192.0.2.1:5", h, token, strings.NewReader(body))
}

func postFrom(address string, h http.Handler, token string, body io.Reader) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "/report", body)
	r.RemoteAddr = address
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// A report and the pod's last status are one stop: one row, whichever comes first, told once. The report has the curve.
func TestReportAndStatusAreOneRow(t *testing.T) {
	for name, first := range map[string]bool{"the report comes first": true, "the status comes first": false} {
		t.Run(name, func(t *testing.T) {
			c := watching(t, open(t, "memory", bounded))
			dying := stripped(running("a", deleting))
			c.at.AddFunc(dying, false)
			r := c.receiver(podsOf{"web-a": dying})
			report := func(want string) {
				if status, text := post(r, "a", curved("clean", 2)); status != http.StatusOK || !strings.Contains(text, want) {
					t.Errorf("%d %s, want %s", status, text, want)
				}
			}
			if first {
				report(kept)
			}
			gone := stripped(running("a", deleting, ends(said("clean", 2))))
			c.at.UpdateFunc(dying, gone)
			if !first {
				report(there)
			}
			c.at.DeleteFunc(gone)
			c.settle()
			if got := c.rows(); got != "a clean" || len(c.told) != 1 {
				t.Errorf("rows %s, told %d times", got, len(c.told))
			}
			if page, _ := c.store.Drains(t.Context(), Query{Limit: 1}); strings.Contains(string(page.Items[0]), `"in_flight_curve":[[0,3],[800,0]]`) != first {
				t.Errorf("row %s", page.Items[0])
			}
		})
	}
}

func TestWhatReportsAreTaken(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	other := stripped(running("e", deleting))
	other.Name = "web-d"
	r := c.receiver(podsOf{
		"web-a": stripped(running("a", deleting)), "web-b": stripped(running("b")), "web-d": other,
		"web-c": stripped(running("c", func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] })),
	})
	invented := strings.Replace(curved("deadline", 1), "2026-03-01", "2056-03-01", 1)
	for _, row := range []struct {
		what, token, body, want string
		status                  int
	}{
		{"no token", "", curved("clean", 1), stranger, http.StatusUnauthorized},
		{"not a pod's", "nobody's", curved("clean", 1), stranger, http.StatusUnauthorized},
		{"nobody can say whose", "unasked", curved("clean", 1), failed, http.StatusServiceUnavailable},
		{"of a pod that is gone", "z", curved("clean", 1), nobody, http.StatusNotFound},
		{"of one before it with the same name", "d", curved("clean", 1), nobody, http.StatusNotFound},
		{"without an agent", "c", curved("clean", 1), nobody, http.StatusNotFound},
		{"no verdict", "a", `{"msg":"drain"}`, nothing, http.StatusBadRequest},
		{"half of one", "a", curved("clean", 1)[:80], nothing, http.StatusBadRequest},
		{"too long", "a", strings.Repeat(" ", maxReport) + curved("clean", 1), nothing, http.StatusRequestEntityTooLarge},
		{"nobody asked it to stop", "b", curved("clean", 1), waits, http.StatusOK},
		{"the pod lives on", "b", curved("container_restart", 1), kept, http.StatusOK},
		{"so far", "a", curved("aborted", 1), waits, http.StatusOK},
		{"a time that cannot be", "a", invented, kept, http.StatusOK},
		{"the same again", "a", invented, there, http.StatusOK},
	} {
		if status, text := post(r, row.token, row.body); status != row.status || !strings.Contains(text, `"`+row.want+`"`) {
			t.Errorf("%s: %d %s, want %d %s", row.what, status, text, row.status, row.want)
		}
	}
	if status, _ := call(r, http.MethodGet, "/report"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
	if got, want := c.rows(), "a deadline, b/"; !strings.HasPrefix(got, want) || strings.Count(got, ",") != 1 {
		t.Errorf("rows %s", got)
	}
	if n := testutil.ToFloat64(r.counted.WithLabelValues(nobody)); n != 3 {
		t.Errorf("%v of pods that are not seen", n)
	}
}

// Strangers cannot make the API server answer as often as they like, and a slow one does not pile reports up.
func TestReportsAreBounded(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	r, asked := c.receiver(podsOf{}), 0
	who := r.who
	r.who = func(ctx context.Context, token string) (Pod, error) { asked++; return who(ctx, token) }
	for i := range reportsAtOnce + 100 {
		postFrom(fmt.Sprintf("10.0.%d.%d:5", i/200, i%200), r, "nobody's", strings.NewReader(curved("clean", 1)))
	}
	if asked < reportsAtOnce || testutil.ToFloat64(r.counted.WithLabelValues(tooMany)) != float64(reportsAtOnce+100-asked) {
		t.Errorf("asked %d times", asked)
	}
	for range reportsTogether {
		r.open <- struct{}{}
	}
	if status, text := post(r, "a", curved("clean", 1)); status != http.StatusServiceUnavailable || !strings.Contains(text, tooMany) {
		t.Errorf("%d %s", status, text)
	}
}

// One address alone takes neither the slots nor the rate of all others, whatever it sends.
func TestStrangersTakeNobodysPlace(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	for what, body := range map[string]string{"verdicts": curved("clean", 1), "nothing": "{}"} {
		r, asked := c.receiver(podsOf{"web-a": stripped(running("a", deleting))}), 0
		who := r.who
		r.who = func(ctx context.Context, token string) (Pod, error) { asked++; return who(ctx, token) }
		for i := range 10 * reportsAtOnce {
			postFrom(fmt.Sprintf("10.0.0.9:%d", i), r, "nobody's", strings.NewReader(body))
		}
		if asked > reportsAtOnce/2 {
			t.Errorf("%s: the API server was asked %d times", what, asked)
		}
		if status, text := post(r, "a", curved("clean", 1)); status != http.StatusOK {
			t.Errorf("%s: another's report: %d %s", what, status, text)
		}
	}
}

// Bodies that trickle hold no slot.
func TestSlowBodiesHoldNoSlot(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	r := c.receiver(podsOf{"web-a": stripped(running("a", deleting))})
	var slow sync.WaitGroup
	var ends []*io.PipeWriter
	for range 2 * mostFromOne {
		body, end := io.Pipe()
		ends = append(ends, end)
		slow.Go(func() { postFrom("10.0.0.9:5", r, "x", body) })
		go func() { _, _ = end.Write([]byte("{")) }()
	}
	for deadline := time.After(time.Minute); testutil.ToFloat64(r.counted.WithLabelValues(tooMany)) < mostFromOne; { // all the others are open
		select {
		case <-deadline:
			t.Fatal("one address may open as many as it likes")
		case <-time.After(time.Millisecond):
		}
	}
	if status, text := post(r, "a", curved("clean", 1)); status != http.StatusOK {
		t.Errorf("another's report: %d %s", status, text)
	}
	for _, end := range ends {
		_ = end.Close()
	}
	slow.Wait()
}

// The share of an address is for a while, not for ever.
func TestSharesComeBack(t *testing.T) {
	p, now := newPeers(), noon
	for range inVainFromOne {
		if !p.enter("a", now) {
			t.Fatal("too early")
		}
		p.leave("a", true)
	}
	if p.enter("a", now) || !p.enter("b", now) {
		t.Error("the wrong one is refused")
	}
	if now = now.Add(shareEvery); !p.enter("a", now) || len(p.all) != 2 {
		t.Errorf("%d are remembered, or it stays refused", len(p.all))
	}
}

// reviewed is an API server that says the same of every token.
type reviewed struct {
	client.Client
	status authenticationv1.TokenReviewStatus
}

func (r reviewed) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	o.(*authenticationv1.TokenReview).Status = r.status
	return nil
}

// A token that is not for us is nobody's, also where the authenticator knows no audiences and says nothing of them.
func TestTokensAreForUs(t *testing.T) {
	status := authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
		Username: "system:serviceaccount:shop:web",
		Extra:    map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"web-a"}, "authentication.kubernetes.io/pod-uid": {"a"}},
	}}
	for audiences, want := range map[string]error{Audience: nil, "x " + Audience: nil, "": errStranger, "https://kubernetes.default.svc": errStranger} {
		status.Audiences = strings.Fields(audiences)
		if p, err := bearer(reviewed{status: status})(t.Context(), "t"); !errors.Is(err, want) || err == nil && p.UID != "a" {
			t.Errorf("audiences %q: %+v, %v", audiences, p, err)
		}
	}
}

// Before the pods are known nothing is taken.
func TestReportsBeforeThePodsAreKnown(t *testing.T) {
	l := ledgerOf(nil)
	l.reports = newReports(func(context.Context, string) (Pod, error) { return Pod{}, nil }, l.report)
	if status, text := post(l.Reports(), "a", curved("clean", 1)); status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, text)
	}
}

package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/deploy/internal/browsertest"
)

var update = flag.Bool("update", false, "write the pictures of the docs")

// night is a ledger after a night in which one rollout went well, one lost requests and one pod vanished; two pods are stopping.
func night(t testing.TB) *Ledger {
	t.Helper()
	s := open(t, "memory", Limits{Age: 24 * time.Hour, Rows: 10_000, Workloads: 10})
	verdict := func(outcome string, total int, peak int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"msg":"verdict","outcome":%q,"total_ms":%d,"phases":{"confirming":40,"announcing":1460,"draining":%d,"settling":200,"stopping":900},"in_flight_curve":[[0,%d],[500,%d],[1500,%d],[%d,%d],[%d,2]],"score":null,"held_longest":"app","cut":{"app":2},"trigger":"hook app, hook proxy","reason":"<b>zero</b> held"}`,
			outcome, total, total-2600, peak/2, peak, peak/3, total/2, peak/4, total))
	}
	for i := range 60 {
		add(t, s, stopAt(fmt.Sprint("a", i), 10+i, func(s *Stop) { s.Verdict, s.TotalMS = verdict("clean", 3200+100*i, 12), new(int64(3200+100*i)) }))
	}
	for i := range 8 {
		add(t, s, stopAt(fmt.Sprint("b", i), 100+i, func(s *Stop) {
			s.Workload.Name, s.Revision, s.GraceS = "checkout", "7c9f", new(int64(30))
			if i < 3 {
				s.Outcome, s.Cut, s.TotalMS, s.Reason = "deadline", new(int64(2)), new(int64(28000)), "the budget is over: app still had 2 requests in flight"
				s.Verdict = verdict("deadline", 28000, 40)
			}
		}))
	}
	gone := stopAt("c", 120)
	gone.Workload.Name, gone.Name = "checkout", "checkout-7c9f-x2x9z"
	gone.Revision = "7c9f"
	add(t, s, lost(gone.Pod, "the agent's container ended with exit code 137 (OOMKilled) and left no verdict", gone.EndedAt.Time))
	l := ledgerOf(s)
	l.live.viewers = make(chan struct{}, liveViewers)
	one, two := stripped(running("d1", deleting)), stripped(running("d2", deleting))
	l.desk = &desk{
		pods: listed{one, two}, now: func() time.Time { return noon }, store: s,
		owner: func(context.Context, *corev1.Pod) (Workload, bool) {
			return Workload{Kind: "Deployment", Name: "web"}, true
		},
		ask: func(_ context.Context, pod *corev1.Pod) (agentStatus, error) {
			if pod.Name == "web-d2" {
				return agentStatus{}, errors.New("no answer")
			}
			return agentStatus{Phase: "draining", LeftMS: new(int64(21_400)), Waiting: "app: 3 requests in flight", App: side{new(int64(3)), true}, Proxy: side{new(int64(2)), true}}, nil
		},
	}
	return l
}

// listed is a cache of all pods.
type listed []*corev1.Pod

func (listed) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.ErrUnsupported
}

func (p listed) List(_ context.Context, to client.ObjectList, _ ...client.ListOption) error {
	for _, pod := range p {
		list := to.(*corev1.PodList)
		list.Items = append(list.Items, *pod)
	}
	return nil
}

// Without a script everything is there, what is bad at first sight, and what somebody invented is no markup.
func TestPageWithoutScript(t *testing.T) {
	l := night(t)
	api := l.API()
	page := get200(t, api, "/")
	for _, want := range []string{
		`<dt>stops</dt><dd>69</dd>`, `<dd class="unknown">1</dd>`, `<dt>neither clean nor unknown</dt><dd class="bad">3</dd>`, `<dt>requests cut</dt><dd class="bad">6 &#43; ?</dd>`,
		`<span class="unknown">1 unknown</span> <span class="clean">5 clean</span> <span class="bad">3 deadline</span>`,
		`2 pods with an agent are stopping.`, `>web-d2<`[1:7], `no answer`, `app: 3 requests in flight`, `rel="next"`, `OOMKilled`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
	if older := get200(t, api, "/"+html.UnescapeString(strings.TrimPrefix(next[1], "./"))); strings.Count(older, `href="drain?`) != 19 || strings.Contains(older, `rel="next"`) {
		t.Errorf("the second page has %d stops", strings.Count(older, `href="drain?`))
	}
	drain := get200(t, api, "/drain?id=b1")
	for _, want := range []string{`shop/web-b1 <span class="bad">deadline</span>`, `<polyline class="curve" points="0.0,90.0 15.0,90.0 15.0,0.0 `, `class="draining"`, `<td>&lt;b&gt;zero&lt;/b&gt; held`, `<td>unknown`} {
		if !strings.Contains(drain, want) {
			t.Errorf("the stop lacks %s", want)
		}
	}
	if page := get200(t, api, "/drain?id=c"); !strings.Contains(page, "nobody knows what was in flight") || strings.Contains(page, "<svg") {
		t.Error("an unknown stop has a curve")
	}
	if page := get200(t, api, "/?outcome=unknown&namespace=&last="); strings.Count(page, `href="drain?`) != 1 {
		t.Errorf("%d unknown", strings.Count(page, `href="drain?`))
	}
	for path, want := range map[string]int{"/drain?id=z": http.StatusNotFound, "/drain": http.StatusNotFound, "/?last=never": http.StatusBadRequest, "/?after=x": http.StatusBadRequest, "/?nonsense=1": http.StatusBadRequest} {
		if status, text := call(api, http.MethodGet, path); status != want || !strings.Contains(text, `role="alert"`) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	_ = l.store.Close()
	if status, text := call(api, http.MethodGet, "/"); status != http.StatusServiceUnavailable || !strings.Contains(text, "does not answer") || strings.Contains(text, "sql") {
		t.Errorf("store closed: %d %s", status, text)
	}
}

// What a stop that lasted long, or was cut, makes of the axes.
func TestChartsStayInTheirBox(t *testing.T) {
	for _, curve := range [][][2]int64{{{0, 0}}, {{0, 5}, {1 << 60, -3}}, {{900, 1}, {-5, 1 << 62}}} {
		c := newChart(curve, map[string]int64{"draining": 1 << 50}, &drainRow{})
		for point := range strings.FieldsSeq(c.Line + " " + c.Area) {
			var x, y float64
			if _, err := fmt.Sscanf(point, "%f,%f", &x, &y); err != nil || x < 0 || x > chartWidth || y < 0 || y > chartHeight {
				t.Errorf("%v: point %s", curve, point)
			}
		}
		if len(c.Ticks) > 12 {
			t.Errorf("%v: %d ticks", curve, len(c.Ticks))
		}
	}
}

// seen is what the browser says of the page.
type seen struct {
	Wider      bool // than the window, or a chart than its card
	Background string
	Heading    string
	Live       []string
	Unlabelled int // controls without a name
	FirstFocus string
}

const ask = `(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    Wider: document.documentElement.scrollWidth > document.documentElement.clientWidth || all(".wide").some((e) => e.scrollWidth > e.clientWidth), Background: getComputedStyle(document.body).backgroundColor,
    Heading: document.querySelector("h1").textContent, Live: all("#stopping tbody tr").map((r) => r.textContent),
    Unlabelled: all("input, select").filter((e) => e.labels.length === 0).length,
    FirstFocus: (all("a, button, input, select")[0] || {}).textContent || "",
  };
})()`

// In a real Chromium ($CHROMIUM, or chromium on PATH): at a phone's and a desk's width, light and dark, nothing is cut off, nothing is
// fetched from elsewhere, nobody complains, and the live view changes by itself. With -update the pictures of the docs are written.
func TestPageInARealBrowser(t *testing.T) {
	l := night(t)
	server := httptest.NewServer(l.API())
	defer server.Close()
	defer server.CloseClientConnections() // the live view ends with its viewer
	ctx := browsertest.Start(t)
	backgrounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		for width, name := range map[int64]string{390: "phone", 1280: "desk"} {
			for _, path := range []string{"/drain?id=b1", "/?workload=checkout"} {
				got, picture := look(t, ctx, server.URL, path, scheme, width)
				backgrounds[got.Background] = true
				if got.Wider || got.Unlabelled > 0 || got.Heading == "" {
					t.Errorf("%s %s %s: %+v", path, scheme, name, got)
				}
				if path != "/drain?id=b1" && (len(got.Live) != 2 || !strings.Contains(got.Live[0], "21 s")) {
					t.Errorf("live: %q", got.Live)
				}
				size, err := png.DecodeConfig(bytes.NewReader(picture))
				if err != nil || int64(size.Width) != width {
					t.Errorf("picture %+v, %v", size, err)
				}
				if *update {
					part := map[string]string{"/?workload=checkout": "stops", "/drain?id=b1": "stop"}[path]
					if err := os.WriteFile(filepath.Join("../../../../docs/images", "ledger-"+part+"-"+name+"-"+scheme+".png"), picture, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	if len(backgrounds) != 2 {
		t.Errorf("backgrounds %v: want one of each scheme", backgrounds)
	}
	l.mu.Lock()
	l.desk = &desk{pods: listed{}, now: time.Now, owner: l.desk.owner, ask: l.desk.ask}
	l.mu.Unlock()
	awaitSaid(t, ctx, "0 pods with an agent are stopping.true")
}

// Who comes when too many look already sees the live view as soon as there is room.
func TestLiveViewComesBack(t *testing.T) {
	l := night(t)
	for range liveViewers {
		l.live.viewers <- struct{}{}
	}
	server := httptest.NewServer(l.API())
	defer server.Close()
	defer server.CloseClientConnections()
	ctx := browsertest.Start(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/")); err != nil {
		t.Fatal(err)
	}
	awaitSaid(t, ctx, "The live view is away; it is tried again.false")
	<-l.live.viewers
	awaitSaid(t, ctx, "2 pods with an agent are stopping.false")
}

// awaitSaid waits until the page says so of the pods that stop, and whether their table is hidden.
func awaitSaid(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(5 * time.Minute); ; { // a starved machine
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("stopping-said").textContent + document.getElementById("stopping").hidden`))
		if err == nil && got == want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the live view says %q, %v; want %q", got, err, want)
		}
	}
}

func look(t *testing.T, ctx context.Context, base, path, scheme string, width int64) (seen, []byte) {
	t.Helper()
	return browsertest.Look[seen](ctx, t, base+path, scheme, width, func(url string) bool { return strings.HasPrefix(url, base+"/") || url == "data:," }, ask)
}

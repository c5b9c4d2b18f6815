package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/browsertest"
)

// The logs of four agents whose pods were replaced one after another under load: scripts/demo --parts=agent --pods=4 --keep=DIR.
const rolloutLogs = "testdata/rollout/*.jsonl"

// rendered is what the browser says of the page, after its own layout.
type rendered struct {
	Title, Heading string
	Facts          map[string]string // dt → dd
	Wider          bool              // than the window
	Background     string
	Drawings       []drawing
	Rows           [][]string
}

// verdict is what -o json says of one.
type verdict struct {
	Outcome       string
	TotalMS       int64 `json:"total_ms"`
	Phases        map[string]int64
	InFlightCurve [][2]int64 `json:"in_flight_curve"`
}

type drawing struct {
	Pod, Heading, Peak, Stroke string
	Length                     float64 // of the curve as drawn
	Inside                     bool    // the drawing's box
	Points                     [][2]float64
	Phases                     []string
	Titles                     []string
}

const ask = `(() => {
  const text = (e) => e.textContent.trim();
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  return {
    Title: document.title, Heading: text(document.querySelector("h1")),
    Facts: Object.fromEntries(all("dl div").map((d) => [text(d.querySelector("dt")), text(d.querySelector("dd"))])),
    Wider: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    Background: getComputedStyle(document.body).backgroundColor,
    Rows: all("tr").slice(1).map((r) => all("td", r).map(text)),
    Drawings: all("section").map((s) => {
      const line = s.querySelector("polyline.line"), svg = line.ownerSVGElement;
      const box = line.getBoundingClientRect(), frame = svg.getBoundingClientRect();
      return {
        Pod: svg.getAttribute("aria-label"), Heading: text(s.querySelector("h2")), Stroke: getComputedStyle(line).stroke,
        Peak: all("text", svg).map(text).find((t) => t.startsWith("peak")), Length: line.getTotalLength(),
        Inside: box.width > 0 && box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom,
        Points: [...line.points].map((p) => [p.x, p.y]),
        Phases: all("rect[class]", svg).filter((r) => r.getBoundingClientRect().width > 0).map((r) => r.getAttribute("class")),
        Titles: all("title", svg).map(text),
      };
    }),
  };
})()`

// TestPageInARealBrowser looks at the page of a real rollout with Chromium ($CHROMIUM, or chromium on PATH): everything is
// drawn, nothing is fetched, nobody complains, and the numbers are those of -o json. With -update it writes the pictures of the docs.
func TestPageInARealBrowser(t *testing.T) {
	logs, err := filepath.Glob(rolloutLogs)
	if err != nil || len(logs) < 4 {
		t.Fatalf("logs of a rollout: %v, %v", logs, err)
	}
	_, page, _ := drainctl(t, "", append([]string{"timeline", "-o", "html"}, logs...)...)
	_, facts, _ := drainctl(t, "", append([]string{"timeline", "-o", "json"}, logs...)...)
	var want struct {
		Drains []struct {
			Pod     string
			Verdict verdict
		}
		Rollout struct {
			Stops     int
			P50MS     int64 `json:"p50_ms"`
			P95MS     int64 `json:"p95_ms"`
			LongestMS int64 `json:"longest_ms"`
			Longest   string
		}
	}
	if err := json.Unmarshal([]byte(facts), &want); err != nil {
		t.Fatal(err)
	}
	backgrounds := map[string]bool{}
	for scheme, width := range map[string]int64{"light": 1000, "dark": 1000, "narrow": 400} {
		got := look(t, page, scheme, width)
		backgrounds[got.Background] = true
		if heading := fmt.Sprintf("%d pod stops", want.Rollout.Stops); got.Heading != heading || got.Title != heading {
			t.Errorf("%s: heading %q, title %q, want %q", scheme, got.Heading, got.Title, heading)
		}
		r := want.Rollout
		for fact, value := range map[string]string{
			"stop time, p50 · p95": fmt.Sprintf("%.1f s · %.1f s", float64(r.P50MS)/1000, float64(r.P95MS)/1000),
			"longest":              fmt.Sprintf("%.1f s %s", float64(r.LongestMS)/1000, r.Longest),
			"outcomes":             fmt.Sprintf("clean %d", r.Stops),
		} {
			if got.Facts[fact] != value {
				t.Errorf("%s: %s is %q, want %q", scheme, fact, got.Facts[fact], value)
			}
		}
		if got.Wider {
			t.Errorf("%s: the page is wider than a window of %d", scheme, width)
		}
		if len(got.Drawings) != len(want.Drains) || len(got.Rows) != len(want.Drains) {
			t.Fatalf("%s: %d drawings and %d rows of %d drains", scheme, len(got.Drawings), len(got.Rows), len(want.Drains))
		}
		for i, d := range want.Drains {
			judgeDrawing(t, got.Drawings[i], got.Rows[i], d.Pod, d.Verdict)
		}
	}
	if len(backgrounds) != 2 {
		t.Errorf("backgrounds %v: want one of the light and one of the dark scheme", backgrounds)
	}
}

// judgeDrawing compares the curve, point by point, and the words with the verdict that they show.
func judgeDrawing(t *testing.T, got drawing, row []string, pod string, v verdict) {
	t.Helper()
	stop := fmt.Sprintf("%.1f s", float64(v.TotalMS)/1000)
	if got.Heading != pod+" "+v.Outcome+" "+stop || row[0] != pod || row[2] != stop || row[3] != v.Outcome {
		t.Errorf("heading %q, row %q; want %s, %s, %s", got.Heading, row, pod, v.Outcome, stop)
	}
	if !got.Inside || got.Length < 50 || !strings.HasPrefix(got.Stroke, "rgb(") || !strings.Contains(got.Pod, pod) {
		t.Errorf("%s: curve %.0f long, inside its box: %v, colour %s, label %q", pod, got.Length, got.Inside, got.Stroke, got.Pod)
	}
	peak := int64(0)
	for _, point := range v.InFlightCurve {
		peak = max(peak, point[1])
	}
	if got.Peak != fmt.Sprintf("peak %d", peak) || len(got.Points) != 2*len(v.InFlightCurve)-1 {
		t.Fatalf("%s: %s, %d corners; want peak %d, two corners for each of %d samples", pod, got.Peak, len(got.Points), peak, len(v.InFlightCurve))
	}
	base, last := got.Points[len(got.Points)-1], v.InFlightCurve[len(v.InFlightCurve)-1]
	highest := slices.MinFunc(got.Points, func(a, b [2]float64) int { return int(math.Copysign(1, a[1]-b[1])) })
	zero := base[1] + (base[1]-highest[1])*float64(last[1])/float64(max(peak-last[1], 1))
	for i, sample := range v.InFlightCurve { // both axes are linear
		x, y := base[0]*float64(sample[0])/float64(last[0]), zero-(zero-highest[1])*float64(sample[1])/float64(peak)
		if at := got.Points[2*i]; math.Abs(at[0]-x) > 0.2 || math.Abs(at[1]-y) > 0.2 {
			t.Errorf("%s: sample %v is drawn at %v, want %.1f,%.1f", pod, sample, at, x, y)
		}
	}
	for phase := range v.Phases {
		if !slices.Contains(got.Phases, phase) && phase != "finished" {
			t.Errorf("%s: phase %s is not drawn", pod, phase)
		}
	}
	for _, hook := range []string{"app", "proxy"} {
		if !slices.ContainsFunc(got.Titles, func(title string) bool { return strings.HasPrefix(title, "hook "+hook+" held ") }) {
			t.Errorf("%s: hook %s is not drawn", pod, hook)
		}
	}
}

// look renders the page and returns what is there; complaints and requests of the page fail the test.
func look(t *testing.T, page, scheme string, width int64) rendered {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	prefers := map[bool]string{true: "dark", false: "light"}[scheme == "dark"]
	got, picture := browsertest.Look[rendered](browsertest.Start(t), t, address, prefers, width, func(url string) bool { return url == address }, ask)
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil || int64(size.Width) != width {
		t.Errorf("%s: picture %+v, %v", scheme, size, err)
	}
	if *update && scheme != "narrow" {
		if err := os.WriteFile(filepath.Join(docs, "images", "timeline-"+scheme+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

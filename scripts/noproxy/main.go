// Command noproxy stops pods without an Envoy as kubelet does, real servers and workers from PyPI and Debian, as people do it today and with
// drain-agent, in the same run, and writes the figures into the how-tos.
//
//	go run ./scripts/noproxy                 # about six minutes; root, Linux, and debootstrap, npm and node
//	go run ./scripts/noproxy -only Celery    # these pods; the others keep their figures
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func main() {
	pod.Helper()
	only := flag.String("only", "", "a regular expression of the pods to stop; the others keep their figures")
	installed := flag.Bool("install", false, "only install what the pods run, and say where")
	flag.Parse()
	err := error(nil)
	if *installed {
		var python string
		python, err = install(context.Background())
		fmt.Println(python)
	} else {
		err = run(context.Background(), regexp.MustCompile(*only))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "noproxy:", err)
		os.Exit(1)
	}
}

// figures is the file that the tables of the how-tos are made of.
const figures = "docs/images/no-proxy.tsv"

func run(ctx context.Context, only *regexp.Regexp) error {
	dir, err := os.MkdirTemp("", "np") // short: a Unix socket's path has 107 bytes
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := newLab(ctx, dir, ".")
	if err != nil {
		return err
	}
	if err := l.more(ctx); err != nil {
		return err
	}
	cells, err := l.cells(ctx)
	if err != nil {
		return err
	}
	before, _ := os.ReadFile(figures) // none is well the first time
	lines := make([]string, len(cells))
	var all sync.WaitGroup
	for i, c := range cells {
		play := func() {
			ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
			defer cancel()
			r, err := c.play(ctx)
			if err != nil {
				fmt.Fprintf(os.Stderr, "noproxy: %s, %s: %v\n", c.pod, c.how, err)
			}
			r.Pod, r.How = c.pod, c.how
			lines[i] = r.line()
			fmt.Println(lines[i])
		}
		if !only.MatchString(c.pod) {
			lines[i] = earlier(string(before), c.pod+"\t"+c.how+"\t")
		} else if c.alone {
			play()
		} else {
			all.Go(play)
		}
	}
	all.Wait()
	text := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(figures, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	return writePages(".", text)
}

// earlier is the line of an earlier run that begins so.
func earlier(text, begin string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return strings.TrimSpace(begin)
}

// cell is one way to stop one kind of pod.
type cell struct {
	pod, how string
	alone    bool // its figures are times: nothing else runs
	play     func(context.Context) (row, error)
}

// lengths are the streams that each pod holds when it is stopped.
var lengths = []string{"5", "30", "60", "120"}

// server is a kind of pod that serves: its streams take as many seconds as stand behind the path.
type server struct {
	name, holds, manifest string
	args                  []string // of inject
	path                  string
}

func (l *lab) cells(ctx context.Context) (all []cell, err error) {
	model, err := manifestOf(".", "inference.md")
	if err != nil {
		return nil, err
	}
	work, err := manifestOf(".", "workers.md")
	if err != nil {
		return nil, err
	}
	servers := []server{
		{"FastAPI on uvicorn", "token streams", model, nil, "/v1/completions?seconds="},
		{"gRPC (Python)", "token streams", grpcPod, nil, "grpc:"},
		{"Express on Node", "token streams", nodePod, nil, "/v1/completions?seconds="},
		{"nginx", "answers", nginxPod, []string{"--app-source=preset:nginx@http://127.0.0.1:8000"}, "/files/"},
	}
	const ours = "drain-agent, grace 150 s"
	for _, s := range servers {
		injected, err := l.inject(ctx, s.manifest, s.args...)
		if err != nil {
			return nil, err
		}
		var paths []string
		for _, seconds := range lengths {
			paths = append(paths, s.path+seconds)
		}
		for _, way := range [][2]string{
			{"sleep 15, grace 30 s", sleeping(s.manifest, "server", 15, 30)}, {"sleep 15, grace 150 s", sleeping(s.manifest, "server", 15, 150)}, {ours, injected},
		} {
			if way[0] != "sleep 15, grace 30 s" {
				all = append(all, cell{s.name + ", idle", way[0], true, func(ctx context.Context) (row, error) {
					return median(5, func() (row, error) { return l.serve(ctx, "idle", way[1]) })
				}})
			}
			all = append(all, cell{s.name + ", " + s.holds + " of 5, 30, 60 and 120 s", way[0], false, func(ctx context.Context) (row, error) { return l.serve(ctx, "streams", way[1], paths...) }})
			if s.name == "FastAPI on uvicorn" {
				all = append(all, cell{s.name + ", a subscription without end", way[0], false, func(ctx context.Context) (row, error) { return l.serve(ctx, "events", way[1], "/v1/events") }})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b cell) int {
		return cmp.Or(cmp.Compare(map[bool]int{false: 1}[a.alone], map[bool]int{false: 1}[b.alone]), strings.Compare(a.pod, b.pod))
	})
	for _, w := range []struct {
		server, name, image string
		busy                int
	}{{"celery", "Celery", "shop:1", 2}, {"rabbitmq", "Celery with RabbitMQ", "shop:1", 2}, {"rq", "RQ", "shop-on-rq:1", 1}, {"sidekiq", "Sidekiq", "shop-on-sidekiq:1", 2}} {
		manifest := strings.Replace(work, "shop:1", w.image, 1)
		ours, err := l.inject(ctx, sleeping(manifest, "worker", 0, 30))
		if err != nil {
			return nil, err
		}
		for _, way := range [][2]string{
			{"nothing, grace 30 s", sleeping(manifest, "worker", 0, 30)}, {"sleep 15, grace 30 s", sleeping(manifest, "worker", 15, 30)}, {"drain-agent, grace 30 s", ours},
		} {
			all = append(all, cell{w.name + ", jobs of 20 s", way[0], false, func(ctx context.Context) (row, error) {
				return l.work(ctx, w.server, way[1], w.server, 12, 20, w.busy, 8*time.Second)
			}})
		}
	}
	return all, nil
}

// median plays a cell several times and returns the row in the middle, by the pod's end.
func median(n int, play func() (row, error)) (row, error) {
	var rows []row
	for range n {
		r, err := play()
		if err != nil {
			return r, err
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b row) int { return int(a.Gone - b.Gone) })
	return rows[n/2], nil
}

func (r row) line() string {
	verdict := "–"
	if r.Verdict != nil {
		verdict = r.Verdict.Outcome
	}
	return strings.Join([]string{r.Pod, r.How, seconds(r.Signal), seconds(r.Gone), fmt.Sprint(r.Work), fmt.Sprint(r.Cut), verdict}, "\t")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// manifestOf is the first manifest on a page of the how-tos: what people copy is what is tried.
func manifestOf(root, page string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "how-to", page))
	if err != nil {
		return "", err
	}
	block := yamlBlock.FindSubmatch(text)
	if block == nil {
		return "", fmt.Errorf("%s has no manifest", page)
	}
	return string(block[1]), nil
}

// pages are the how-tos with the pods whose figures they show.
var pages = map[string]string{"inference.md": "^(FastAPI|gRPC|Express|nginx)", "workers.md": "^(Celery|RQ|Sidekiq)"}

var tableBlock = regexp.MustCompile(`(?s)<!-- figures -->\n.*?<!-- /figures -->`)

// table is a page's part of the figures.
func table(text, pods string) string {
	out := strings.Builder{}
	out.WriteString("<!-- figures -->\n| pod | stopped by | SIGTERM after | gone after | under way | cut | verdict |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 7 && regexp.MustCompile(pods).MatchString(f[0]) {
			fmt.Fprintf(&out, "| %s | %s | %s s | %s s | %s | %s | %s |\n", f[0], f[1], f[2], f[3], f[4], f[5], f[6])
		}
	}
	return out.String() + "<!-- /figures -->"
}

func writePages(root, text string) error {
	for page, pods := range pages {
		file := filepath.Join(root, "docs", "how-to", page)
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, tableBlock.ReplaceAllLiteral(old, []byte(table(text, pods))), 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	return nil
}

// Package browsertest opens our pages in a real Chromium, for tests.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Start starts a Chromium that ends with the test, as any user: without its own sandbox it runs as root too. The context is for [Look]
// and chromedp. Without a Chromium the test fails and says what installs one.
func Start(t *testing.T) context.Context {
	t.Helper()
	program := os.Getenv("CHROMIUM")
	if program == "" {
		found, err := exec.LookPath("chromium")
		if err != nil {
			t.Fatal("no chromium: scripts/setup installs it, or set CHROMIUM to a Chromium or Chrome")
		}
		program = found
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the process, whose folder is removed next
		end()
	})
	return ctx
}

// Look opens a page in a scheme, light or dark, and a width in pixels, and returns what a script says of it, as a T, and a picture of all
// of it (PNG). A complaint of the browser fails the test, and so does a request that is not ours.
func Look[T any](ctx context.Context, t *testing.T, address, scheme string, width int64, ours func(url string) bool, script string) (T, []byte) {
	t.Helper()
	var mu sync.Mutex // the browser's events come from another goroutine
	var complaints []string
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", address, what, err)
		}
	}
	check("listen", chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if !ours(e.Request.URL) {
				complaints = append(complaints, "asks for "+e.Request.URL)
			}
		}
	}))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	check("watch requests", err)
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	check("watch the console", err)
	_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	check("choose the scheme", err)
	check("open the page", chromedp.Do(ctx, chromedp.EmulateViewport(width, 800), chromedp.Navigate(address)))
	got, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	check("ask the page", err)
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	check("take a picture", err)
	mu.Lock()
	defer mu.Unlock()
	if len(complaints) > 0 {
		t.Errorf("%s %s: the browser says %q", address, scheme, complaints)
	}
	return got, picture
}

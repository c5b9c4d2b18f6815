package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	readTimeout = 5 * time.Second // when the caller's context allows more
	idleTimeout = 2 * time.Second // longer than any poll period of a drain, shorter than the idle sample's
)

// page is one URL of the app, read over one kept-alive connection.
type page struct {
	url    string
	accept string
	max    int64 // body, bytes
	client *http.Client
}

// splitURL cuts URL#fragment and checks the URL.
func splitURL(s string) (raw, fragment string, err error) {
	raw, fragment, _ = strings.Cut(s, "#")
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", "", fmt.Errorf("%q is no URL: want http://127.0.0.1:PORT/PATH", raw)
	}
	return raw, fragment, nil
}

// newPage returns a page that is fetched directly: no proxy from the environment, no redirects, no compression.
func newPage(raw, accept string, maxBytes int64) *page {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: readTimeout}).DialContext,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
	}
	return &page{url: raw, accept: accept, max: maxBytes, client: &http.Client{
		Transport:     transport,
		Timeout:       readTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *page) close() error {
	p.client.CloseIdleConnections()
	return nil
}

var errTooLarge = errors.New("the body is too large")

// fetch gets the page and hands its body to parse, which has to read it to the end.
// A body of more than p.max bytes ends in errTooLarge.
func (p *page) fetch(ctx context.Context, parse func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", p.accept)
	req.Header.Set("User-Agent", "drain-agent")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s, want 200", resp.Status)
	}
	return parse(&bounded{r: resp.Body, left: p.max})
}

// bounded reads at most left bytes and then fails, where an io.LimitedReader would pretend that the body ended.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

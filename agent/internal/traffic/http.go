package traffic

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/neterr"
)

const (
	readTimeout  = 5 * time.Second // when the caller's context allows more
	idleTimeout  = 2 * time.Second // longer than any poll period of a drain, shorter than the idle sample's
	maxRedirects = 3
)

// page is one URL of the app, read over one kept-alive connection.
type page struct {
	url    *url.URL
	login  string // Authorization for what stood in the URL; "" for none
	accept string
	max    int64 // body, bytes
	auth   *Auth // nil: none
	stamp  string
	client *http.Client
}

// splitURL cuts URL#fragment and checks the URL. Its errors do not repeat the URL, which may hold a password.
func splitURL(s string) (u *url.URL, fragment string, err error) {
	raw, fragment, _ := strings.Cut(s, "#")
	u, err = url.Parse(raw)
	if err != nil {
		return nil, "", fmt.Errorf("is no URL: %w", withoutURL(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, "", errors.New("is no URL: want http://127.0.0.1:PORT/PATH")
	}
	return u, fragment, nil
}

// withoutURL says what is wrong with a URL; where the text of the problem quotes a part of it, only that there is one.
func withoutURL(err error) error {
	err = neterr.Plain(err)
	if strings.Contains(err.Error(), `"`) {
		return errors.New("host, port or an escape in it cannot be read")
	}
	return err
}

// newPage returns a page that is fetched directly: no proxy from the environment, redirects on the same host only.
func newPage(u *url.URL, accept string, maxBytes int64) *page {
	p := &page{accept: accept, max: maxBytes}
	bare := *u
	if u.User != nil {
		password, _ := u.User.Password()
		p.login = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		bare.User = nil
	}
	p.url = &bare
	p.client = &http.Client{Transport: newTransport(), Timeout: readTimeout, CheckRedirect: p.mayRedirect}
	return p
}

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: readTimeout}).DialContext,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
	}
}

func (p *page) close() error {
	p.client.CloseIdleConnections()
	return nil
}

// mayRedirect follows to the same host, and shows our credentials to the same port only.
func (p *page) mayRedirect(to *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return errors.New("redirects again and again")
	case to.URL.Hostname() != first.Hostname():
		return errors.New("redirects to another host")
	case first.Scheme == "https" && to.URL.Scheme != "https":
		return errors.New("redirects from https to http")
	}
	if to.URL.Host != first.Host {
		to.Header = http.Header{"Accept": to.Header["Accept"], "User-Agent": to.Header["User-Agent"]}
	}
	to.Header.Del("Referer") // it would repeat the query
	return nil
}

var errTooLarge = errors.New("the body is too large")

// body is what a page answered.
type body struct {
	io.Reader
	kind   string // Content-Type
	framed bool   // its end is known: what is missing was not cut off
}

// fetch gets the page and hands its body to parse, which has to read it to the end.
// A body of more than p.max bytes ends in errTooLarge.
func (p *page) fetch(ctx context.Context, parse func(body) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String(), nil)
	if err != nil {
		return neterr.Plain(err)
	}
	if err := p.sign(req); err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		if err = neterr.Plain(err); strings.Contains(err.Error(), "Location header") {
			err = errors.New("redirects to what is no URL")
		}
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("answered %s: give it credentials, --app-auth-file=NAME=PATH", resp.Status)
	default:
		return fmt.Errorf("answered %s, want 200", resp.Status)
	}
	content := io.Reader(&bounded{r: resp.Body, left: p.max})
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip": // though nobody asked for it
		unzipped, err := gzip.NewReader(content)
		if err != nil {
			return neterr.Plain(err)
		}
		content = &bounded{r: unzipped, left: p.max}
	default:
		return fmt.Errorf("answered in Content-Encoding %q, which nobody asked for", encoding)
	}
	framed := resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.ProtoMajor > 1 || resp.Header.Get("Content-Encoding") == "gzip"
	return neterr.Plain(parse(body{Reader: content, kind: resp.Header.Get("Content-Type"), framed: framed}))
}

// sign puts the headers on a request, and takes up new credentials.
func (p *page) sign(req *http.Request) error {
	header, config, stamp, err := p.auth.load()
	if err != nil {
		return err
	}
	if stamp != p.stamp {
		p.stamp = stamp
		p.client.CloseIdleConnections()
		transport := newTransport()
		transport.TLSClientConfig = config
		p.client.Transport = transport
	}
	if p.login != "" {
		req.Header.Set("Authorization", p.login)
	}
	for name, values := range header {
		req.Header[name] = values
		if name == "Host" {
			req.Host = values[0]
		}
	}
	req.Header.Set("Accept", p.accept)
	req.Header.Set("User-Agent", "drain-agent")
	return nil
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

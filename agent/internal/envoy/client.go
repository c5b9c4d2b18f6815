package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	silence   = 2 * time.Second  // how long Envoy may say nothing: before the first byte of a reply and between two of them
	thinking  = 5 * time.Second  // the same where it makes a reply of many megabytes before it sends the first byte, and no reading waits
	wholeCall = 15 * time.Second // bounds a call when the caller's context does not end earlier; 100 MB of /clusters take Envoy about 4 s
)

// Client talks to the admin interface of one Envoy. Its methods may be called from several goroutines; Describe and Sample wait for each other.
type Client struct {
	base   string       // what stands before the path in a URL
	host   string       // "127.0.0.1:15000" or the socket's path: how Envoy's own clusters that lead back to admin are recognised
	reads  *http.Client // keeps one connection
	writes *http.Client // a new connection each time: a stale one must not look like Envoy's end

	mu       sync.Mutex
	view     *view       // never nil
	look     *job[*view] // at the configuration, under way
	lookNow  bool        // another Envoy may answer
	news     bool        // the view differs from the one before
	sampled  time.Time   // the newest Sample
	shown    shown       // used by one look after the other
	frequent time.Time   // since when one came within a second of the other
	renewed  time.Time   // the connection
	moved    changes     // as read last
	uptime   int64
	elder    string // what is unknown because an Envoy from before a hot restart lives
	whole    whole
	lost     lost
	price    prices
	account  account
	total    totals
	flush    flushed
}

// New returns a client for an admin address, "http://127.0.0.1:15000" or "unix:///path/admin.sock". It opens no connection.
func New(addr string) (*Client, error) {
	network, host, err := parseAddress(addr)
	if err != nil {
		return nil, fmt.Errorf("parse envoy admin address: %w; want http://HOST:PORT or unix:///PATH", err) // not shown here: it may hold a secret
	}
	dialer := &net.Dialer{Timeout: silence}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, host)
	}
	base := "http://" + host
	if network == "unix" {
		base = "http://envoy" // Envoy takes any Host over a Unix socket
	}
	return &Client{base: base, host: host, reads: httpClient(dial, true), writes: httpClient(dial, false), view: newView()}, nil
}

// Over returns a client whose requests go to a round tripper: where time is virtual, an Envoy answers without a socket.
func Over(envoy http.RoundTripper) *Client {
	c := &http.Client{Transport: envoy}
	return &Client{base: "http://envoy", host: "envoy", reads: c, writes: c, view: newView()}
}

func httpClient(dial func(context.Context, string, string) (net.Conn, error), keepAlive bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, Proxy: nil, DisableCompression: true, DisableKeepAlives: !keepAlive,
			// One idle connection: net/http repeats a GET once per stale pooled connection, so at most once.
			MaxIdleConns: 1, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func parseAddress(addr string) (network, host string, err error) {
	u, err := url.Parse(addr)
	switch {
	case err != nil:
		return "", "", errors.New("not a URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", "", errors.New("user, query and fragment have no meaning here")
	case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1:
		return "unix", u.Path, nil
	case u.Scheme == "unix":
		return "", "", errors.New("the socket's path must be absolute")
	case u.Scheme != "http":
		return "", "", fmt.Errorf("scheme %q is unknown", u.Scheme)
	case strings.Trim(u.Path, "/") != "":
		return "", "", errors.New("a path has no meaning here")
	case u.Hostname() == "":
		return "", "", errors.New("host is missing")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return "", "", fmt.Errorf("port %q is not between 1 and 65535", u.Port())
	}
	return "tcp", u.Host, nil
}

// Close drops the pooled connection. The client must not be used afterwards.
func (c *Client) Close() {
	c.reads.CloseIdleConnections()
	c.writes.CloseIdleConnections()
}

// get asks for path and hands the body of a 200 to read, which must consume it. It returns how long Envoy was waited for, also when it fails.
func (c *Client) get(ctx context.Context, path string, read func(io.Reader) error) (time.Duration, error) {
	return c.ask(ctx, silence, path, read)
}

func (c *Client) ask(ctx context.Context, silence time.Duration, path string, read func(io.Reader) error) (time.Duration, error) {
	op, _, _ := strings.Cut("GET "+path, "?")
	ctx, cancel := context.WithTimeout(ctx, wholeCall)
	defer cancel()
	impatience := time.AfterFunc(silence, cancel)
	defer impatience.Stop()
	start := time.Now()
	resp, err := c.do(ctx, c.reads, http.MethodGet, path)
	waited := time.Since(start)
	if err != nil {
		return waited, failed(op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return waited, &Error{Failure: Status, Op: op, Code: resp.StatusCode, Err: statusError(resp)}
	}
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 { // Envoy never answers so
		return waited, failed(op, errors.New("nothing tells the answer's end from its loss: it has no length and is not chunked"))
	}
	if err := read(&lively{resp.Body, impatience, silence, &waited}); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return waited, failed(op, err)
	}
	return waited, nil
}

// lively is a body that puts the end off with every byte that comes, and adds up how long was waited for them: what becomes of them here takes none of Envoy's time.
type lively struct {
	io.Reader
	end     *time.Timer
	silence time.Duration
	waited  *time.Duration
}

func (l *lively) Read(p []byte) (int, error) {
	began := time.Now()
	n, err := l.Reader.Read(p)
	if *l.waited += time.Since(began); n > 0 {
		l.end.Reset(l.silence)
	}
	return n, err
}

func (c *Client) do(ctx context.Context, with *http.Client, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	return with.Do(req)
}

// statusError reports a status with the first words of Envoy's own explanation.
func statusError(resp *http.Response) error {
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 120))
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	if resp.StatusCode == http.StatusForbidden {
		return fmt.Errorf("%s; if the admin interface has allow_paths, add to them: allow_paths: {prefix: %q}", resp.Status, resp.Request.URL.Path)
	}
	return fmt.Errorf("%s %q", resp.Status, line)
}

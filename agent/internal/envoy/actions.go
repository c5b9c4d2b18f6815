package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
)

// FailHealthCheck makes Envoy answer /ready with 503 and put "Connection: close" on the next response of every connection, inbound and outbound, whatever the drain strategy. PassHealthCheck undoes it.
func (c *Client) FailHealthCheck(ctx context.Context) error { return c.post(ctx, "/healthcheck/fail") }

// PassHealthCheck undoes FailHealthCheck. It does not undo DrainListeners: nothing does.
func (c *Client) PassHealthCheck(ctx context.Context) error { return c.post(ctx, "/healthcheck/ok") }

// DrainListeners starts the graceful drain of inbound listeners, or of all listeners, that never stops accepting: the one form that means the same in every release.
// It cannot be undone. inboundOnly does nothing in an Envoy whose listeners state no direction (see [Description].Directed).
func (c *Client) DrainListeners(ctx context.Context, inboundOnly bool) error {
	if inboundOnly {
		return c.post(ctx, "/drain_listeners?inboundonly&graceful&skip_exit")
	}
	return c.post(ctx, "/drain_listeners?graceful&skip_exit")
}

// Quit ends the Envoy process; requests in flight are cut. An Envoy that hangs up instead of answering has obeyed.
func (c *Client) Quit(ctx context.Context) error {
	err := c.post(ctx, "/quitquitquit")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// Ready reports whether Envoy's /ready says LIVE. A 503 is an answer (false, nil); an error means that there was none.
func (c *Client) Ready(ctx context.Context) (bool, error) {
	_, err := c.get(ctx, "/ready", func(body io.Reader) error {
		_, err := io.Copy(io.Discard, io.LimitReader(body, 1<<10))
		return err
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Code == http.StatusServiceUnavailable {
		return false, nil
	}
	return err == nil, err
}

// post calls a mutating path. All of ours are idempotent, so the caller may repeat one that failed.
func (c *Client) post(ctx context.Context, path string) error {
	op, _, _ := strings.Cut("POST "+path, "?")
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	resp, err := c.do(ctx, c.writes, http.MethodPost, path)
	if err != nil {
		return failed(op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &Error{Failure: Status, Op: op, Code: resp.StatusCode, Err: statusError(resp)}
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)); err != nil {
		return failed(op, fmt.Errorf("read reply: %w", err))
	}
	return nil
}

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxReply bounds what the client reads of a reply. A status with a full timeline is about 100 KiB.
const maxReply = 4 << 20

// Client talks to an agent over its control socket.
type Client struct{ http *http.Client }

// NewClient returns a client of the agent whose control socket is at path. Nothing is opened before the first call.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Hook calls the stop hook of a container and blocks until the agent lets the container go. Nothing but ctx bounds the wait.
// An error means that no agent answered; what calls a hook should not fail for that reason alone.
func (c *Client) Hook(ctx context.Context, container string) (HookAnswer, error) {
	var answer HookAnswer
	body, err := c.do(ctx, http.MethodGet, "/prestop/"+url.PathEscape(container), nil)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil {
		return answer, fmt.Errorf("call the hook of %q: %w", container, err)
	}
	return answer, nil
}

// Operate asks the agent for a verb, drain, undrain or finish, and returns what it says happens now. The reason goes to its log.
// An error is either the agent's refusal, in its own words, or says why it could not be asked.
func (c *Client) Operate(ctx context.Context, verb, reason string) (string, error) {
	request, err := json.Marshal(operateRequest{Reason: reason})
	if err != nil {
		return "", err
	}
	var reply operateReply
	body, err := c.do(ctx, http.MethodPost, "/"+url.PathEscape(verb), request)
	if err == nil {
		err = json.Unmarshal(body, &reply)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", verb, err)
	}
	return reply.Message, nil
}

// Status returns the agent's status as its JSON text.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	body, err := c.do(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return bytes.TrimSpace(body), nil
}

// Watch hands the status to show once every period until ctx ends or the agent is gone, which is how a watch normally ends,
// or show returns an error. It returns the error of whichever came first.
func (c *Client) Watch(ctx context.Context, period time.Duration, show func(json.RawMessage) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		status, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if err := show(status); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// do returns the body of a 200 reply. Everything else is an error.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (reply []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://drain-agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	reply, err = io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, refusal(res, reply)
	}
	return reply, nil
}

// refusal is the agent's own sentence where it gave one.
func refusal(res *http.Response, body []byte) error {
	var said operateReply
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		return errors.New(said.Error)
	}
	return fmt.Errorf("the agent answered %s: %.200s", res.Status, bytes.TrimSpace(body))
}

// unwrapURL drops the made-up URL from the error; "dial unix /path: …" already says which agent was meant.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

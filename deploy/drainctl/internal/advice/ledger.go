package advice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Row is what is read of a row of the controller's ledger.
type Row struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Workload  struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"workload"`
	Outcome string          `json:"outcome"`
	TotalMS *int64          `json:"total_ms"`
	GraceS  *int64          `json:"grace_period_s"`
	Verdict json.RawMessage `json:"verdict"`
}

// Stop is the row as a stop.
func (r *Row) Stop() Stop {
	s := Stop{Pod: r.Pod, Outcome: r.Outcome, TotalMS: Possible(r.TotalMS), GraceS: r.GraceS}
	for line, err := range timeline.Decode(bytes.NewReader(r.Verdict)) {
		if err == nil && line.Verdict != nil {
			s.Read(line.Verdict)
		}
	}
	return s
}

// mostRows bounds what is read.
const mostRows = 100_000

// Ledger reads the rows that answer a query, page by page, from a controller's address. authorization may be "".
func Ledger(ctx context.Context, address, authorization string, query url.Values) (rows []Row, err error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" {
		return nil, errors.New("--from: not the address of a controller; write http://HOST:PORT")
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if to.URL.Host != via[0].URL.Host || len(via) > 3 {
			return http.ErrUseLastResponse // a login page is no ledger, and gets no token
		}
		return nil
	}}
	query.Set("limit", "1000")
	query.Set("pod_stopped", "true")
	for {
		var page struct {
			Drains []Row   `json:"drains"`
			Next   *string `json:"next"`
		}
		if err := get(ctx, client, base.JoinPath("api/v1/drains"), query, authorization, &page); err != nil {
			return nil, err
		}
		rows = append(rows, page.Drains...)
		if page.Next == nil || len(rows) >= mostRows {
			return rows, nil
		}
		query.Set("after", *page.Next)
	}
}

func get(ctx context.Context, client *http.Client, at *url.URL, query url.Values, authorization string, into any) error {
	at.RawQuery = query.Encode()
	reply, err := Ask(ctx, client, at, authorization)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, 64<<20))
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", reply.Status, strings.TrimSpace(string(body[:min(len(body), 300)])))
	}
	if err == nil {
		if err = json.Unmarshal(body, into); err != nil {
			err = errors.New("its answer is not the ledger's; is the controller's --api there (ledger.api of the chart)?")
		}
	}
	if err != nil {
		return fmt.Errorf("ask the controller at %s: %w", at.Host, err)
	}
	return nil
}

// Ask sends one GET to a controller and returns its answer, whatever its status. authorization may be "". Errors name the host alone: the
// address may hold a password.
func Ask(ctx context.Context, client *http.Client, at *url.URL, authorization string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the controller at %s: the address cannot be used", at.Host)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	reply, err := client.Do(request)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return nil, fmt.Errorf("ask the controller at %s: %w", at.Host, err)
	}
	return reply, nil
}

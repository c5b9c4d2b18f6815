package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/advice"
)

// stopping is what the controller's live view says.
type stopping struct {
	Said string `json:"said"`
	List []struct {
		Pod      string `json:"pod"`
		Workload string `json:"workload"`
		Phase    string `json:"phase"`
		Left     string `json:"left"`
		InFlight string `json:"in_flight"`
		Waiting  string `json:"waiting"`
	} `json:"list"`
}

func topCommand() *cobra.Command {
	var from, namespace, tokenFile string
	var once bool
	cmd := &cobra.Command{
		Use:   "top --from=CONTROLLER",
		Short: "Follow the pods that stop right now",
		Long: `Shows the pods with an agent that are stopping, once a second: phase, time left, what is in flight and what each waits for, as
drain-controller's page does. The controller asks their agents while somebody looks.`,
		Example: "  kubectl -n drain-system port-forward service/drain-controller 8082 &\n  drainctl top --from=http://127.0.0.1:8082 -n shop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			wipe := ""
			if file, ok := out.(*os.File); ok && !once {
				if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
					wipe = "\x1b[H\x1b[2J" // to the top of an empty screen
				}
			}
			return follow(cmd.Context(), from, tokenFile, func(s stopping) (more bool, err error) {
				_, err = io.WriteString(out, wipe+drawStopping(s, namespace))
				return !once, err
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "", "address of a controller: http://HOST:PORT")
	fl.StringVarP(&namespace, "namespace", "n", "", "of the pods; all without it")
	fl.StringVar(&tokenFile, "token-file", "", "file with the bearer token that the proxy before the controller asks for")
	fl.BoolVar(&once, "once", false, "show it once and end")
	return cmd
}

// follow reads server-sent events until show has seen enough.
func follow(ctx context.Context, from, tokenFile string, show func(stopping) (more bool, err error)) error {
	base, err := url.Parse(from)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return errors.New("--from: not the address of a controller; write http://HOST:PORT")
	}
	authorization := ""
	if tokenFile != "" {
		text, err := os.ReadFile(tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		authorization = "Bearer " + strings.TrimSpace(string(text))
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	reply, err := advice.Ask(ctx, client, base.JoinPath("live"), authorization)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK || !strings.HasPrefix(reply.Header.Get("Content-Type"), "text/event-stream") {
		return fmt.Errorf("ask the controller at %s: %s; is its page there (ledger.api of the chart)?", base.Host, reply.Status)
	}
	lines := bufio.NewScanner(reply.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		var s stopping
		if !ok || json.Unmarshal([]byte(text), &s) != nil {
			continue
		}
		if more, err := show(s); err != nil || !more {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // whoever looked has seen enough
	}
	return fmt.Errorf("the controller at %s ended the view: %w", base.Host, errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

func drawStopping(s stopping, namespace string) string {
	var out strings.Builder
	fmt.Fprintln(&out, s.Said)
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	if len(s.List) > 0 {
		fmt.Fprintln(t, "POD\tWORKLOAD\tPHASE\tLEFT\tIN FLIGHT\tWAITS FOR")
	}
	for _, p := range s.List {
		if namespace == "" || strings.HasPrefix(p.Pod, namespace+"/") {
			fmt.Fprintln(t, strings.Join([]string{p.Pod, p.Workload, p.Phase, p.Left, p.InFlight, p.Waiting}, "\t"))
		}
	}
	_ = t.Flush() // into memory
	return out.String()
}

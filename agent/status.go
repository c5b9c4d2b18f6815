package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
)

type statusCmd struct {
	socketFlag
	Watch  bool   `short:"w" env:"-" help:"Show it again every half second: redrawn in a terminal, a line each elsewhere."`
	Output string `short:"o" env:"-" enum:"text,json" default:"text" help:"text or json."`
}

// Run shows the status once, or until interrupted.
func (s *statusCmd) Run(out output) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	redraw := s.Watch && s.Output == "text" && isTerminal(out.stdout)
	show := func(reply json.RawMessage) error {
		if s.Output == "json" {
			_, err := fmt.Fprintln(out.stdout, strings.TrimSpace(string(reply)))
			return err
		}
		var st conductor.Status
		if err := json.Unmarshal(reply, &st); err != nil {
			return fmt.Errorf("read status: %v", err)
		}
		if !s.Watch || redraw {
			if redraw {
				fmt.Fprint(out.stdout, "\033[H\033[2J")
			}
			return page(out.stdout, &st)
		}
		_, err := fmt.Fprintln(out.stdout, oneLine(&st))
		return err
	}
	if s.Watch {
		if err := s.client().Watch(ctx, 500*time.Millisecond, show); ctx.Err() == nil {
			return err
		}
		return nil // interrupted, as meant
	}
	reply, err := s.client().Status(ctx)
	if err != nil {
		return err
	}
	return show(reply)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func oneLine(st *conductor.Status) string {
	text := fmt.Sprintf("%s %s  proxy %s  app %s", st.Phase, seconds(st.SinceMS), side(st.Proxy), side(st.App))
	if st.LeftMS != nil {
		text += "  left " + seconds(*st.LeftMS)
	}
	if st.Waiting != "" {
		text += "  waiting for " + st.Waiting
	}
	return text
}

// page is the status for people: who blocks, how long it may take, who waits.
func page(w io.Writer, st *conductor.Status) error {
	var b strings.Builder
	fmt.Fprintf(&b, "phase     %s for %s\n", st.Phase, seconds(st.SinceMS))
	if st.Trigger != "" {
		fmt.Fprintf(&b, "trigger   %s\n", st.Trigger)
	}
	if st.LeftMS != nil {
		fmt.Fprintf(&b, "left      %s until the last hook is answered\n", seconds(*st.LeftMS))
	}
	fmt.Fprintf(&b, "proxy     %s\napp       %s\n", side(st.Proxy), side(st.App))
	if st.Score != nil {
		fmt.Fprintf(&b, "score     %.3f\n", *st.Score)
	}
	if st.Waiting != "" {
		fmt.Fprintf(&b, "waiting   for %s\n", st.Waiting)
	}
	for _, h := range st.Hooks {
		state := "held for"
		if h.Answered {
			state = "answered after"
		}
		fmt.Fprintf(&b, "hook      %s %s %s\n", h.Container, state, seconds(h.HeldMS))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func side(s conductor.SideStatus) string {
	if s.InFlight == nil {
		return "unknown"
	}
	text := fmt.Sprintf("%d in flight", *s.InFlight)
	if !s.Known {
		text += " (stale)"
	}
	if s.Rung != "" {
		text += " by " + s.Rung
	}
	return text
}

func seconds(ms int64) string { return fmt.Sprintf("%.1fs", float64(ms)/1000) }

package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// progress shows what goes on: one line that is redrawn in a terminal, a line every 5 s elsewhere.
type progress struct {
	out      *os.File
	terminal bool
	began    time.Time

	mu   sync.Mutex
	text func() string
	last string
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	p := &progress{
		out: out, began: time.Now(), text: func() string { return "" },
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	period := 5 * time.Second
	if p.terminal {
		period = 200 * time.Millisecond
	}
	go p.repeat(period) // to the end of the process
	return p
}

func (p *progress) repeat(period time.Duration) {
	for range time.Tick(period) {
		p.mu.Lock()
		p.draw()
		p.mu.Unlock()
	}
}

// say shows a line of text.
func (p *progress) say(text string) { p.set(func() string { return text }) }

// part shows what a part does, and the counts of its load where there is one.
func (p *progress) part(part string, load *openloop.Generator, format string, args ...any) {
	doing, began := fmt.Sprintf(format, args...), time.Now()
	p.set(func() string {
		line := fmt.Sprintf("%s: %s, %.0f s", titles()[part], doing, time.Since(began).Seconds())
		if load != nil {
			s := load.Snapshot()
			line += fmt.Sprintf(" | %d requests, %d under way, %d failed", s.Sent, s.UnderWay, s.Failed)
		}
		return line
	})
}

func (p *progress) set(text func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	p.draw()
}

// clear removes the line from a terminal.
func (p *progress) clear() {
	p.say("")
}

func (p *progress) draw() {
	text := p.text()
	if text == p.last {
		return
	}
	p.last = text
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r\033[K%s", text)
	case text != "":
		fmt.Fprintf(p.out, "[%3.0f s] %s\n", time.Since(p.began).Seconds(), text)
	}
}

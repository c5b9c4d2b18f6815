package timeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

// Line is one line of the log: exactly one of its fields is set.
type Line struct {
	Event   *Event
	Verdict *Verdict
}

// MarshalJSON returns the JSON of the field that is set.
func (l Line) MarshalJSON() ([]byte, error) {
	switch {
	case l.Event != nil:
		return l.Event.MarshalJSON()
	case l.Verdict != nil:
		return l.Verdict.MarshalJSON()
	}
	return []byte("null"), nil
}

// Text returns the text of the field that is set.
func (l Line) Text() string {
	switch {
	case l.Event != nil:
		return l.Event.Text()
	case l.Verdict != nil:
		return l.Verdict.Text()
	}
	return ""
}

// maxLine is the longest line that Decode considers, in bytes; ours are far shorter.
const maxLine = 256 << 10

// Decode returns the timeline's lines in r, which may be mixed with other logs: lines that are not ours, damaged or
// longer than 256 KiB are skipped. Whatever stands before the first brace of a line is ignored, so the prefixes of
// kubectl logs (--timestamps, --prefix) and of a node's log files do no harm.
//
// The only error is one of reading r; it is the last pair.
func Decode(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		in := bufio.NewReaderSize(r, 16<<10)
		for {
			raw, err := readLine(in)
			if line, ok := decodeLine(raw); ok && !yield(line, nil) {
				return
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
		}
	}
}

// readLine returns the next line, or nothing of it when it is too long; with an error, what came before it.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxLine; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func decodeLine(raw []byte) (Line, bool) {
	start := bytes.IndexByte(raw, '{')
	if start < 0 {
		return Line{}, false
	}
	raw = raw[start:]
	var kind struct {
		Msg  string    `json:"msg"`
		Time time.Time `json:"time"`
	}
	if json.Unmarshal(raw, &kind) != nil {
		return Line{}, false
	}
	switch kind.Msg {
	case msgEvent:
		return decodeEvent(raw, kind.Time)
	case msgVerdict:
		return decodeVerdict(raw, kind.Time)
	}
	return Line{}, false
}

func decodeEvent(raw []byte, at time.Time) (Line, bool) {
	var w wireEvent
	if json.Unmarshal(raw, &w) != nil || w.Seq == nil || w.ElapsedMS == nil {
		return Line{}, false
	}
	return Line{Event: &Event{
		Time: at, Level: w.Level, Seq: *w.Seq, ElapsedMS: *w.ElapsedMS,
		From: w.From, To: w.To, Reason: w.Reason,
		ProxyInFlight: w.ProxyInFlight, ProxyRung: w.ProxyRung,
		AppInFlight: w.AppInFlight, AppSource: w.AppSource,
		Connections: w.Connections, Score: w.Score,
		Action: w.Action, Result: w.Result, LeftMS: w.LeftMS,
	}}, true
}

func decodeVerdict(raw []byte, at time.Time) (Line, bool) {
	var w wireVerdict
	if json.Unmarshal(raw, &w) != nil || w.Outcome == nil || w.TotalMS == nil {
		return Line{}, false
	}
	return Line{Verdict: &Verdict{
		Time: at, Level: w.Level, Outcome: *w.Outcome, TotalMS: *w.TotalMS,
		Phases: w.Phases, InFlightCurve: w.InFlightCurve,
		NewConnectionsAfterT0: w.NewConnectionsAfterT0,
		IdleConnectionsLeft:   w.IdleConnectionsLeft,
		ArrivalsAfterRelease:  w.ArrivalsAfterRelease,
		Score:                 w.Score, HeldLongest: w.HeldLongest, Cut: w.Cut,
		Trigger: w.Trigger, Reason: w.Reason,
		ArrivalsCurve: w.ArrivalsCurve, RequestsPerSecond: w.RequestsPerSecond,
	}}, true
}

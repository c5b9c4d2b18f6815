package timeline

import (
	"bytes"
	"encoding/json"
	"math"
	"time"
)

// Levels of a line. A warning needs a person's eye but changed nothing for clients; an error may have.
const (
	LevelInfo  = "info"
	LevelWarn  = "warn"
	LevelError = "error"
)

// Event is one fact of a drain. Its JSON is described in the package documentation.
//
// A nil pointer is a reading that nobody could take, never a zero.
// What the pointers point at must not change after the event was handed to a [Recorder].
type Event struct {
	Time      time.Time // wall clock
	Level     string    // [LevelInfo], [LevelWarn] or [LevelError]
	Seq       int       // 1, 2, 3 … per process; set by [Recorder.Record]
	ElapsedMS int64     // milliseconds since T0, the moment of the first trigger

	From, To string // phase before and after this fact; equal when it changed no phase
	Reason   string // why, in words

	ProxyInFlight *int64   // requests in flight at the proxy
	ProxyRung     string   // which rung of the proxy ladder was read
	AppInFlight   *int64   // requests in flight in the app
	AppSource     string   // which app source was read
	Connections   *int64   // inbound connections open at the proxy
	Score         *float64 // requests that stopping now is expected to hit

	Action string // what was done: a lever's name, or what [Hold], [Answer] and [WouldAnswer] return
	Result string // how it ended; empty while it has not, or when nothing was done
	LeftMS *int64 // milliseconds left until the drain's deadline; nil when none is set
}

// Hold is the Action of an event that says: the hook of this container arrived and is held from now on.
func Hold(container string) string { return holdVerb + container }

// Answer is the Action of an event that says: the hook of this container was answered.
func Answer(container string) string { return answerVerb + container }

// WouldAnswer is the Action of an event in observe mode that says: by our rules this hook would be answered now.
func WouldAnswer(container string) string { return wouldVerb + container }

const (
	holdVerb   = "hold "
	answerVerb = "answer "
	wouldVerb  = "would answer "
)

const (
	msgEvent   = "drain"
	msgVerdict = "verdict"
)

// timeLayout keeps every line's time equally wide.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// wireEvent is the order and the names of an event's keys.
type wireEvent struct {
	Time          string   `json:"time"`
	Level         string   `json:"level"`
	Msg           string   `json:"msg"`
	Seq           *int     `json:"seq"`
	ElapsedMS     *int64   `json:"elapsed_ms"`
	From          string   `json:"from"`
	To            string   `json:"to"`
	Reason        string   `json:"reason"`
	ProxyInFlight *int64   `json:"proxy_in_flight"`
	ProxyRung     string   `json:"proxy_rung"`
	AppInFlight   *int64   `json:"app_in_flight"`
	AppSource     string   `json:"app_source"`
	Connections   *int64   `json:"connections"`
	Score         *float64 `json:"score"`
	Action        string   `json:"action"`
	Result        string   `json:"result"`
	LeftMS        *int64   `json:"left_ms"`
}

// MarshalJSON writes the keys of the public contract, in their order. It never fails.
func (e Event) MarshalJSON() ([]byte, error) {
	return encode(wireEvent{
		Time: e.Time.UTC().Format(timeLayout), Level: e.Level, Msg: msgEvent,
		Seq: &e.Seq, ElapsedMS: &e.ElapsedMS,
		From: e.From, To: e.To, Reason: e.Reason,
		ProxyInFlight: e.ProxyInFlight, ProxyRung: e.ProxyRung,
		AppInFlight: e.AppInFlight, AppSource: e.AppSource,
		Connections: e.Connections, Score: finite(e.Score),
		Action: e.Action, Result: e.Result, LeftMS: e.LeftMS,
	})
}

// encode is json.Marshal without HTML escaping: "->" and "<" stay readable in a log.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// finite turns a score that is no number, which JSON cannot carry, into an unknown one.
func finite(f *float64) *float64 {
	if f == nil || math.IsNaN(*f) || math.IsInf(*f, 0) {
		return nil
	}
	return f
}

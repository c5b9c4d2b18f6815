package drain

import "time"

// Actions is a set of things to do outside the core. Each ends in an Input of kind Acted.
type Actions uint8

// The actions.
const (
	FailHealth   Actions = 1 << iota // POST /healthcheck/fail: reversible, both directions
	PassHealth                       // POST /healthcheck/ok: undoes it
	DrainInbound                     // POST /drain_listeners: cannot be undone
	TellApp                          // the app's drain URL
	HandOver                         // the drain of the Envoy's owner
	Quit                             // POST /quitquitquit
)

var actionNames = [...]string{"healthcheck_fail", "healthcheck_ok", "drain_listeners", "app_drain", "handover", "quit_proxy"}

// Each calls do for every single action of the set, in the order in which they must be carried out.
func (a Actions) Each(do func(Actions)) {
	for i := range actionNames {
		if one := Actions(1) << i; a&one != 0 {
			do(one)
		}
	}
}

// String returns the names of the actions, joined with a plus.
func (a Actions) String() string {
	text := ""
	a.Each(func(one Actions) {
		for i, name := range actionNames {
			if one == 1<<i {
				if text != "" {
					text += "+"
				}
				text += name
			}
		}
	})
	return text
}

// Decision is what the outside has to do now.
type Decision struct {
	From, To Phase
	Why      Why           // of the change of phase, or of the verdict
	Waiting  Why           // what keeps the drain where it is
	Release  Set           // hooks to answer now
	Would    Set           // observe mode: hooks that would have been answered now
	Do       Actions       // to be carried out in order; an attempt that fails is asked for again
	Looks    Looks         // how often to read each source from now on
	Sample   bool          // read all sources once
	Wake     time.Duration // call Step with a Tick at this time if nothing comes before; Never only with Exit
	Verdict  Outcome       // not None: this drain is over; write its verdict
	Exit     bool          // the process has nothing more to do, and need not call Step again
	more     bool          // Step must be called again at once
}

// Why is a reason as data; Text makes it readable.
type Why struct {
	Code Code
	Who  ID            // container, or source where the code says so
	N    int64         // a count, where the code has one
	For  time.Duration // a time, where the code has one
}

// Code names the rule behind a decision.
type Code uint8

// The rules.
const (
	NoReason Code = iota
	OneFact
	OwnSignal
	SecondFact
	OnlyHook
	OneContainer
	RestartIdle
	RestartMaxOver
	RestartGone
	Slept
	Observing
	AskedToDrain
	AskedToUndrain
	AskedToFinish
	NoNewConnections
	AnnounceMaxOver
	InMaintenance
	ProxyBusy
	ProxyUnknown
	BytesUnderWay
	BytesUnknown
	AppBusy
	AppUnknown
	Propagating
	NewConnectionsCome
	RequestAwaited
	ArrivalsUnknown
	ScoreHigh
	SettledZero
	QuietMaxOver
	SettleTime
	SettledUncounted
	DrainMaxOver
	BudgetOver
	GraceOver
	ProxyGone
	AppGone
	StageGone
	StageCapped
	EndUnseen
	StageUncalled
	StageOutlives
	WaitingForEnd
	LastBytes
	HandingOver
	AllStagesOver
	WaitingForSignal
	NeverSignalled
	CalledAgain
	Ended
	AlreadyTold
)

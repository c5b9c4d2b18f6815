package timeline

// Termination returns the verdict as JSON of at most limit bytes, for a container's termination message (the API keeps 12 KiB
// for all containers of a pod together). It has no curves; what does not fit is left out: first the ends of the texts, then what
// was cut and the phases. It is valid JSON always, and {} when even the outcome does not fit.
func (v Verdict) Termination(limit int) string {
	v.InFlightCurve, v.ArrivalsCurve, v.RequestsPerSecond = nil, nil, nil
	if s := v.json(); len(s) <= limit {
		return s
	}
	for _, text := range []int{256, 64, 16, 0} {
		v.Reason, v.Trigger = clip(v.Reason, text), clip(v.Trigger, text)
		v.HeldLongest, v.Outcome = clip(v.HeldLongest, text), clip(v.Outcome, max(text, 32))
		if s := v.json(); len(s) <= limit {
			return s
		}
	}
	v.Cut, v.Phases = nil, nil
	if s := v.json(); len(s) <= limit {
		return s
	}
	return "{}"
}

func (v Verdict) json() string {
	b, err := v.MarshalJSON()
	if err != nil { // cannot happen: every field is one that JSON can carry
		return "{}"
	}
	return string(b)
}

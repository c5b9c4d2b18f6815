package timeline

// Text returns the event as one line for people.
func (e Event) Text() string { return e.Reason }

// Text returns the verdict as one line for people.
func (v Verdict) Text() string { return v.Reason }

package promises

// promises are all of them, in the order of the page.
var promises = []struct {
	name string
	kept func(*Watch, *Pod, *Decision) string // says how it was broken
}{
	{"answeredForAReason", answeredForAReason},
	{"nothingAfterTheEnd", nothingAfterTheEnd},
	{"unknownHolds", unknownHolds},
	{"propagationIsKept", propagationIsKept},
	{"newConnectionsAreOver", newConnectionsAreOver},
	{"scoreIsLow", scoreIsLow},
	{"heldNoLonger", heldNoLonger},
	{"patienceIsUsed", patienceIsUsed},
	{"waitingEnds", waitingEnds},
	{"turnsAreTaken", turnsAreTaken},
	{"quietMaxEndsSilence", quietMaxEndsSilence},
	{"unusedHoldNobody", unusedHoldNobody},
	{"oneSignalChangesNothing", oneSignalChangesNothing},
	{"restartLeavesNothing", restartLeavesNothing},
	{"wishesAreKept", wishesAreKept},
	{"irreversibleNeedsProof", irreversibleNeedsProof},
	{"quitAtTheEnd", quitAtTheEnd},
	{"ownerIsTold", ownerIsTold},
	{"theDeadHoldNobody", theDeadHoldNobody},
	{"oneVerdict", oneVerdict},
	{"verdictInTime", verdictInTime},
	{"verdictIsTrue", verdictIsTrue},
	{"endsAfterKubelet", endsAfterKubelet},
	{"observeDoesNothing", observeDoesNothing},
	{"timersWithoutAdmin", timersWithoutAdmin},
}

// reasons are those for which a hook is answered.
var reasons = []func(w *Watch, p *Pod, d *Decision, id int) bool{
	settledZero, itsTurn, workerTold, ownEnd, nobodyLeft, timeOver, patienceOver, operatorFinish, oneContainer, answeredBefore, jobEnded, usualSleep,
}

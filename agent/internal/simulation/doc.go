// Package simulation stops pods in virtual time: the real core and the real conductor run beside models of Envoy, the app, kubelet,
// the balancer and the clients, in a bubble of testing/synctest. Everything but this page is a test, so no binary links it.
//
// A seed gives one scenario: pod shape, settings, clients, faults. One run of it is one pod stop, in which every request has a fate.
// A lost request is either inside what README's "Limits" say, or a failure; see promises_test.go. The models are calibrated against
// recorded runs of a real Envoy and a real kubelet in calibration_test.go.
//
//	go test ./agent/internal/simulation -run Simulation -seed=N        one scenario, told step by step
//	go test ./agent/internal/simulation -run Simulation -stops=100000  as many seeds as that; make simulate runs a million
package simulation

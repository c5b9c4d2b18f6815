// Package e2e holds the promises of the agent as tests: the real agent beside a real Envoy and the app of this repository, in pods
// that are stopped exactly as kubelet stops them. One test a row of docs/reference/promises.md.
package e2e

// Package e2e holds tests that run on a real kubelet: `scripts/e2e/run` makes a node, loads the images and starts them.
// Each test has a namespace of its own and takes its pods from the manifests in deploy/.
// Programs may read the table that one of them prints ([ParseRows]).
package e2e

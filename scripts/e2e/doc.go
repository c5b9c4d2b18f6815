// Package e2e holds tests that run on a real kubelet: `scripts/e2e/run` makes a node, loads the images and starts them.
// Each test has a namespace of its own and takes its pods from the manifests in deploy/.
package e2e

// Package pod runs the containers of a Pod manifest as local processes and stops them as kubelet does.
//
// It exists for tests, demos and benchmarks of shutdown: the order and the times of hooks, SIGTERM and SIGKILL follow
// what kubelet 1.34 was measured to do; scheduling, images, cgroups and the API are left out. Where the machine allows
// it (root on Linux), a pod has a network namespace with an address of its own that the caller reaches, and each
// container a mount, PID and host name namespace. Elsewhere the containers share the machine's loopback and the
// declared ports are mapped to free ones ([Ports]).
//
// A program that uses this package calls [Helper] first in main or TestMain.
package pod

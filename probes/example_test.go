package probes_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/drain-agent/drain-agent/probes"
)

// A service that needs its own disk, shares a database with the other replicas, and can do without its cache.
func Example() {
	var database error
	registry, err := probes.New(probes.Config{
		Readiness: []probes.Check{
			{Name: "disk", Run: func(context.Context) error { return nil }},
			{Name: "database", Run: func(context.Context) error { return database }, Policy: probes.Shared},
			{Name: "cache", Run: func(context.Context) error { return errors.New("cold") }, Policy: probes.Degraded},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer registry.Close()
	mux := http.NewServeMux()
	registry.RegisterHTTP(mux)
	show := func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz?verbose", nil))
		fmt.Print(w.Code, "\n", w.Body)
	}
	show()
	database = errors.New("connection refused") // for every replica: none of them leaves
	show()
	// Output:
	// 200
	// [+]owner ok
	// [+]disk ok
	// [+]database ok
	// [~]cache degraded: cold
	// readyz check passed
	// 200
	// [+]owner ok
	// [+]disk ok
	// [~]database degraded: connection refused
	// [~]cache degraded: cold
	// readyz check passed
}

// The owner takes a replica out of its endpoints while its checks still pass. Liveness does not follow.
func ExampleRegistry_FailReadiness() {
	registry, err := probes.New(probes.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer registry.Close()
	registry.FailReadiness("draining")
	for _, question := range probes.Questions() {
		fmt.Println(question, registry.Ask(context.Background(), question).OK)
	}
	// Output:
	// startup true
	// liveness true
	// readiness false
	// synthetic-readiness true
}

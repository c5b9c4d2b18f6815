# Everything a contributor types. A bare `make` explains the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check bench fuzz images e2e e2e-full bench-rollouts soak clean

FUZZTIME ?= 20s

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## two pods with a real Envoy, replaced under load: with nothing, with sleep 5, with drain-agent
	go run ./scripts/demo

test: ## every test, with the race detector; fetches a real Envoy into a cache the first time
	go run ./scripts/envoy path
	go test -race -shuffle=on -timeout 20m $$(go list ./... | grep -v '/agent/e2e$$')
	go test -race -shuffle=on -timeout 20m ./agent/e2e # by itself: its pods need the processors

check: ## formatting, linters, module files, generated pages, known vulnerabilities, repository rules
	tools/run gofumpt -l -d . | (! grep . >&2) || { echo 'not formatted: tools/run golangci-lint fmt' >&2; exit 1; }
	go mod tidy -diff
	cd scripts/images && go mod tidy -diff && go vet ./...
	go vet ./...
	go fix -diff ./...
	tools/run staticcheck ./...
	tools/run golangci-lint run ./...
	go test -run 'Reference|HowTo|Components|Flags' ./agent ./deploy/drainctl # pages and components are what the code says
	tools/rules
	tools/vulnerabilities

bench: ## the figures of the README, measured here, beside what people run today (an hour; with bench-rollouts where a node can run)
	go run ./scripts/bench

fuzz: ## every fuzz target for FUZZTIME (20s) each
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
	  for target in $$(grep -oE '^func Fuzz\w+' "$$file" | cut -c6-); do \
	    echo "== $$target in $$(dirname "$$file")"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
	  done; \
	done

images: ## both container images: with docker where its daemon answers, else without; the result is run
	scripts/images/build

e2e: ## the same scenarios on a real kubelet on this machine (root, Linux; under 10 minutes once it is built)
	scripts/e2e/run

e2e-full: ## the long form of e2e, with the baselines beside it (over an hour)
	scripts/e2e/run --long

bench-rollouts: ## failures and seconds per stop on a real kubelet, side by side: nothing, sleep 5, sleep 15, drain-agent (about 40 minutes)
	go run ./scripts/bench --only rollout

soak: ## the long proofs: 500 SIGKILLs of the payment service, 50,000 requests of each HTTP/2 client, a minute of input orders, 300 stops a cell
	APP_KILLS=500 go test -count=1 -run SIGKILL -timeout 2h ./app
	GOAWAY_REQUESTS=50000 go test -count=1 -timeout 30m -run TestClientsMoveOnGoaway ./agent/e2e
	EXPLORE=60s STOPS=300 go test -count=1 -v -run 'Exploration|ScoreCalibration' ./agent/internal/drain

clean: ## remove what the targets left in the tree
	rm -rf bin dist coverage.out

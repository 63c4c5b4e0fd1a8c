# `make` lists what there is. Nothing but Go is needed to build and to run; the
# tests also use PostgreSQL, a C compiler and Chromium (see scripts/ensure).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# VERSION names a release; without it the program says the one it has in its source.
VERSION ?=
BUILD_FLAGS := -trimpath -ldflags="-s -w $(VERSION:%=-X example.com/authserver/internal/app.version=%)"
TOOLS := bin/tools
ARGS ?=
PKG ?=
FUZZTIME ?= 10s
BENCHTIME ?= 1s

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: run
run: build ## build the server and run it with SQLite in ./data (ARGS="--flag ...")
	@exec bin/authserver serve $(ARGS)

.PHONY: build
build: ## build bin/authserver, static (VERSION=1.2.3 for a release)
	@CGO_ENABLED=0 go build $(BUILD_FLAGS) -o bin/authserver ./cmd/authserver

.PHONY: test
test: ## run every test, with race detector, PostgreSQL and browser (PKG=./internal/x for some)
	@scripts/test $(PKG)

.PHONY: test-many
test-many: ## run many times what make test runs a few times, without the race detector
	@scripts/test-many

.PHONY: check
check: fmt-check tidy-check vet lint archtest lists-check docs-check ## everything but the tests: format, vet, linters, import law, lists, fresh docs

.PHONY: fmt
fmt: $(TOOLS)/gofumpt ## format the Go files
	@$(TOOLS)/gofumpt -w .

.PHONY: fmt-check
fmt-check: $(TOOLS)/gofumpt
	@files=$$($(TOOLS)/gofumpt -l .); [ -z "$$files" ] || { \
		printf '%s\n' "$$files"; echo 'error: not formatted by gofumpt; hint: make fmt' >&2; exit 1; }

.PHONY: tidy-check
tidy-check:
	@go mod tidy -diff || { echo 'error: go.mod is not tidy; hint: go mod tidy' >&2; exit 1; }
	@go -C test/interop mod tidy -diff || { echo 'error: test/interop/go.mod is not tidy; hint: go -C test/interop mod tidy' >&2; exit 1; }

.PHONY: vet
vet:
	@go vet ./...
	@go -C test/interop vet ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## run the linters of .golangci.yml
	@$(TOOLS)/golangci-lint run --allow-parallel-runners ./...

.PHONY: archtest
archtest: ## hold the tree to the import law
	@go test ./internal/archtest

.PHONY: lists-check
lists-check: ## hold the lists of known failures and of mutants to the tests and the code they name
	@go test -run '^TestRows$$' ./test/knownfailures
	@go test ./test/mutants

.PHONY: docs
docs: ## write what the documentation takes from the program and the tests
	@go run ./cmd/authserver config docs >docs/configuration.md
	@go run ./scripts/snippets

.PHONY: docs-check
docs-check:
	@scripts/docs-check

.PHONY: interop
interop: ## show our tokens to other people's verifiers, and rotate keys under them
	@scripts/interop-test

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## ask the Go vulnerability database about our dependencies (needs the network)
	@$(TOOLS)/govulncheck ./...

.PHONY: bench
bench: ## measure the server (ARGS="..." go to ./bench)
	@go run ./bench $(ARGS)

.PHONY: test-modules
test-modules: ## run the tests of package verify's nested modules: gRPC example and benchmark
	@for module in verify/examples/grpc verify/benchmark; do \
		(cd $$module && go mod tidy -diff && go vet ./... && go test -race ./...) || exit 1; done

.PHONY: bench-verify
bench-verify: ## measure package verify beside golang-jwt, keyfunc and go-oidc
	@cd verify/benchmark && go test -run='^$$' -bench=. -benchtime=$(BENCHTIME) .

.PHONY: model
model: ## check the formal model of a family (docs/model) and its negative controls; installs SPIN
	@scripts/model $(ARGS)

.PHONY: prove
prove: ## histories, faults, kills: minutes (AUTHSERVER_PROVE_SEED=n replays)
	@scripts/prove

.PHONY: prove-long
prove-long: ## the same for an hour (AUTHSERVER_PROVE_EFFORT=n for more or less)
	@AUTHSERVER_PROVE_EFFORT=$${AUTHSERVER_PROVE_EFFORT:-30} PROVE_TIMEOUT=3h scripts/prove

.PHONY: mutants
mutants: ## put known bugs back, one at a time, and want each caught (ARGS=-write for the table)
	@scripts/with-postgres go run ./test/mutants $(ARGS)

.PHONY: lab
lab: ## kill and cut off databases under a storm of refreshes (root; ARGS="..." go to ./test/lab)
	@go build -o bin/lab ./test/lab
	@exec bin/lab $(ARGS)

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME (10s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: vectors
vectors: ## write the test vectors of package verify (docs/vectors.md)
	@go run ./scripts/vectors verify/testdata/vectors

.PHONY: vectors-check
vectors-check: ## compare the copied Wycheproof vectors with the published ones (111 MB, once)
	@go -C test/vectors test ./...

.PHONY: rename
rename: ## give the module another path: make rename MODULE=example.org/you/authserver
	@go run ./scripts/rename '$(MODULE)'

.PHONY: clean
clean: ## remove what was built; data stays
	@rm -rf bin dist

# The tools are a module of their own, so that what they depend on is no concern
# of the server's. The go command caches their packages; a new tree only links.
$(TOOLS)/%: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@go -C tools build -o ../$(TOOLS)/ $$(sed -n 's|^\t\([^ ]*/$*\)$$|\1|p' tools/go.mod)
	@touch $@

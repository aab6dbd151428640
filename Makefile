# peerbus: `make help` lists the targets. Everything that Python needs goes into .venv inside this checkout.

PYTHON      ?= python3
VENV        := .venv
RUN         := $(VENV)/bin/python -W error
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SOURCES     := $(shell find export node queue pool include bindings/python/accelerator -name '*.go' -o -name '*.c' -o -name '*.h' 2>/dev/null) go.mod go.sum build.sh bindings/python/accelerator/build.sh
GO_FOLDERS  := export node pool queue tests
PYTEST      := $(RUN) -m pytest -q -p no:cacheprovider

.DEFAULT_GOAL := help
.PHONY: build chaos fuzz demo demo-world demo-c test race asan nat bench lint generate tidy clean help

build: dist/libpeerbus.so ## build dist/libpeerbus.so, dist/libpeerbus.a and dist/peerbus.h

dist/libpeerbus.so: $(SOURCES)
	@echo "building the library (the first time takes about a minute)"
	PYTHON=$(PYTHON) ./build.sh

tests/js/node_modules/ready: tests/js/package.json tests/js/package-lock.json
	@if command -v npm >/dev/null; then \
		echo "installing the JavaScript peer of the tests, with the versions that its lock file pins"; \
		cd tests/js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/ready; \
	else echo "no npm: the tests with a JavaScript peer will be skipped"; fi

$(VENV)/ready: tests/requirements.txt tests/requirements-interop.txt bindings/python/pyproject.toml
	@echo "setting up the Python environment in $(VENV), with the versions that tests/requirements.txt pins"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r tests/requirements-interop.txt
	printf '%s\n' "$(CURDIR)/bindings/python" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/peerbus-checkout.pth"
	touch $@

demo: build $(VENV)/ready ## run the main job: processes exchange typed messages, broadcast, and share a rendezvous list
	$(RUN) bindings/python/examples/demo.py

demo-world: build $(VENV)/ready ## eleven processes: a world with masters, agents, roles and tokens, and who is kept out of it
	$(RUN) bindings/python/examples/demo_world.py

demo-c: build ## the text part of the demo, from a C program
	@mkdir -p dist
	$(CC) -std=c99 -Wall -Wextra -Werror -Idist tests/c/demo_text.c -Ldist -lpeerbus -Wl,-rpath,'$$ORIGIN' -o dist/demo_text
	@directory=$$(mktemp -d) && dist/demo_text "$$directory"; status=$$?; rm -rf "$$directory"; exit $$status

test: build $(VENV)/ready $(VENV)/bench/installed.txt tests/js/node_modules/ready ## run every test: Go with the race detector, then C, C++ and Python against the built library
	go test -race -timeout 20m ./...
	for tags in purego force32bit; do go test -tags $$tags ./node/signatures || exit 1; done # the code of other processors
	cd tests/autotls && go test -race -timeout 10m ./...
	$(PYTEST) tests

race: ## the Go tests with the race detector
	go test -race -timeout 20m ./...

asan: build $(VENV)/ready ## the C programs and the conformance matrix under AddressSanitizer
	$(PYTEST) tests/c tests/conformance

nat: build $(VENV)/ready ## nodes behind NATs of every kind, in network namespaces; needs root, iproute2 and nftables
	$(PYTEST) -rs tests/nat

chaos: build $(VENV)/ready ## a million messages through a proxy that does its worst, over TCP and QUIC
	PEERBUS_CHAOS_MESSAGES=1000000 $(PYTEST) tests/chaos

FUZZ_TIME ?= 30s
fuzz: ## every fuzz target for FUZZ_TIME (30s) each
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | while read -r file target; do \
	    echo "$$target in $$(dirname "$$file")"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) "$$(dirname "$$file")" </dev/null || exit 1; \
	done

bench: build $(VENV)/bench/installed.txt ## measure against other libraries and raw limits; BENCH="--help" for a part of it
	$(VENV)/bin/python tests/bench/run.py $(or $(BENCH),--peers)

$(VENV)/bench/installed.txt: $(VENV)/ready tests/bench/requirements.txt
	$(VENV)/bin/python tests/bench/run.py --install
	@mkdir -p $(@D)
	touch $@

lint: $(VENV)/ready ## gofmt, go vet, staticcheck, ruff, mypy, and generated code is up to date
	@test -z "$$(gofmt -l $(GO_FOLDERS))" || { gofmt -l $(GO_FOLDERS); echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	cd tests/autotls && go vet ./...
	go run $(STATICCHECK) ./...
	$(VENV)/bin/ruff check --config bindings/python/pyproject.toml bindings/python tests
	cd bindings/python && ../../$(VENV)/bin/mypy --cache-dir ../../dist/mypy
	tests/tools/generate-messages.sh --check
	go run ./tests/tools/configkeys -check

generate: ## write the generated code anew
	tests/tools/generate-messages.sh
	go run ./tests/tools/configkeys

tidy: ## go.mod and go.sum, also of the module in tests/autotls, which follows the library's
	go mod tidy
	cd tests/autotls && go mod tidy

clean: ## remove what the targets made
	rm -rf dist $(VENV) tests/js/node_modules bindings/python/peerbus/*.so

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# make demo     watch entities go from a real broker into a real replica set:
#                OBSERVE=1 with a Prometheus, and the dashboard's figures
# make test     everything that must hold before a change is merged
# make test-fresh  the demo and the installs on a bare Debian 12: root only, half an hour
# make release  the service without its symbols, those beside it: target/split/
# make stack    both servers by hand, until Ctrl-C
# make test-faults  the fault harness: SEED=… ROUNDS=… and FAULTS="WorkerKilled …" for these steps
# make test-mutants  break the service on purpose; the fault harness must find each break:
#                MUTANTS="guard_ignored …" for some of them
# make test-previous  every other worker is of the release before, under the same attack
# make test-cluster  what is tried of the image and the cluster and takes long, as root:
#                PARTS="image …" for some of it
# make soak     steady load and mild faults for MINUTES, watching whether anything grows
# make fuzz     look for inputs that break a promise: SECONDS=60
#                FUZZ=decode|routes|configuration|reply|export
# make bench    the service beside its ceiling and its peers: ROUNDS=5 ONLY=drain,cost,…
#                AGAINST=bench.json of another commit, BESIDE=another build of the service
# make instructions  count the instructions of the pure parts, against benches/instructions.txt:
#                RENEW=1 rewrites it
# make docs     the documentation of the code
# make dashboard  write the Grafana dashboard anew
# make deny     licences, bans and sources of the dependencies
.DEFAULT_GOAL := help
SHELL := /bin/sh

ENTITIES ?= 45000
STATES ?= 200000
SEED_GIVEN := $(SEED)
SEED ?= 1
FUZZ ?= decode
SECONDS ?= 60
ROUNDS_GIVEN := $(ROUNDS)
ROUNDS ?= 4
MINUTES ?= 10
# A test mostly waits for servers: with 2 a core, half of the processor has nothing to do.
TEST_THREADS ?= $$((4 * $$(nproc)))
TARGET = $${CARGO_TARGET_DIR:-target}
CACHE = $${XDG_CACHE_HOME:-$$HOME/.cache}/workflows-sink
# librdkafka and OpenSSL are built from source.
BUILD_TOOLS = g++ make perl

.PHONY: help demo release stack test test-fresh test-faults test-mutants test-previous
.PHONY: test-cluster soak fuzz bench instructions docs dashboard deny fmt clippy build-tools

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

build-tools:
	@sh deploy/local/ensure.sh $(BUILD_TOOLS)

demo: build-tools
	cargo build --profile demo --locked --package workflows-sink --package local-stack --bins
	@exec $(TARGET)/demo/local-stack demo --sink $(TARGET)/demo/workflows-sink \
	    --entities $(ENTITIES) --states $(STATES) --seed $(SEED) $(if $(OBSERVE),--observe) $(if $(STAY),--stay)

release: build-tools
	cargo build --release --locked --package workflows-sink
	sh deploy/image/split.sh $(TARGET)/release/workflows-sink $(TARGET)/split
	@ls -s --block-size=M $(TARGET)/split

stack: build-tools
	cargo build --locked --package local-stack
	@exec $(TARGET)/debug/local-stack up

test: fmt clippy
	@sh deploy/local/ensure.sh git
	@echo "== unit, property and end-to-end tests on real servers"
	@rm -f $(TARGET)/left-out.txt
	LEFT_OUT="$$(realpath -m $(TARGET))/left-out.txt" RUST_TEST_THREADS=$(TEST_THREADS) \
	    cargo test --locked --workspace; code=$$?; sort -u $(TARGET)/left-out.txt 2>/dev/null; exit $$code

fmt:
	@echo "== format"
	cargo fmt --all --check

clippy: build-tools
	@echo "== lints"
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: build-tools
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

DASHBOARD = deploy/kubernetes/dashboard
OBSERVABILITY = deploy/kubernetes/components/observability

dashboard:
	@sh deploy/local/ensure.sh python3-pip
	pip3 install -q --upgrade --target $(TARGET)/dashboard -r $(DASHBOARD)/requirements.txt
	PYTHONPATH=$(TARGET)/dashboard python3 $(DASHBOARD)/dashboard.py > $(TARGET)/dashboard.json
	mv $(TARGET)/dashboard.json $(OBSERVABILITY)/dashboard.json
	sha256sum $(DASHBOARD)/dashboard.py $(DASHBOARD)/requirements.txt $(OBSERVABILITY)/dashboard.json \
	    > $(OBSERVABILITY)/dashboard.sha256

deny: build-tools
	@command -v cargo-deny >/dev/null || [ -x "$(CACHE)/cargo-deny/bin/cargo-deny" ] \
	    || cargo install --locked --root "$(CACHE)/cargo-deny" cargo-deny
	PATH="$$PATH:$(CACHE)/cargo-deny/bin" cargo deny check licenses bans sources

test-fresh:
	sh tests/fresh/run.sh sh -ec 'make demo STATES=20000; target/demo/local-stack fetch'

test-faults: build-tools
	SEED=$(or $(SEED_GIVEN),0) ROUNDS=$(ROUNDS) FAULTS="$(FAULTS)" cargo test --locked --workspace --test faults -- --nocapture the_promise

test-mutants: build-tools
	sh tests/mutants/run.sh $(MUTANTS)

test-previous: build-tools
	SEED=$(or $(SEED_GIVEN),0) ROUNDS=$(ROUNDS) sh tests/faults/previous.sh

test-cluster:
	@PARTS="$(PARTS)" sh tests/cluster/run.sh

soak: build-tools
	MINUTES=$(MINUTES) cargo test --release --locked --workspace --test faults -- --nocapture the_promise

bench: build-tools
	cargo build --release --locked --workspace --bins
	$(TARGET)/release/bench --sink $(TARGET)/release/workflows-sink --out $(TARGET)/bench \
	    $(if $(ROUNDS_GIVEN),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) $(if $(AGAINST),--against $(AGAINST)) \
	    $(if $(BESIDE),--beside $(BESIDE))

instructions: build-tools
	@sh deploy/local/ensure.sh valgrind
	RENEW=$(RENEW) cargo test --release --locked --workspace --test instructions -- --nocapture

fuzz: build-tools
	@command -v cargo-fuzz >/dev/null || [ -x "$(CACHE)/cargo-fuzz/bin/cargo-fuzz" ] \
	    || cargo install --locked --root "$(CACHE)/cargo-fuzz" cargo-fuzz
	PATH="$$PATH:$(CACHE)/cargo-fuzz/bin" sh tests/fuzz/run.sh $(FUZZ) $(SECONDS)

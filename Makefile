# One command each; `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 300
LEDGER ?= redis
SIGNALS ?= 2000
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
# Compile once: without kept bytecode every test run, and every worker a test starts, does it anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(STAMP) ## Create .venv with everything, from the lock

demo: $(STAMP) ## Watch signals become orders and positions (paper, nothing to set up)
	@$(BIN)/execution-worker demo

.PHONY: help install demo check test unit simulate chaos fuzz golden lint docs format lock deploy-check bench bench-peers bench-docs instructions profile pin-images sbom audit clean
check: lint unit ## What to run before every commit: lint, then the fast tests

test: $(STAMP) ## Run the tests (deploy/ has its own: make deploy-check)
	@$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal -m "not alone"
	@# One at a time: these bound how long a recovery may take.
	@$(BIN)/python -m pytest -q -m alone

unit: $(STAMP) ## Run the fast, pure tests only
	@$(BIN)/python -m pytest -q --numprocesses 2 tests/unit

simulate: $(STAMP) ## Run SEEDS seeds of the simulation (LEDGER=memory: without Redis)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --ledger $(LEDGER)

chaos: $(STAMP) ## Break everything at random under SIGNALS signals (SEED=n repeats a run)
	@$(BIN)/python -m tests.acceptance.chaos --signals $(SIGNALS) $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP) ## A hostile producer for FUZZ_SECONDS beside an honest one (SEED=n; FUZZ="--heavy")
	@$(BIN)/python -m tests.fuzz.producers --seconds $(FUZZ_SECONDS) $(if $(SEED),--seed $(SEED)) $(FUZZ)

golden: $(STAMP) ## Record the golden files anew (tests/acceptance/golden/README.md)
	@$(BIN)/python -m tests.acceptance.golden_day --write

lint: $(STAMP) ## Formatting, style, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(STAMP) ## Write the parts of the documentation that are made from the code
	@$(BIN)/python -m tests.documents

format: $(STAMP) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: ## Resolve every lock anew (needs uv)
	$(COMPILE) --upgrade --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) --constraint requirements.lock pyproject.toml -o requirements-runtime.lock
	$(COMPILE) --upgrade deploy/requirements-build.in -o deploy/requirements-build.lock
	$(COMPILE) --upgrade tests/deploy/requirements.in -o tests/deploy/requirements.lock
	$(COMPILE) --upgrade tests/audit/requirements.in -o tests/audit/requirements.lock

deploy-check: $(STAMP) ## Check everything under deploy/, with the tools it needs installed
	@sh tests/deploy/install_tools.sh $(BIN)/python $(VENV)/deploy-tools
	@DEPLOY_CHECK=1 $(BIN)/python -m pytest -q tests/deploy

bench: $(STAMP) ## Measure: throughput, latency, growth, start, memory (BENCH="throughput --quick")
	@$(BIN)/python -m tests.benchmarks $(BENCH)

bench-peers: $(STAMP) ## Measure well-known task queues at the same small job (BENCH="--quick")
	@sh tests/benchmarks/peers/install.sh $(BIN)/python
	@$(BIN)/python -m tests.benchmarks.peers.compare $(BENCH)
	@$(BIN)/python -m tests.benchmarks.docs

instructions: $(STAMP) ## Count the processor instructions of one signal, under valgrind; 1 if too many
	@$(BIN)/python -m tests.benchmarks.instructions $(BENCH)

bench-docs: $(STAMP) ## Write the tables of docs/performance.md from what was measured last
	@$(BIN)/python -m tests.benchmarks.docs

profile: $(STAMP) ## Profile one worker under load with py-spy: top functions and a flame graph
	@sh tests/benchmarks/peers/install.sh $(BIN)/python
	@$(BIN)/python -m tests.benchmarks.profiling $(BENCH)

pin-images: ## Write today's digests of all images into deploy/.env (needs docker or skopeo)
	@sh deploy/pin_images.sh

AUDIT := $(VENV)/audit-tools
$(AUDIT)/.installed: tests/audit/requirements.lock
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

sbom: $(AUDIT)/.installed ## Write a bill of materials of what a worker runs: build/sbom.json (CycloneDX)
	@mkdir -p build
	@$(AUDIT)/bin/cyclonedx-py requirements requirements-runtime.lock --pyproject pyproject.toml \
	  --mc-type application --output-reproducible --output-file build/sbom.json

audit: $(AUDIT)/.installed ## Look for known vulnerabilities in every lock; says how old its data is
	@$(AUDIT)/bin/python tests/audit/advisories.py requirements.lock requirements-runtime.lock \
	  deploy/requirements-build.lock tests/deploy/requirements.lock tests/audit/requirements.lock

clean: ## Remove everything that was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

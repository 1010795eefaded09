# Each target does its own set-up; nothing but Python >= 3.11, make and a package index is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo up test faults fuzz bench bench-full lint unit coverage clean lock

setup: $(STAMP)

# The lock names everything, so pip resolves nothing: asked to, it takes "coverage[toml]" for the newest coverage instead
# of the pinned one, and refuses it for want of a hash on the day that a newer one is released.
$(STAMP): requirements.lock pyproject.toml compose/kafka.sha256 compose/engines/kafka_cache.py
	@$(PYTHON) -c 'import sys; sys.exit("Flightline needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "==> 1/3 virtual environment ($(VENV))"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "==> 2/3 dependencies, pinned by hash (about 500 MB, one to three minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet -e .
	@echo "==> 3/3 Kafka, pinned by version and checksum; runs once, to start faster from then on"
	@$(BIN)/python -m compose.kafka_jars
	@touch $@

demo: setup
	$(BIN)/flightline demo $(DEMO_ARGS)

up: setup
	$(BIN)/flightline up $(UP_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/rules

unit: setup
	$(BIN)/pytest -q tests/unit tests/contract

# What the domains compute is tested branch by branch; below 95 % this fails.
coverage: setup
	$(BIN)/pytest -q tests/unit tests/contract --cov --cov-report=term:skip-covered

# Three files of tests at a time, the long ones first: most of the time they wait for engines. TEST_ARGS come last and win.
test: lint coverage
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

# The long form, about an hour: each row of the table is one fault. Two stacks are broken at a time, or so many as
# FLIGHTLINE_FAULTS_STACKS says: two slow cores have enough with one. The soak has the machine for itself. FLIGHTLINE_SEED
# repeats a run, FLIGHTLINE_FAULTS_ROUNDS and _SOAK_S shorten it.
faults: export FLIGHTLINE_FAULTS := long
faults: export FLIGHTLINE_FAULTS_TABLE ?= .flightline/faults.md
faults: FLIGHTLINE_FAULTS_STACKS ?= 2
faults: lint
	@mkdir -p .flightline && rm -f $(FLIGHTLINE_FAULTS_TABLE)
	@status=0; \
	$(BIN)/pytest -n $(FLIGHTLINE_FAULTS_STACKS) --dist loadfile -rP tests/faults --ignore=tests/faults/test_soak.py $(TEST_ARGS) || status=$$?; \
	$(BIN)/pytest -n 0 -s tests/faults/test_soak.py $(TEST_ARGS) || { code=$$?; test $$code -eq 5 || status=$$code; }; \
	cat $(FLIGHTLINE_FAULTS_TABLE); exit $$status

# A million cases of each kind of bad input.
fuzz: export FLIGHTLINE_FUZZ_CASES ?= 1000000
fuzz: export FLIGHTLINE_SCHEMA_SECONDS ?= 600
fuzz: lint
	$(BIN)/pytest -n 0 -s tests/faults/fuzz tests/integration/test_control_document.py $(TEST_ARGS)

# One table of what each stage costs, in .flightline/bench.json as well: 40 minutes, or some hours.
bench: setup
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

bench-full: setup
	$(BIN)/python -m tests.bench --full $(BENCH_ARGS)

lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header -o requirements.lock

clean:
	rm -rf $(VENV) .flightline build *.egg-info

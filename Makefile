# Two commands do all the set-up on a machine with Python >= 3.11 and make: `make demo` and `make test`.
# Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check format law bench kafka sim sim-many faults soak

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo: $(VENV)/.run-installed ## trending hashtags on a made match day
	@$(BIN)/streamproc demo

test: $(VENV)/.test-installed ## all tests, examples of the documentation included
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev-installed ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev-installed ## format, and repair what lint can repair
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

PLANS ?= 300

law: $(VENV)/.test-installed ## more random plans against the oracle than the tests try: make law PLANS=1000
	$(BIN)/python -m tests.law $(PLANS)

SEED ?= 0
N ?= 300

sim: $(VENV)/.test-installed ## one simulated world with its history: make sim SEED=7
	$(BIN)/python -m tests.simulation $(SEED)

sim-many: $(VENV)/.test-installed ## more simulated worlds than the tests try, fresh ones without FROM: make sim-many N=2000
	$(BIN)/python -m tests.simulation --many $(N) $(if $(FROM),--from $(FROM))

faults: $(VENV)/.test-installed ## real workers on a real broker, killed, stopped and cut off: all of it
	$(BIN)/python -m pytest tests/faults -m "" -n 3 --dist load

MINUTES ?= 10

soak: $(VENV)/.test-installed ## workers killed, paused, stopped and joined at random, and every row checked: make soak MINUTES=60
	$(BIN)/python -m tests.faults.soak $(MINUTES)

RECORDS ?= 100000 400000

bench: $(VENV)/.test-installed ## costs beside hand-written loops, in process and on Kafka: make bench RECORDS="200000 1000000"
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.kafka --records $(RECORDS)

KAFKA_PORT ?= 9092

kafka: $(VENV)/.run-installed ## a Kafka broker on this machine, until Ctrl-C; needs Java 17 and Maven
	@$(BIN)/python -m tests.kafka.server $(KAFKA_PORT)

$(VENV)/.run-installed: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) '.[test]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "streamproc needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

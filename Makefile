# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := build/demo
DATA ?= ../shared/data

.PHONY: help demo test test-slow engines check lint clean

help:  ## what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Modules are compiled on all cores, where pip takes one and a minute; what only long tests import,
# at its first import, unless Python is told not to keep what it compiles. torch has files of a
# newer Python, which do not compile.
unexport PYTHONDONTWRITEBYTECODE
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --editable '.[html,parquet,ray,run,serve,dev]'
	$(BIN)/python -m compileall -qq -j 0 -x '/(ray|transformers|tests?)/' $(VENV)/lib planner || true
	@touch $@

demo: $(READY)  ## probe this machine, then plan, simulate and run the demo scenario on it
	$(BIN)/planner probe --workers 3 --out $(DEMO)/profiles
	$(BIN)/planner plan scenarios/demo.yaml --profiles $(DEMO)/profiles --out $(DEMO)/manifest.yaml
	$(BIN)/planner simulate $(DEMO)/manifest.yaml
	$(BIN)/planner run $(DEMO)/manifest.yaml --checkpoint $(DEMO)/checkpoint

# One worker a core, and a thread each, then what measures time, with nothing beside it.
SPREAD := --numprocesses logical --maxprocesses 8 --dist worksteal
test test-slow: export PLANNER_TEST_DATA = $(DATA)

test: $(READY)  ## the tests that answer in a few minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow and not alone' $(SPREAD)
	$(BIN)/pytest -m 'not slow and alone'

test-slow: $(READY)  ## the long tests, bounded
	OMP_NUM_THREADS=1 timeout 500 $(BIN)/pytest -m 'slow and not alone' --timeout 300 $(SPREAD)
	timeout 450 $(BIN)/pytest -m 'slow and alone' --timeout 300

engines: $(READY)  ## refit the shipped engine profiles to DATA, and the error table in docs/model.md
	$(BIN)/python benchmarks/calibration.py $(DATA) --write

lint: $(READY)  ## style, types, import rules, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

check: lint test  ## what CI runs first

clean:  ## remove everything that was built
	rm -rf $(VENV) build dist

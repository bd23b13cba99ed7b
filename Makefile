# `make demo` and `make test` do all the set-up themselves: python3 with venv, and make, are enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all docs test-bench test-local bench-replay bench-optimizers bench-optimizers-local lint format wheel clean help

help:
	@echo "make demo        the whole loop offline with a SIMULATED model, killed in the middle and resumed, under a minute"
	@echo "make test        the tests that take a moment each"
	@echo "make test-all    all tests: also the long ones, the documentation, the notebooks, and reports in a browser"
	@echo "make docs        build the documentation into docs/_build/html"
	@echo "make test-bench  the tests beside EvalPlus (installs it first, about 600 MB)"
	@echo "make test-local  the tests on the small real model (installs it first)"
	@echo "make bench-replay  the decision for a prompt on the outcomes of 18 real models, under a minute"
	@echo "make bench-optimizers  EvoPrompt beside GEPA, MIPROv2, SIMBA and COPRO (SIMULATED, an hour on 2 cores)"
	@echo "make bench-optimizers-local  some of them on the small real model (40 minutes of one core or more)"
	@echo "make lint        ruff and mypy"
	@echo "make wheel       build the wheel into dist/"
	@echo "make clean       remove everything that was made here"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml $(VENV)/.dev
	$(PIP) -e '.[browser,dask,docs,mlflow]'
	@touch $@

$(VENV)/.local: pyproject.toml $(VENV)/.dev
	$(PIP) -e '.[local]'
	$(BIN)/evoprompt local install
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(PIP) -e '.[bench]'
	@touch $@

demo: $(VENV)/.run
	$(BIN)/evoprompt demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 4 -m 'not slow and not local and not docs and not notebooks and not browser'

test-all: $(VENV)/.docs
	$(BIN)/python -m pytest -n 2 -m 'not local'

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test-local: $(VENV)/.local
	$(BIN)/python -m pytest -m local

test-bench: $(VENV)/.bench
	$(BIN)/python -m pytest tests/harness/test_oracles.py tests/test_evalplus_data.py

bench-replay: $(VENV)/.dev
	$(BIN)/python benchmarks/replay.py

bench-optimizers: $(VENV)/.dev
	$(BIN)/python benchmarks/optimizers.py --out bench-optimizers
	$(BIN)/python benchmarks/edges.py --out bench-edges

bench-optimizers-local: $(VENV)/.local
	$(BIN)/python benchmarks/optimizers_local.py --out bench-optimizers-local

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

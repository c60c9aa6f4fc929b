# Everything needs only Python 3.10+ and make: the tools live in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# One more process than cores: tests wait for the server, and for processes of their own.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
# Processes that tests start find lazymig compiled, wherever bytecode is written otherwise.
PYTEST := env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(abspath $(VENV))/.bytecode \
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
# What needs neither a server nor processes of its own.
FAST_TESTS := tests/raw tests/query tests/updates tests/rules tests/codegen \
	$(filter-out %_docs.py %_benchmarks.py %_conformance.py,$(wildcard tests/test_*.py))
METADATA := setup.cfg pyproject.toml lazymig/__init__.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast suite lint docs bench bench-all frontpage conformance clean

help:
	@echo "make demo   see the tutorial's project made and migrated"
	@echo "make test   lint, types and the whole test suite (PYTEST_ARGS='-k name' for a part)"
	@echo "make test-fast  the tests that need no server, in under a minute"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   the documentation, into docs/_build/html"
	@echo "make bench  the main costs, as ratios against plain MongoEngine and PyMongo"
	@echo "make bench-all  all of the costs, as the page docs/benchmarks.md"
	@echo "make frontpage  the pictures and outputs of the README, made again"
	@echo "make conformance MONGOENGINE=path  MongoEngine's own tests, with lazymig in every model"
	@echo "make clean  remove $(VENV) and what was built"

demo: $(VENV)/.demo-installed
	$(BIN)/python -m lazymig.demo

# The linters run beside the first tests.
test: $(VENV)/.dev-installed
	@$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(VENV)/.dev-installed
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.dev-installed
	$(PYTEST) -m "not server" $(FAST_TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev-installed
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.dev-installed
	$(BIN)/python -m benchmarks --seconds 170

bench-all: $(VENV)/.dev-installed
	$(BIN)/python -m benchmarks --all --markdown docs/benchmarks.md

frontpage: $(VENV)/.dev-installed
	$(BIN)/python -m frontpage

conformance: $(VENV)/.conformance-installed
	$(BIN)/python -m conformance $(MONGOENGINE)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of extras: a second run installs nothing.
$(VENV)/.%-installed: $(METADATA)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

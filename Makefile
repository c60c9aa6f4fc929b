# Everything needs only Python 3.10+ and make: the tools live in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
METADATA := setup.cfg pyproject.toml lazymig/__init__.py

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench conformance clean

help:
	@echo "make demo   see lazymig migrate a few thousand old documents"
	@echo "make test   lint, types and the whole test suite (PYTEST_ARGS='-k name' for a part)"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   the documentation, into docs/_build/html"
	@echo "make bench  the costs, as ratios against plain MongoEngine and PyMongo"
	@echo "make conformance MONGOENGINE=path  MongoEngine's own tests, with lazymig in every model"
	@echo "make clean  remove $(VENV) and what was built"

demo: $(VENV)/.demo-installed
	$(BIN)/python -m lazymig.demo

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev-installed
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.dev-installed
	$(BIN)/python -m benchmarks

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

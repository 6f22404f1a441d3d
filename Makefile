# Needs Python (3.11 to 3.13) with venv, and make. Everything else is set up by the first command.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 10

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14)' 2>/dev/null || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; found `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[pipeline,dev]'
	@touch $@

demo: .venv/ready ## the whole way on built-in data: four to eleven minutes on two cores
	$(BIN)/python scripts/run.py

test: .venv/ready ## all tests
	$(BIN)/python -m pytest -n 2 --durations=20

lint: .venv/ready ## linter, formatter check, type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready ## put the code into its canonical form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/ready ## the documentation as a site: build/site/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/site

clean: ## remove the environment and the caches; results in runs/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

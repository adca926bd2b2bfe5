# `make` alone lists the targets. Settings: PYTHON=python3.12, TORCH_INDEX=https://... (where torch
# comes from, e.g. the small CPU build), MODA_PROFILE, MODA_HOME, MODA_DATA_DIR (see README).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install
REAL := ../shared/fashion_sample
# Tests never reach for the hub: a missing file is an error at once, not a long wait.
OFFLINE := HF_HUB_OFFLINE=1 TQDM_DISABLE=1 MODA_PROFILE=mini

.PHONY: help setup course test lint test-full notebooks twins mini measure results links course-stats clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: $(STAMP) ## create .venv and install what the course needs

$(STAMP): requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v <= (3, 13); \
	sys.exit(None if ok else "$(PYTHON) is Python %d.%d; the course needs 3.11 to 3.13: name one, as in make setup PYTHON=python3.12" % v)'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), a few minutes the first time ..."
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --no-deps --index-url "$(TORCH_INDEX)" -c $(CONSTRAINTS) torch; fi
	@$(PIP) -c $(CONSTRAINTS) -r requirements.txt -r requirements-dev.txt
	@touch $@

course: setup ## run the notebooks in order, write HTML pages to build/course
	@$(RUN) tools/course.py

test: setup lint ## lint, unit tests, twins, every notebook as a test
	@rm -rf build/test
	@$(OFFLINE) MODA_HOME=build/test $(RUN) -m pytest -q --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=900 --ignore=notebooks/solutions tests notebooks

lint: setup ## ruff
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --check --quiet .

test-full: setup ## the slow tests, the solutions; with real photos where they are
	@test -d $(REAL) || echo "No folder $(REAL): the real-photo run is skipped."
	@$(OFFLINE) MODA_HOME=build/test $(RUN) -m pytest -q --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=900 notebooks/solutions
	@$(OFFLINE) $(RUN) -m pytest -q -m slow tests

notebooks: setup ## execute all twins and store the notebooks with their outputs
	@$(RUN) tools/notebooks.py

twins: setup ## do notebooks and twins say the same?
	@$(RUN) tools/notebooks.py --check

mini: setup ## retrain the shipped mini models (up to an hour)
	@$(RUN) -m moda_utils.mini all

measure: setup ## measure the mini models on fresh drawn items, and on real photos where they are
	@$(RUN) -m moda_utils.mini measure-clip --out benchmarks/results/mini-cpu-clip.json
	@$(RUN) benchmarks/descriptions.py fresh
	@if [ -d $(REAL) ]; then $(RUN) benchmarks/descriptions.py real; \
	else echo "No folder $(REAL): real photos are not measured."; fi

results: setup ## store the figures of finished runs and show them in README (PROFILE=full)
	@MODA_PROFILE="$(or $(PROFILE),mini)" $(RUN) tools/results.py

links: setup ## put REPO=owner/name into badges and clone commands
	@$(RUN) tools/links.py $(REPO)

course-stats: setup ## cells, words and figures of every notebook, lines of the package
	@$(RUN) tools/stats.py

clean: ## remove build/ and caches; artifacts/ and .venv stay
	@rm -rf build .pytest_cache .ruff_cache
	@find moda_utils tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# `make` alone lists the targets. Settings: PYTHON=python3.12, TORCH_INDEX=https://... (where torch
# comes from, e.g. the small CPU build), MODA_PROFILE, MODA_HOME, MODA_DATA_DIR (see README).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
COLAB_TORCH ?= torch==2.13.0
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
COLAB := .venv-colab
AUDIT := .venv-audit
QUIET := -m pip --disable-pip-version-check --quiet install
PIP := $(RUN) $(QUIET)
REAL := ../shared/fashion_sample
# Tests never reach for the hub: a missing file is an error at once, not a long wait.
OFFLINE := HF_HUB_OFFLINE=1 TQDM_DISABLE=1 MODA_PROFILE=mini

.PHONY: help browser setup scale course course-scale test lint test-full rehearsal test-colab audit notebooks twins mini measure \
  ablations results links course-stats clean

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

scale: $(STAMP)-scale ## add to .venv what notebook 09 needs: Ray

$(STAMP)-scale: $(STAMP) requirements-scale.txt
	@$(PIP) -c $(CONSTRAINTS) -r requirements-scale.txt
	@touch $@

course: setup ## run the notebooks in order, write HTML pages to build/course
	@$(RUN) tools/course.py

# What notebook 09 starts from is made where it is missing: what `make course` has left stays as it is.
course-scale: scale ## install Ray, run notebook 09, add its page to build/course
	@MODA_PROFILE="$${MODA_PROFILE:-mini}" $(RUN) -c 'from moda_utils import catch_up; catch_up("09", go=True)'
	@$(RUN) tools/course.py 09

test: setup lint ## lint, unit tests, twins, notebooks 0 to 8 as tests
	@rm -rf build/test
	@$(OFFLINE) MODA_HOME=build/test $(RUN) -m pytest -q --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=900 --ignore=notebooks/solutions --ignore-glob='*/09_*' tests notebooks

lint: setup ## ruff
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --check --quiet .

browser: ## Chromium for the web page's test, where Debian's packages can be installed
	@if command -v chromedriver >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
	    chromium chromium-driver >/dev/null || echo "Chromium could not be installed."; \
	else echo "No chromedriver here, and no right to install it: the browser test is skipped."; fi

# Ray has no build for every platform and every new Python: its tests are skipped where it is missing.
test-full: setup browser ## the slow tests, the solutions; with real photos where they are
	@$(MAKE) scale || echo "Ray can't be installed here: notebook 09 and its tests are skipped."
	@test -d $(REAL) || echo "No folder $(REAL): the real-photo run is skipped."
	@$(OFFLINE) MODA_HOME=build/test $(RUN) -m pytest -q --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=900 notebooks/solutions \
	  $$(test -e $(STAMP)-scale && ls notebooks/09_*.ipynb || echo "--ignore-glob=*/09_*")
	@$(OFFLINE) $(RUN) -m pytest -q -m slow tests

rehearsal: setup ## every notebook as a reader of `full` runs it, with stand-ins for hub and Kaggle
	@$(OFFLINE) $(RUN) -m pytest -q -m slow tests/test_rehearsal.py

test-colab: $(COLAB)/.installed ## tests and rehearsal with Colab's versions, and the setup cell there
	@$(OFFLINE) MODA_HOME=build/colab $(COLAB)/bin/python -m pytest -q tests
	@$(OFFLINE) $(COLAB)/bin/python -m pytest -q -m slow tests/test_rehearsal.py tests/test_newcomer.py

# An environment with the versions of Colab's list. Colab has torchvision; it comes along where
# TORCH_INDEX has a build that fits (COLAB_TORCH="torch==2.11.0 torchvision==0.26.0").
$(COLAB)/.installed: constraints-colab.txt requirements.txt requirements-dev.txt
	@test -x $(COLAB)/bin/python || $(PYTHON) -m venv $(COLAB)
	@echo "Installing Colab's versions into $(COLAB), a few minutes the first time ..."
	@$(COLAB)/bin/python $(QUIET) --no-deps $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") $(COLAB_TORCH)
	@$(COLAB)/bin/python $(QUIET) -c constraints-colab.txt -r requirements.txt -r requirements-dev.txt
	@touch $@

audit: ## are there known security holes in the versions of constraints.txt?
	@test -x $(AUDIT)/bin/pip-audit || ($(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python $(QUIET) pip-audit)
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt || \
	  { echo "pip-audit found a hole, or could not reach the list of known ones: its text above says which." >&2; exit 1; }

# Notebooks, stored figures and README's tables are of one and the same run, or a test fails.
notebooks: setup ## execute all twins from nothing, store the notebooks and that run's figures
	@rm -rf build/clean
	@$(RUN) tools/notebooks.py --home build/clean
	@$(RUN) -m images.make_figures strip
	@MODA_HOME=build/clean $(MAKE) results

twins: setup ## do notebooks and twins say the same?
	@$(RUN) tools/notebooks.py --check

mini: setup ## retrain the shipped mini models (up to an hour)
	@$(RUN) -m moda_utils.mini all

# int8_quality needs a trained MODA: one is made for it, from nothing. latency: random weights.
measure: setup ## measure small models, drawn and real photos, int8, latency, scaling (about an hour)
	@$(RUN) -m moda_utils.mini measure-clip --out benchmarks/results/mini-cpu-clip.json
	@$(RUN) -m moda_utils.mini measure-phi3-vision
	@$(RUN) benchmarks/captioning.py --profile mini --batch-size 16 --photos 128
	@$(RUN) -m moda_utils.mini measure-phi3
	@$(RUN) benchmarks/descriptions.py fresh
	@$(RUN) benchmarks/descriptions.py fresh --captions refined
	@if [ -d $(REAL) ]; then $(RUN) benchmarks/descriptions.py real && \
	$(RUN) -m moda_utils.mini measure-phi3 --photos $(REAL); \
	else echo "No folder $(REAL): real photos are not measured."; fi
	@rm -rf build/measure
	@export MODA_PROFILE=mini MODA_HOME=build/measure; \
	$(RUN) -c 'from moda_utils import catch_up; catch_up("07", go=True, captions=True)'; \
	$(RUN) benchmarks/int8_quality.py
	@$(RUN) benchmarks/latency.py
	@if $(RUN) -c 'import ray' 2>/dev/null; then $(RUN) benchmarks/scaling.py; \
	else echo "Ray is not installed (make scale): scaling is not measured."; fi

ablations: setup ## train and grade all variants of notebook 08 (under an hour, calculated; MINUTES=10: a part)
	@$(RUN) benchmarks/ablations.py $(if $(MINUTES),--minutes $(MINUTES))

results: setup ## store the figures of finished runs and show them in README (PROFILE=full)
	@MODA_PROFILE="$(or $(PROFILE),mini)" $(RUN) tools/results.py

links: setup ## put REPO=owner/name into badges and clone commands
	@$(RUN) tools/links.py $(REPO)

course-stats: setup ## cells, words and figures of every notebook, lines of the package
	@$(RUN) tools/stats.py

clean: ## remove build/ and caches; artifacts/ and .venv stay
	@rm -rf build .pytest_cache .ruff_cache
	@find moda_utils tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

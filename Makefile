# `make` without a target lists the targets. Each sets up .venv first. They need only make and Python 3.11+.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready
PYTHONS := python3 python3.11 python3.12 python3.13 python3.14 python
EXTRAS := worker,experiments,dev
DATASETS = $(or $(DATA),$(PALIMPSEST_DATA),$(HOME)/.palimpsest/datasets)

PIP_AUDIT := 2.10.1

# Where it is set, each of the many processes that tests start compiles PyTorch again: 10 s of CPU time, not 7.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# By default uv trusts only its bundled CA certificates; use those of the system, as pip and browsers do.
export UV_SYSTEM_CERTS := 1

.PHONY: help demo up test test-faults test-browser test-slow check audit-dependencies catalog pages site judge setup clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 27

demo: $(READY) ## learn, forget, resize and draw digits (writes demo/)
	@$(RUN) palimpsest.demo

up: $(READY) ## run the API and a worker on http://127.0.0.1:8000 until Ctrl-C
	@exec $(VENV)/bin/palimpsest up

test: $(READY) ## run the tests, without those of the three targets below
	@$(RUN) pytest -m "not slow" -n 2 --dist worksteal --ignore tests/faults --ignore tests/browser

test-faults: $(READY) ## stop, suspend and cut off real processes, and check that nothing is lost (takes minutes)
	@CI=true $(RUN) pytest tests/faults -m "not slow" -n 2 --dist worksteal

test-browser: $(READY) ## test the console and the report page in Chromium
	@CI=true $(RUN) pytest tests/browser -m "not slow"

test-slow: $(READY) ## run the tests that take minutes
	@$(RUN) pytest -m slow

check: $(READY) ## check style, words, types, import rules, migrations and the catalog
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) tests.contracts.plain_words
	@$(RUN) mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-logo > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@$(VENV)/bin/palimpsest migrate --check
	@$(RUN) worker.catalog --check
	@echo "make check: passed"

audit-dependencies: $(READY) ## look up known vulnerabilities of the pinned dependencies (asks the package index)
	@$(VENV)/bin/uv tool run --from pip-audit==$(PIP_AUDIT) pip-audit --strict --progress-spinner off \
	  --no-deps --disable-pip --requirement constraints.txt

catalog: $(READY) ## write service/requests/catalog.json, the list of strategies and datasets
	@$(RUN) worker.catalog

pages: $(READY) ## write the pages and examples that are made from code and stored results, without new runs
	@$(RUN) typer commands.main utils docs --name palimpsest --title "The command line" --output docs/command-line.md
	@$(RUN) tests.api.record_examples
	@$(RUN) service.documents docs
	@$(RUN) experiments.paper
	@$(RUN) experiments.datasets_page
	@$(RUN) experiments.strategies --page docs/strategies.md --text-only

site: $(READY) ## build docs/ as a site, in build/site
	@$(RUN) sphinx -q -W --keep-going -c docs/site -b html docs build/site
	@echo "build/site/index.html"

judge: $(READY) ## retrain the classifiers that measure images (DATA=folder with MNIST)
	@$(RUN) worker.learning.judging.train --dataset mnist --data "$(DATASETS)"
	@$(RUN) worker.learning.judging.train --dataset digits --data "$(DATASETS)"
	@$(RUN) worker.learning.judging.feature_network --dataset mnist --data "$(DATASETS)"

setup: $(READY) ## create .venv and install the pinned dependencies
	@echo "$(VENV) is ready"

clean: ## remove .venv, caches and demo/
	@rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python on PATH that is new enough; PYTHON=/path/to/python overrides the search.
define FIND_PYTHON
for candidate in $(or $(PYTHON),$(PYTHONS)); do \
  version=$$("$$candidate" --version 2>/dev/null) || continue; \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$$candidate; break; fi; \
  seen=$${seen:-$$version}; \
done; \
if [ -z "$${python:-}" ]; then \
  echo "Palimpsest needs Python 3.11 or newer; found $${seen:-none}. Install it, or give its path: make PYTHON=/path/to/python3.11" >&2; exit 1; \
fi; \
if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
  echo "Palimpsest needs Python's venv module, which $$python lacks (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; \
fi
endef

# uv installs torch and the rest (5 GB) in half a minute, pip in four. If uv fails, pip is tried.
$(READY): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	echo "Setting up $(VENV) with $$("$$python" --version): about 5 GB, only this once ..."; \
	$(VENV)/bin/python -c '' 2>/dev/null || "$$python" -m venv --clear $(VENV); \
	if ! { $(RUN) pip install -q -c constraints.txt uv && \
	       $(VENV)/bin/uv pip install -q --python $(VENV)/bin/python -c constraints.txt -e '.[$(EXTRAS)]'; } 2> $(VENV)/uv.log; then \
	  tail -n 3 $(VENV)/uv.log >&2; echo "uv failed, see above; installing with pip, which takes some minutes ..." >&2; \
	  $(RUN) pip install -qq -c constraints.txt -e '.[$(EXTRAS)]'; \
	fi; \
	touch $@

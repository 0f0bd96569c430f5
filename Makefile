# Every command sets up .venv by itself; `make` alone lists them. Needs only Python 3.11+ and make.
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

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv trusts its own certificate list unless told to trust the machine's, as pip and browsers do.
export UV_SYSTEM_CERTS := 1

.PHONY: help demo up test test-slow check catalog pages judge setup clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(READY) ## the main job on real digits: learn, forget, resize, sample (writes demo/)
	@$(RUN) palimpsest.demo

up: $(READY) ## serve on http://127.0.0.1:8000 until Ctrl-C
	@exec $(VENV)/bin/palimpsest up

test: $(READY) ## the tests
	@$(RUN) pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(READY) ## the tests that take minutes
	@$(RUN) pytest -m slow

check: $(READY) ## style, types, import rules; migrations and catalog are up to date
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-logo > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@$(VENV)/bin/palimpsest migrate --check
	@$(RUN) worker.catalog --check
	@echo "make check: all good"

catalog: $(READY) ## write service/requests/catalog.json from what worker/learning declares
	@$(RUN) worker.catalog

pages: $(READY) ## write docs/paper.md and docs/strategies.md from stored results and docstrings, without a run
	@$(RUN) experiments.paper
	@$(RUN) experiments.strategies --page docs/strategies.md --text-only

judge: $(READY) ## train the judges and the feature network again (DATA=folder with MNIST)
	@$(RUN) worker.learning.judging.train --dataset mnist --data "$(or $(DATA),$(PALIMPSEST_DATA),$(HOME)/.palimpsest/datasets)"
	@$(RUN) worker.learning.judging.train --dataset digits --data "$(or $(DATA),$(PALIMPSEST_DATA),$(HOME)/.palimpsest/datasets)"
	@$(RUN) worker.learning.judging.feature_network --dataset mnist --data "$(or $(DATA),$(PALIMPSEST_DATA),$(HOME)/.palimpsest/datasets)"

setup: $(READY) ## create .venv and install what constraints.txt pins
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
  echo "Palimpsest needs Python 3.11 or newer; found $${seen:-none}. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; \
fi; \
if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
  echo "Palimpsest needs Python's venv module, which $$python lacks (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; \
fi
endef

# uv installs the 5 GB of torch in half a minute where pip takes four; pip takes over where uv cannot reach a package.
$(READY): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	echo "Setting up $(VENV) with $$("$$python" --version): about 5 GB, once ..."; \
	$(VENV)/bin/python -c '' 2>/dev/null || "$$python" -m venv --clear $(VENV); \
	if ! { $(RUN) pip install -q -c constraints.txt uv && \
	       $(VENV)/bin/uv pip install -q --python $(VENV)/bin/python -c constraints.txt -e '.[$(EXTRAS)]'; } 2> $(VENV)/uv.log; then \
	  tail -n 3 $(VENV)/uv.log >&2; echo "uv could not install it (above); pip will, in some minutes ..." >&2; \
	  $(RUN) pip install -qq -c constraints.txt -e '.[$(EXTRAS)]'; \
	fi; \
	touch $@

# The front door. CI calls the same targets. Settings, each as NAME=value after `make`:
#   PYTHON    interpreters to try, first fit wins; 3.11 or later
#   FAISS     cpu or gpu; gpu where nvidia-smi finds a device
#   PIP_ARGS  passed to pip: another index, another torch build
#   ARGS      passed to the command of `demo`, `test` and `bench`

SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3 python3.13 python3.12 python3.11
FAISS ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
OTHER_FAISS = $(if $(filter gpu,$(FAISS)),cpu,gpu)
PIP_ARGS ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUNTIME = $(VENV)/.runtime-$(FAISS)
DEV = $(VENV)/.dev-$(FAISS)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

# Models come from installed packages; nothing is looked up or reported while a target runs.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_PROGRESS_BARS := 1
export DO_NOT_TRACK := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test test-install check audit docs bench wheel clean help

demo: $(RUNTIME) ## the whole pipeline on a generated shop, from an empty checkout
	$(BIN)/shortlist demo --out demo $(ARGS)

test: $(DEV) ## the tests; no model, no data set, no network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder $(ARGS)

test-install: $(DEV) ## the wheel with the extra cpu alone, in an environment of its own; needs a package index
	$(BIN)/python -m pytest -q -m slow tests/serving/test_install.py $(ARGS)

check: $(DEV) audit ## lint, format, types, the direction of imports, known vulnerabilities, and the documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict

audit: $(DEV) ## known vulnerabilities of the pinned packages, where an index of advisories can be reached
	@$(BIN)/python .ci/audit.py

docs: $(DEV) ## the site of the documents, in site/; to read it: .venv/bin/mkdocs serve
	$(BIN)/mkdocs build --strict

bench: $(DEV) ## latency of the demo's bundle (run `make demo` first)
	$(BIN)/python -m benchmarks latency demo/bundle $(ARGS)

wheel: $(DEV) ## dist/shortlist-*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove what the targets made, except the environment
	rm -rf demo dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find retrieval indexing ranking serving benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp inside the environment goes with it; a change of the pins or of the requirements installs again.
$(RUNTIME): pyproject.toml constraints.txt
	@$(make_venv)
	@echo "installing shortlist with the extras $(FAISS), train, lambdamart, serve, offline and offline-multilingual (some minutes the first time)"
	@$(install) -e '.[$(FAISS),train,lambdamart,serve,offline,offline-multilingual]'
	@touch $@

$(DEV): pyproject.toml constraints.txt
	@$(make_venv)
	@echo "installing shortlist with the extras $(FAISS), train, offline, offline-multilingual, dev and docs (some minutes the first time)"
	@$(install) -e '.[$(FAISS),train,offline,offline-multilingual,dev,docs]'
	@touch $@ $(RUNTIME)

define make_venv
if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	for python in $(PYTHON); do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$($$python --version)"; \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "none of '$(PYTHON)' is a Python 3.11 or later with venv; install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 2; \
fi
endef

# faiss-cpu and faiss-gpu are two builds of one package: having both breaks the import.
define install
if [ -n "$$(find $(VENV) -maxdepth 1 -name '.*-$(OTHER_FAISS)' -print -quit)" ]; then \
	$(PIP) uninstall --yes faiss-$(OTHER_FAISS) && rm -f $(VENV)/.*-$(OTHER_FAISS); \
fi; \
$(PIP) install $(PIP_ARGS) -c constraints.txt
endef

# dbperf: `make run` measures, `make test` tests. Both install what they need into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# One more than processors: end-to-end tests wait for loads most of their time.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 2) + 1)')
# Where uv exists it installs in seconds; pip does the same, slower.
UV := $(shell command -v uv 2>/dev/null)

define install # 1: requirements file
	@test -x $(BIN)/python || { echo "making $(VENV)"; if [ -n "$(UV)" ]; then $(UV) venv -q --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi; }
	@echo "installing $(1)"
	@if [ -n "$(UV)" ]; then VIRTUAL_ENV=$(VENV) $(UV) pip install -q -r $(1) && VIRTUAL_ENV=$(VENV) $(UV) pip install -q --no-deps -e .; \
	else $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; $(BIN)/python -m pip install -q --disable-pip-version-check -r $(1) && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .; fi
endef

help: ## Show this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.run: requirements/run.txt pyproject.toml
	$(call install,requirements/run.txt)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $@ $(VENV)/.run

# Exit code 1 says that a service level was missed: a result of the run, not a failure of make.
run: $(VENV)/.run ## Seed, load and profile the reference target; ends with a report (ARGS="--quick")
	@$(BIN)/dbperf run $(ARGS) || test $$? -eq 1

# In the order of their folders, the long ones first, so that no process waits for another at the end. Bytecode is
# kept: hundreds of processes import the package.
test: $(VENV)/.dev ## Run all tests (ARGS="tests/unit -k name" for some)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## Format, lint, types, import order
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## Everything that CI runs

bench: $(VENV)/.dev ## Performance figures, as interleaved ratios with intervals
	@for f in benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f $(ARGS) || exit 1; done

calibrate: $(VENV)/.dev ## False alarms and power of the gate, into docs/statistics.md (ARGS="--measure 10m --write")
	@$(BIN)/python benchmarks/calibrate.py $(or $(ARGS),--measure 10m --write)

docs: $(VENV)/.dev ## Write docs/cli.md, the metrics in docs/monitor.md and the READMEs' tables anew
	@$(BIN)/python -m dbperf.cli.reference
	@$(BIN)/python -m dbperf.monitor.reference

dashboards: $(VENV)/.dev ## Write monitor/grafana/*.json anew
	@$(BIN)/python -m monitor.dashboards

tutorial: $(VENV)/.dev ## Run the tutorial and write its outputs anew, in both languages (some minutes)
	@$(BIN)/python -m tests.support.tutorial

pins: $(VENV)/.dev ## Write requirements/*.txt anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url -c requirements/run.txt pyproject.toml requirements/dev.in -o requirements/dev.txt

clean: ## Remove .venv, caches and the embedded server's data
	@test ! -x $(BIN)/dbperf || $(BIN)/dbperf down --all --quiet || true
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test lint check bench docs dashboards tutorial pins clean

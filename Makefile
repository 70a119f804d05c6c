# Steelyard's commands. `make demo` and `make test` set up what they need; a second call finds it done.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/.steelyard-setup
TORCH := torch==2.13.0
WORKERS ?= 2
DEMO ?= runs/demo

export OMP_NUM_THREADS ?= 1
export PYTHONUNBUFFERED := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast verl openrlhf lint format types docs evidence bench clean

help: ## this list
	@echo "Steelyard. The first command that needs it makes .venv (about 2 minutes, once)."
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP) ## make .venv with the steelyard command and all that development needs (about 2 minutes, once)
	@echo "Steelyard is set up: $(BIN)/steelyard"

# torch comes first, by its exact version, so that no other package's open range decides which build is taken.
$(STAMP): pyproject.toml constraints.txt
	@echo "==> Setting up .venv with $$($(PYTHON) --version) (about 2 minutes, once; longer on a slow line; 3 GB of disk with a CPU build of torch)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Steelyard needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "==> 1/3 pip and $(TORCH)"
	@$(PIP) install -qq --upgrade -c constraints.txt pip
	@$(PIP) install -qq $(TORCH)
	@echo "==> 2/3 Steelyard, editable, with everything that development needs"
	@$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@echo "==> 3/3 checking that the parts fit together"
	@$(PIP) check >/dev/null || $(PIP) check || true
	@$(BIN)/steelyard version
	@touch $@

demo: $(STAMP) ## the main job: train GRPO, GRPO + augmentation and ROVA, test them under corruption (about 3 minutes)
	@echo "==> Running the demo into $(DEMO) (about 3 minutes on 2 cores)"
	@OMP_NUM_THREADS=2 $(BIN)/steelyard run rova --out $(DEMO)

test: $(STAMP) lint ## lint, then every test (about 3 minutes)
	@echo "==> Running the tests on $(WORKERS) workers (about 3 minutes on 2 cores)"
	@$(BIN)/python -m pytest -q -n $(WORKERS)

fast: $(STAMP) ## the tests that are not marked slow
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

verl: .venv-verl/.steelyard-setup ## the tests of the ways to TRL and verl, in .venv-verl (2.2 GB; verl wants older transformers)
	@.venv-verl/bin/python -m pytest -q tests/engines

.venv-verl/.steelyard-setup: pyproject.toml
	@echo "==> Setting up .venv-verl (about 2 minutes, once)"
	@test -x .venv-verl/bin/python || $(PYTHON) -m venv .venv-verl
	@.venv-verl/bin/python -m pip install -qq $(TORCH)
	@.venv-verl/bin/python -m pip install -qq -e '.[math,trl,verl,video]' pytest hypothesis
	@touch $@

openrlhf: .openrlhf/.steelyard-setup ## the test with OpenRLHF's own reward client, put into .openrlhf without what its GPUs need (3 MB)
	@PYTHONPATH=.openrlhf $(BIN)/python -m pytest -q tests/engines/test_openrlhf.py

# OpenRLHF asks for flash-attn and deepspeed, which want CUDA; its client needs pylatexenc beside what .venv has. Its
# wheel brings a package `tests`, which would stand before ours.
.openrlhf/.steelyard-setup: $(STAMP)
	@echo "==> Setting up .openrlhf"
	@$(PIP) install -qq --upgrade --no-deps --target .openrlhf openrlhf==0.11.2 pylatexenc
	@rm -rf .openrlhf/tests
	@touch $@

lint: $(STAMP) ## ruff: rules and format
	@echo "==> Linting"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff write the format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP) ## mypy on the public surface
	@echo "==> Checking types"
	@$(BIN)/mypy

docs: $(STAMP) ## the documentation site into site/
	@echo "==> Building the documentation into site/"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

evidence: $(STAMP) ## measure ROVA against its baselines on 5 paired seeds (about 45 minutes on 2 cores)
	@OMP_NUM_THREADS=2 $(BIN)/steelyard evidence rova --seeds 5

bench: .venv/.steelyard-bench ## the benchmarks beside their peers (about 10 minutes)
	@for file in $(filter-out %/__init__.py,$(wildcard benchmarks/*.py)); do \
	  echo "==> $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

# imagecorruptions asks for opencv-python, which would break the headless build beside it; its other needs are enough.
.venv/.steelyard-bench: $(STAMP)
	@echo "==> Installing the benchmarks' peers"
	@$(PIP) install -qq -c constraints.txt -e '.[bench]'
	@$(PIP) install -qq -c constraints.txt --no-deps imagecorruptions
	@touch $@

clean: ## remove .venv, caches and built pages; runs and results stay
	rm -rf .venv .venv-verl .openrlhf site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

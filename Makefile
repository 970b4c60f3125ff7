# Everything runs in .venv, made from requirements.lock: `make train` in a fresh clone needs only Python 3.11 or newer.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages-installed
READY := $(VENV)/.project-installed
# Apache Beam needs older versions of packages that others share.
BEAM := .venv-beam
BEAM_READY := $(BEAM)/.project-installed
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8

.PHONY: help setup train test test-long test-beam check clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY)  ## Make .venv with all packages; the other targets do it by themselves

train: $(READY)  ## Train the quick-start model (more flags: make train ARGS="--config.train.n_steps=100")
	$(BIN)/python train.py --config configs/quickstart.py $(ARGS)

test: $(READY)  ## Run the tests, without those marked long (make test ARGS="-k checkpoint")
	$(PYTEST) $(ARGS)

test-long: $(READY)  ## Run only the tests marked long
	$(PYTEST) -m long --timeout 3600 $(ARGS)

test-beam: $(BEAM_READY)  ## Run the tests of corpora by Apache Beam, in an environment of their own
	$(BEAM)/bin/python -m pytest tests/data/beam tests/commands/test_beam.py $(ARGS)

check: $(READY)  ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:  ## Remove .venv, caches and build outputs; run directories stay
	rm -rf $(VENV) $(BEAM) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . \( -name .git -o -path ./runs \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(PACKAGES): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or newer is needed, and "$(PYTHON)" is not one: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(READY): $(PACKAGES) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BEAM_READY): requirements-beam.lock pyproject.toml
	$(PYTHON) -m venv --clear $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-beam.lock
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

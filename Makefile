# nearfar: `make train` and `make test` set up everything they need; `make help` lists the rest.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

BIN := .venv/bin
READY := .venv/.requirements-installed
GL_READY := .venv/.gl-works

.PHONY: help train test test-long setup lint

help:
	@echo "make train        set up, then train on dmc/cartpole-swingup; ARGS=\"--task dmc/walker-walk --seed 2\""
	@echo "make test         set up, then lint, types and the fast tests"
	@echo "make test-long    the same with the slow tests"
	@echo "make setup        only make .venv from requirements.lock"
	@echo "make lint         only format check, lint and types"
	@echo
	@echo "PYTHON=python3.12   the interpreter that .venv is made with (3.11 or 3.12)"
	@echo "TORCH_INDEX=URL     package index for torch alone, for instance https://download.pytorch.org/whl/cpu"
	@echo "                    (without an NVIDIA GPU, that saves the download of several GB)"

train: setup
	$(BIN)/nearfar train $(ARGS)

# A process for each core; tests of one file share what is slow to set up.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

test: lint
	$(PYTEST)

test-long: lint
	$(PYTEST) -m ""

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY) $(GL_READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "nearfar needs Python 3.11 or 3.12: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python cannot make virtual environments here: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/pip install --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements.lock))
	$(BIN)/pip install -r requirements.lock
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	@touch $@

# Not fatal: what needs no rendering works all the same, and what does says so again.
$(GL_READY): $(READY)
	@if scripts/setup_gl.sh $(BIN)/python; then touch $@; fi

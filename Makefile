# `make serve` and `make test` work on a fresh checkout; each sets up what it needs in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# ONNX Runtime for the CPU or for CUDA: `make serve RUNTIME=gpu`.
RUNTIME ?= cpu
# PyTorch's own index has wheels without CUDA, gigabytes smaller; it is used where it answers within a second.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
PIP_OPTIONS  = $(if $(filter cpu,$(RUNTIME)),$(shell $(BIN)/python -c "import urllib.request as u; u.urlopen('$(TORCH_INDEX)/torch/', timeout=1)" \
	2>/dev/null && echo --extra-index-url $(TORCH_INDEX)))
INSTALL      = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --constraint constraints.txt --editable

.PHONY: help serve test test-slow lint train bench conformance clean

help:
	@echo "make serve      set up and serve models/ on http://127.0.0.1:8080"
	@echo "make test       lint, types and tests"
	@echo "make test-slow  the tests that take longer"
	@echo "make train      train every model of models/ (over an hour on two cores: 'whyserve train --list')"
	@echo "make conformance  the onnx package's test suite on the twin and on ONNX Runtime"
	@echo "make bench      the benchmarks behind the README's figures"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(INSTALL) ".[$(RUNTIME),explain]"
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(INSTALL) ".[$(RUNTIME),explain,train,test]"
	@touch $@ $(VENV)/.serve

serve: $(VENV)/.serve
	@$(BIN)/whyserve serve

lint: $(VENV)/.all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/.all
	$(BIN)/pytest -m slow

train: $(VENV)/.all
	$(BIN)/whyserve train --all

bench: $(VENV)/.all
	$(BIN)/python -m bench

conformance: $(VENV)/.all
	@$(BIN)/python -m bench conformance

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

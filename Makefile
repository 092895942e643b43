# Needs make and a Python of 3.11 or later; everything else goes into .venv.
# On Python 3.11 the versions are those of the lock files, on later ones the newest in pyproject.toml's ranges.
# Once a stamp in .venv is newer than pyproject.toml and the locks, nothing here uses the network.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
IS_311 := $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'

.PHONY: help install demo test lint format types docs lock parity clean

help:
	@echo "make demo     simulate a cohort, train, evaluate, detect: about 10 minutes on 2 cores"
	@echo "              RECORDING=your.edf looks for IEDs in a recording of yours first"
	@echo "make install  set up .venv alone; for a GPU or TPU then: .venv/bin/pip install -e '.[cuda]' (or '.[tpu]')"
	@echo "make test     run the tests        make lint   ruff        make types   pyright"
	@echo "make format   let ruff rewrite     make lock   renew the lock files (Python 3.11)"
	@echo "make docs     build the pages of docs/ as a site in build/site"
	@echo "make parity   compare our networks with PyTorch's, in .venv-parity"
	@echo "make clean    remove caches and builds; .venv and runs stay"

install: .venv/.installed

demo: install
	$(BIN)/python -m experiments.demo $(if $(RECORDING),--recording "$(RECORDING)")

test: .venv/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/.installed-dev
	$(BIN)/pyright

# mkdocs reads the sources and imports nothing of the package. --strict: any warning is an error.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet
	@echo "open build/site/index.html"

.venv-docs/.installed: pyproject.toml | $(BIN)/python
	test -x .venv-docs/bin/python || $(BIN)/python -m venv .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check install -e '.[docs]'
	@touch $@

# The first lock holds what running needs, the second what developing needs besides, at the same versions.
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe \
	--generate-hashes --no-emit-find-links --no-emit-index-url --no-config --resolver=backtracking \
	--build-deps-for=editable --build-deps-for=wheel

lock: .venv/.installed-dev
	@$(IS_311) || { echo "the lock files are made with Python 3.11, .venv has $$($(BIN)/python --version)"; exit 1; }
	$(PIP) install 'pip-tools>=7.5'
	$(COMPILE) --extra=plot --output-file=requirements.lock pyproject.toml
	$(COMPILE) --extra=dev --constraint=requirements.lock --output-file=requirements-dev.lock pyproject.toml

# PyTorch for CPUs where its own index can be reached: the one on PyPI brings gigabytes for GPUs.
PARITY := .venv-parity/bin/python
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

parity: .venv-parity/.installed
	JAX_PLATFORMS=cpu $(PARITY) -m experiments.parity

.venv-parity/.installed: pyproject.toml | $(BIN)/python
	test -x $(PARITY) || $(BIN)/python -m venv .venv-parity
	$(PARITY) -m pip --disable-pip-version-check install --retries 1 --extra-index-url $(TORCH_INDEX) -e '.[parity]'
	@touch $@

clean:
	rm -rf build dist .cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "If you have one under another name: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml requirements.lock | $(BIN)/python
	@if $(IS_311); then set -ex; \
	  $(PIP) install --require-hashes -r requirements.lock; \
	  $(PIP) install --no-build-isolation --no-deps -e .; \
	else set -ex; $(PIP) install -e '.[plot]'; fi
	@touch $@

.venv/.installed-dev: pyproject.toml requirements.lock requirements-dev.lock | $(BIN)/python
	@if $(IS_311); then set -ex; \
	  $(PIP) install --require-hashes -r requirements-dev.lock; \
	  $(PIP) install --no-build-isolation --no-deps -e .; \
	else set -ex; $(PIP) install -e '.[dev]'; fi
	@touch .venv/.installed $@

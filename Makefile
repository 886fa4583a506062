# `make` lists the targets. PYTHON=/path/to/python3 chooses the interpreter of .venv (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
BARLOWCTL := PYTHONUNBUFFERED=1 $(BIN)/barlowctl

.DEFAULT_GOAL := help
.PHONY: help setup data quickstart test test-slow lint format docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with pinned packages and ffcv; installs missing system packages through apt
	@.ci/setup '$(PYTHON)'

data: setup ## Fashion-MNIST, from Debian's package where there is one, else downloaded
	@$(BIN)/barlowctl data info fashion-mnist >/dev/null 2>&1 || { \
		[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || \
			.ci/apt-install dataset-fashion-mnist 2>/dev/null || true; \
		$(BARLOWCTL) data get fashion-mnist; }

quickstart: data ## pre-train on Fashion-MNIST, measure the representation, export it
	$(BARLOWCTL) pretrain --recipe quickstart
	$(BARLOWCTL) probe --pixels --random-init
	$(BARLOWCTL) export --format timm

test: setup ## the tests, less the slow ones
	@$(BIN)/python -m pytest -q -m "not slow"

test-slow: setup ## the slow tests
	@$(BIN)/python -m pytest -q -m slow

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: setup ## docs/cli.md from the commands' own help
	$(BIN)/python docs/generate_cli_reference.py

clean: ## .venv and caches; runs and data stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

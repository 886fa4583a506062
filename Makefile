# `make` lists the targets. PYTHON=/path/to/python3 chooses the interpreter of .venv (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
BARLOWCTL := PYTHONUNBUFFERED=1 $(BIN)/barlowctl

.DEFAULT_GOAL := help
.PHONY: help setup data quickstart study study-plan study-methods study-colour study-adaptation study-recipes colour-tiles test test-slow test-oldest gpu-wheels gpu-check lint format docs docs-site release-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

# The paper's studies on Fashion-MNIST. Stop it and run it again as you like: what is finished stays. docs/study says
# what it costs; SEEDS=1 is a first look, PARALLEL=N runs N cells at a time.
SEEDS ?= 3
PARALLEL ?= 2
STUDY := --loss --asymmetry --drop-aug --batch-size --projector-width --lambd --recipe docs/study/recipe.toml \
	--without width-32,width-128,width-2048,width-4096,width-8192,width-16384 \
	--out studies/fashion-mnist --seeds $(SEEDS)
# Every difference is one to the baseline, so that has more seeds.
BASELINE := --loss --only baseline --recipe docs/study/recipe.toml --out studies/fashion-mnist --seeds 8
# Whose runs show how measures without labels rank them.
LABEL_FREE := docs/study/label-free.csv docs/study/methods/label-free.csv

study-plan: data ## what `make study` would run, and what it costs on this machine
	$(BARLOWCTL) ablate $(STUDY) --parallel $(PARALLEL) --dry-run

study: data ## the paper's ablations on Fashion-MNIST, into docs/study; hours, can be stopped and goes on
	$(BARLOWCTL) ablate $(STUDY) --parallel $(PARALLEL)
	$(BARLOWCTL) ablate $(BASELINE) --parallel $(PARALLEL)
	$(BIN)/python docs/study/early.py studies/fashion-mnist
	$(BIN)/python docs/study/generate.py studies/fashion-mnist
	$(BIN)/python docs/study/label_free.py measure studies/fashion-mnist --csv docs/study/label-free.csv
	$(BIN)/python docs/study/label_free.py correlate $(LABEL_FREE)

# The compared methods at one budget of CPU time; Figure 3 with three of them, on grey clothes and on colour tiles.
METHODS := --methods all --recipe docs/study/recipe.toml --budget cpu-seconds=60 --out studies/methods --seeds $(SEEDS)
FIGURE_3 := --drop-aug --methods barlow-twins,byol,simclr --seeds $(SEEDS)

study-methods: data ## all methods on Fashion-MNIST at 60 CPU-seconds each; an hour of two cores, goes on when stopped
	$(BARLOWCTL) ablate $(METHODS) --parallel $(PARALLEL)
	$(BIN)/python docs/study/generate.py studies/methods docs/study/methods
	$(BIN)/python docs/study/label_free.py measure studies/methods --csv docs/study/methods/label-free.csv
	$(BIN)/python docs/study/label_free.py correlate $(LABEL_FREE)

study-colour: data colour-tiles ## Figure 3 with three methods, on Fashion-MNIST and on colour tiles; goes on when stopped
	$(BARLOWCTL) ablate $(FIGURE_3) --recipe docs/study/recipe.toml --budget steps=700 --out studies/figure-3 \
		--parallel $(PARALLEL)
	$(BIN)/python docs/study/generate.py studies/figure-3 docs/study/figure-3
	$(BARLOWCTL) ablate $(FIGURE_3) --recipe docs/study/colour.toml --out studies/colour --parallel $(PARALLEL)
	$(BIN)/python docs/study/generate.py studies/colour docs/study/colour

study-adaptation: data colour-tiles ## weights of half of the classes adapted to the other half and to colour tiles; half an hour of a core, goes on when stopped
	$(BIN)/python docs/study/adaptation.py studies/adaptation --results docs/study/adaptation

study-recipes: data ## each small recipe as it ships against its random backbone; 4 to 5 CPU-hours, goes on when stopped
	$(BIN)/python docs/study/recipes.py studies/recipes --results docs/study/recipes

colour-tiles: setup ## 37 pictures from Debian and Python packages, cut into 18,500 tiles with classes, packed
	@[ -d studies/colour-tiles-pictures ] || $(BIN)/python docs/study/colour_tiles.py studies/colour-tiles-pictures
	@for split in train test; do \
		$(BARLOWCTL) data info colour-tiles --split $$split >/dev/null 2>&1 || \
			$(BARLOWCTL) data pack studies/colour-tiles-pictures colour-tiles --split $$split || exit; done

# Each worker computes in one thread; a file's tests stay together, since they share what its fixtures made.
test: setup ## the tests, less the slow ones
	@$(BIN)/python -m pytest -q -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: setup ## the slow tests
	@$(BIN)/python -m pytest -q -m slow

test-oldest: ## the tests with the oldest versions that pyproject.toml allows, in build/oldest
	@.ci/test-oldest '$(PYTHON)'

# For the Python of that machine. BARLOWCTL_PEERS=no leaves out the packages that bench compares with.
GPU_PYTHON ?= 3.12
gpu-wheels: ## wheels for a bare CUDA machine, into gpu-wheels/; prints how to install them there
	@.ci/gpu-wheels '$(GPU_PYTHON)' '$(PYTHON)'

gpu-check: ## what only a CUDA GPU can show, into docs/benchmarks; GPU_CHECK=--rehearse: in small on a CPU
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu_check.py $(GPU_CHECK)

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: setup ## docs/cli.md from the commands' own help, docs/recipe.md from the schema, the tree of docs/architecture.md
	$(BIN)/python docs/generate_cli_reference.py
	$(BIN)/python docs/generate_recipe_reference.py
	$(BIN)/python docs/generate_tree.py

docs-site: setup ## the documentation as a site, into build/site; works without a network, and from a folder
	@$(BIN)/python -c 'import furo, myst_nb, sphinx' 2>/dev/null || $(BIN)/python -m pip \
		--disable-pip-version-check install -q -c .ci/constraints.txt --no-build-isolation --editable '.[docs]'
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -d build/site-doctrees docs build/site
	@echo "build/site/index.html"

release-check: setup ## before the tag: version, changelog, wheel and source distribution; writes nothing here
	@$(BIN)/python .ci/release.py --untagged

clean: ## .venv and caches; runs and data stay
	rm -rf .venv build dist gpu-wheels .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

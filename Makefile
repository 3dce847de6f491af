# Every target works from .venv, made from requirements.lock when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Test files two at a time, each with one thread: WORKERS=8 where there are more cores.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile
PIP := $(PY) -m pip install --disable-pip-version-check
# A virtual environment does not survive being moved: its stamp names the place.
READY := $(VENV)/.ready-$(shell pwd | cksum | cut -d' ' -f1)
# Two installations at once, or one that outlived a killed make, wait for each other.
LOCK := $(if $(shell command -v flock),flock .venv.lock)

MODEL ?=
DATASET ?=
ARGS ?=
RUN ?=
RUNS ?= runs
SWEEP ?=
TUNING ?=
TRAIN ?=
OUT ?=
GALLERY ?= gallery
export TEXT ?= a man in a yellow jacket
OVERRIDES = $(if $(MODEL),model=$(MODEL)) $(if $(DATASET),dataset=$(DATASET)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install train sweep tune compare dashboard evaluate explain export index search serve test test-all notebooks docs format lint types layers check lock wheel bench bench-supports bench-gpu bench-search endure clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo '  MODEL=lgur|lcr2s|baseline  DATASET=synthetic|cuhk_pedes|icfg_pedes|rstpreid  ARGS="any.hydra=override"'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tireid needs Python 3.11 or newer, $(PYTHON) is %d.%d; set PYTHON=python3.x" % sys.version_info[:2])'
	@$(LOCK) $(MAKE) --no-print-directory environment

.PHONY: environment
environment: # under the lock; another make may have finished it in the meantime
	@{ test $(READY) -nt requirements.lock && test $(READY) -nt pyproject.toml; } || { \
	  echo 'Installing requirements.lock into $(VENV) (about 2 GB; a few minutes)' && \
	  rm -rf $(VENV) && \
	  $(PYTHON) -m venv $(VENV) && \
	  $(PIP) --no-input -r requirements.lock && \
	  $(PIP) --quiet --no-deps --no-build-isolation -e . && \
	  touch $(READY); }

install: $(READY) ## Install requirements.lock into .venv

train: $(READY) ## Train, evaluate, show: make train MODEL=lgur DATASET=synthetic ARGS="seed=2"
	@$(PY) -m tireid train $(OVERRIDES)

sweep: $(READY) ## Run a grid, or what is missing of it: make sweep SWEEP=lgur_ablation
	@$(PY) -m tireid train $(if $(SWEEP),sweep=$(SWEEP),--multirun) $(OVERRIDES)

tune: $(READY) ## Tune a config: make tune TUNING=lgur_rates TRAIN="trainer=gpu" ARGS="trials=20"
	@$(PY) -m tireid tune $(if $(TUNING),tuning=$(TUNING)) $(if $(TRAIN),'train="$(TRAIN)"') $(ARGS)

compare: $(READY) ## Print one table of runs and write a report: make compare RUNS=runs/sweeps/methods_quick
	@$(PY) -m tireid compare $(RUNS) $(ARGS)

dashboard: $(READY) ## Write a report on Weights & Biases: make dashboard ARGS="--group like_for_like"
	@$(PY) -m tireid dashboard $(ARGS)

evaluate: $(READY) ## Evaluate a run again: make evaluate RUN=runs/... ARGS="split=val"
	@$(PY) -m tireid evaluate $(if $(RUN),'run="$(RUN)"') $(ARGS)

explain: $(READY) ## Draw what a run looks at: make explain RUN=runs/... ARGS="queries=20"
	@$(PY) -m tireid explain $(if $(RUN),'run="$(RUN)"') $(ARGS)

export: $(READY) ## Write a run's model for tireid.load: make export RUN=runs/... OUT=exported
	@$(PY) -m tireid export $(if $(RUN),'run="$(RUN)"') $(if $(OUT),'output="$(OUT)"') $(ARGS)

index: $(READY) ## Index images for a search: make index ARGS="photos/ --out gallery"
	@$(PY) -m tireid index $(ARGS)

search: $(READY) $(GALLERY)/.made ## Search; trains and indexes first if need be: make search TEXT="a man in red"
	@$(PY) -m tireid search "$$TEXT" --in $(GALLERY) --sheet $(GALLERY)/sheet.png $(ARGS)

serve: $(READY) $(GALLERY)/.made ## Open a page that searches, on this machine
	@$(PY) -m tireid serve $(GALLERY) $(ARGS)

$(GALLERY)/.made: $(READY) # the test images of the newest run, or of a short training
	@ls runs/*/*/*/checkpoints/*.ckpt > /dev/null 2>&1 || $(PY) -m tireid train model=baseline max_epochs=4
	@$(PY) -m tireid index --split test --out $(GALLERY) && touch $@

test: $(READY) ## Run the tests, without the slow ones
	@$(PYTEST) -m "not slow and not ddp" $(ARGS)

test-all: $(READY) ## Run all tests; what the machine lacks is skipped with its reason
	@$(PYTEST) $(ARGS)

notebooks: $(READY) ## Run the notebooks, as CI does; their outputs are not kept
	@$(PYTEST) --nbmake --nbmake-timeout 1500 --timeout 1800 notebooks $(ARGS)

bench: $(READY) ## Time a training step against a plain reference: make bench ARGS="--rounds 20"
	@$(PY) benchmarks/lgur_step.py $(ARGS)

bench-supports: $(READY) ## Time LCR2S's steps with each source of supports
	@$(PY) benchmarks/lcr2s_step.py $(ARGS)

bench-gpu: $(READY) ## Check and time all that a GPU changes, about 10 minutes: ARGS="--tiny" on any machine
	@$(PY) benchmarks/gpu.py $(ARGS)

bench-search: $(READY) ## Time the search of a million vectors: ARGS="--run RUN" times the indexing too
	@$(PY) benchmarks/search.py $(ARGS)

endure: $(READY) ## Kill trainings at random moments, continue them, compare: make endure ARGS="--trials 20"
	@$(PY) benchmarks/kill_and_resume.py $(ARGS)

docs: $(READY) ## Build the documentation into site/; any warning is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet && echo 'site/index.html'

format: $(READY) ## Format the code
	@$(VENV)/bin/ruff check --fix src tests benchmarks notebooks
	@$(VENV)/bin/ruff format src tests benchmarks notebooks

lint: $(READY) ## Check style and spelling
	@$(VENV)/bin/ruff check src tests benchmarks notebooks
	@$(VENV)/bin/ruff format --check src tests benchmarks notebooks
	@$(VENV)/bin/codespell src tests benchmarks notebooks conf docs mkdocs.yml *.md *.cff Makefile Dockerfile .github

types: $(READY) ## Check types
	@$(VENV)/bin/pyright

layers: $(READY) ## Check the direction of imports
	@$(VENV)/bin/lint-imports

check: lint types layers test ## All checks

lock: ## Resolve requirements.lock again, to the newest versions pyproject.toml allows
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --disable-pip-version-check torch==2.13.0 hatchling editables '.[wandb,tensorboard,sweep,serve,docs,dev]'
	@build/lock/bin/python -m pip freeze --all --exclude tireid --exclude pip | sed 's/+cpu$$//' > requirements.lock

wheel: $(READY) ## Build the wheel into dist/
	@$(PY) -m build --wheel --no-isolation

clean: ## Remove .venv and what the tools leave; runs stay
	@rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .import_linter_cache

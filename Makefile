# Every target works from .venv, made from requirements.lock when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Test files two at a time, each with one thread, in the order of tests/conftest.py: WORKERS=8 where
# there are more cores.
WORKERS ?= 2
# Tests call make too: what this one was told is not for them.
PYTEST = env -u PYTHONDONTWRITEBYTECODE -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u ARGS OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(PY) -m pip install --disable-pip-version-check
# The locks name every package, so nothing else is installed and nothing without its hash.
LOCKED = $(PIP) --no-input --no-deps --require-hashes
# A virtual environment does not survive being moved: its stamp names the place.
READY := $(VENV)/.ready-$(shell pwd | cksum | cut -d' ' -f1)
# The build of PyTorch: `default`, as PyPI has it (Linux: with CUDA), or a folder of PyTorch's own
# index: cpu, cu126, ... One that was chosen before stays. Without a choice it is `default`, or the
# CPU build where pip is set up to find it.
TORCH ?=
CHOSEN := $(or $(TORCH),$(shell cat $(VENV)/.torch 2> /dev/null))
OTHER_TORCH := $(if $(TORCH),$(if $(filter $(TORCH),$(shell cat $(VENV)/.torch 2> /dev/null)),,other-torch))
TORCH_INDEX ?= https://download.pytorch.org/whl/$(CHOSEN)
TORCH_PIN = $(shell grep -o '^torch==[0-9.]*' requirements.lock)
# Two installations at once, or one that outlived a killed make, wait for each other.
LOCK := $(if $(shell command -v flock),flock .venv.lock)

MODEL ?=
DATASET ?=
ARGS ?=
SWEEP ?=
TUNING ?=
TRAIN ?=
# Names of folders may hold any sign: recipes read them as variables of the shell.
export ROOT ?=
export RUN ?=
export RUNS ?= runs
export OUT ?=
export GALLERY ?= gallery
export TEXT ?= a man in a yellow jacket
FUZZ ?=
OVERRIDES = $(if $(MODEL),model=$(MODEL)) $(if $(DATASET),dataset=$(DATASET)) $(ARGS)

# A mistyped variable would be ignored in silence, and so would one that a target does not take.
TAKES_install := TORCH TORCH_INDEX
TAKES_train := MODEL DATASET ARGS
TAKES_sweep := SWEEP MODEL DATASET ARGS
TAKES_tune := TUNING TRAIN ARGS
TAKES_compare := RUNS ARGS
TAKES_evaluate := RUN ARGS
TAKES_opening := RUN ARGS
TAKES_doctor := DATASET ROOT ARGS
TAKES_explain := RUN ARGS
TAKES_export := RUN OUT ARGS
TAKES_index := ARGS
TAKES_search := GALLERY TEXT ARGS
TAKES_serve := GALLERY ARGS
TAKES_endure := FUZZ ARGS
TAKES_environment = $(GIVEN)
GOAL := $(firstword $(MAKECMDGOALS))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
TAKES := $(or $(TAKES_$(GOAL)),ARGS)
OPEN := PYTHON VENV PY READY WORKERS $(TAKES) $(foreach goal,$(MAKECMDGOALS),$(TAKES_$(goal)))
UNKNOWN := $(sort $(filter-out $(OPEN) MAKE% -%,$(GIVEN)))
ifneq ($(UNKNOWN),)
$(error make $(GOAL): expected $(foreach name,$(TAKES),$(name)=...), got $(foreach name,$(UNKNOWN),$(name)=$($(name))). \
  Names are in capitals, and any setting goes into ARGS: make train MODEL=lgur ARGS="seed=2")
endif

.DEFAULT_GOAL := help
.PHONY: help install train sweep tune compare dashboard doctor evaluate explain export index search serve test test-all notebooks docs format lint types layers check lock licences sbom wheel bench bench-step bench-heads bench-gallery bench-supports bench-evaluation bench-input bench-gpu bench-search bench-words evidence opening fuzz endure clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo '  MODEL=lgur|lcr2s|baseline  DATASET=synthetic|cuhk_pedes|icfg_pedes|rstpreid  ARGS="any.hydra=override"'

NEEDED := requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
.PHONY: other-torch
other-torch:
$(READY): $(NEEDED) $(OTHER_TORCH)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tireid needs Python 3.11 or newer, $(PYTHON) is %d.%d; set PYTHON=python3.x" % sys.version_info[:2])'
	@$(LOCK) $(MAKE) --no-print-directory environment

.PHONY: environment
environment: # under the lock; another make may have finished it in the meantime
	@{ test -z "$(OTHER_TORCH)" && $(foreach file,$(NEEDED),test $(READY) -nt $(file) &&) true; } || { \
	  echo 'Installing requirements.lock into $(VENV): 0.7 GB to download, 3.3 GB with CUDA; a few minutes' && \
	  rm -rf $(VENV) && \
	  $(PYTHON) -m venv $(VENV) && \
	  $(if $(filter-out default,$(CHOSEN)),$(PIP) --no-input --index-url $(TORCH_INDEX) $(TORCH_PIN) &&) \
	  $(if $(CHOSEN),,{ $(LOCKED) --quiet -r requirements-cpu.lock 2> /dev/null || true; } &&) \
	  $(LOCKED) -r requirements.lock && \
	  $(if $(filter-out default,$(CHOSEN)),,if $(PY) -m pip show torch | grep -q nvidia; then $(LOCKED) -r requirements-cuda.lock; fi &&) \
	  $(PIP) --quiet --no-deps --no-build-isolation -e . && \
	  { test -z "$(CHOSEN)" || echo $(CHOSEN) > $(VENV)/.torch; } && \
	  touch $(READY); }

install: $(READY) ## Install requirements.lock into .venv: make install TORCH=cpu, cu126, default, ...

train: $(READY) ## Train, evaluate, show: make train MODEL=lgur DATASET=synthetic ARGS="seed=2"
	@$(PY) -m tireid train $(OVERRIDES)

sweep: $(READY) ## Run a grid, or what is missing of it: make sweep SWEEP=lgur_ablation
	@$(PY) -m tireid train $(if $(SWEEP),sweep=$(SWEEP),--multirun) $(OVERRIDES)

tune: $(READY) ## Tune a config: make tune TUNING=lgur_rates TRAIN="trainer=gpu" ARGS="trials=20"
	@$(PY) -m tireid tune $(if $(TUNING),tuning=$(TUNING)) $(if $(TRAIN),'train="$(TRAIN)"') $(ARGS)

compare: $(READY) ## Print one table of runs and write a report: make compare RUNS=runs/sweeps/methods_quick
	@if test -e "$$RUNS"; then set -- "$$RUNS"; else eval "set -- $$RUNS"; fi; $(PY) -m tireid compare "$$@" $(ARGS)

dashboard: $(READY) ## Write a report on Weights & Biases: make dashboard ARGS="--group like_for_like"
	@$(PY) -m tireid dashboard $(ARGS)

evaluate: $(READY) ## Evaluate a run again: make evaluate RUN=runs/... ARGS="split=val"
	@$(PY) -m tireid evaluate $(if $(RUN),"run=\"$$RUN\"") $(ARGS)

doctor: $(READY) ## Examine a data set: make doctor DATASET=cuhk_pedes ROOT=/data/CUHK-PEDES
	@$(PY) -m tireid doctor $(DATASET) "$$ROOT" $(ARGS)

explain: $(READY) ## Draw what a run looks at: make explain RUN=runs/... ARGS="queries=20"
	@$(PY) -m tireid explain $(if $(RUN),"run=\"$$RUN\"") $(ARGS)

export: $(READY) ## Write a run's model for tireid.load: make export RUN=runs/... OUT=exported
	@$(PY) -m tireid export $(if $(RUN),"run=\"$$RUN\"") $(if $(OUT),"output=\"$$OUT\"") $(ARGS)

index: $(READY) ## Index images for a search: make index ARGS="photos/ --out gallery"
	@$(PY) -m tireid index $(ARGS)

search: $(READY) gallery ## Search; trains and indexes first if need be: make search TEXT="a man in red"
	@$(PY) -m tireid search "$$TEXT" --in "$$GALLERY" --sheet "$$GALLERY/sheet.png" $(ARGS)

serve: $(READY) gallery ## Open a page that searches, on this machine
	@$(PY) -m tireid serve "$$GALLERY" $(ARGS)

.PHONY: gallery
gallery: $(READY) # the test images of the newest run, or of a short training; an index that is there stays
	@if test ! -f "$$GALLERY/index.json" || test -f "$$GALLERY/.unfinished"; then \
	  { find runs -name metrics.json ! -exec grep -q '"finished": false' {} \; -print 2> /dev/null | grep -q . || \
	    $(PY) -m tireid train model=baseline max_epochs=4 hydra.run.dir=runs/synthetic/baseline/short; } && \
	  mkdir -p "$$GALLERY" && touch "$$GALLERY/.unfinished" && \
	  $(PY) -m tireid index --split test --out "$$GALLERY" && rm "$$GALLERY/.unfinished"; fi

test: $(READY) ## Run the tests, without the slow ones
	@$(PYTEST) -p no:nbmake -m "not slow and not ddp" $(ARGS)

test-all: $(READY) ## Run all tests; what the machine lacks is skipped with its reason
	@$(PYTEST) -p no:nbmake $(ARGS)

notebooks: $(READY) ## Run the notebooks, as CI does; their outputs are not kept
	@$(PYTEST) --nbmake --nbmake-timeout 1500 --timeout 1800 notebooks $(ARGS)

bench: $(READY) ## Run all benchmarks of a CPU and print one table: ARGS="--only evaluation input"
	@$(PY) benchmarks/overview.py $(ARGS)

bench-step: $(READY) ## Time LGUR's training step against a plain reference: ARGS="--rounds 20"
	@$(PY) benchmarks/lgur_step.py $(ARGS)

bench-heads: $(READY) ## Time and weigh a step by its identities, all or a share scored
	@$(PY) benchmarks/identity_heads.py $(ARGS)

bench-gallery: $(READY) ## Measure the memory of an evaluation with a million images
	@$(PY) benchmarks/large_gallery.py $(ARGS)

bench-supports: $(READY) ## Time LCR2S's steps with each source of supports
	@$(PY) benchmarks/lcr2s_step.py $(ARGS)

bench-evaluation: $(READY) ## Time exact evaluation against float32 products and a sort
	@$(PY) benchmarks/evaluation.py $(ARGS)

bench-input: $(READY) ## Time the ways from a JPEG file to a training image
	@$(PY) benchmarks/input.py $(ARGS)

bench-gpu: $(READY) ## Check and time all that a GPU changes, about 10 minutes: ARGS="--tiny" on any machine
	@$(PY) benchmarks/gpu.py $(ARGS)

bench-search: $(READY) ## Time the search of a million vectors: ARGS="--run RUN" times the indexing too
	@$(PY) benchmarks/search.py $(ARGS)

bench-words: $(READY) ## Measure how well captions are read: precision and recall per attribute
	@$(PY) benchmarks/caption_attributes.py $(ARGS)

evidence: $(READY) ## Fill the tables of README and docs from results/; list numbers without a source
	@$(PY) benchmarks/evidence.py

opening: $(READY) ## Draw the opening image of the README: make opening RUN=runs/synthetic/lgur/latest
	@$(PY) benchmarks/opening.py $(if $(RUN),--run "$$RUN") $(ARGS)

fuzz: $(READY) ## Run commands on damaged files: make fuzz ARGS="--cases 5000 --seed 1"
	@$(PY) tests/system/fuzz $(ARGS)

endure: $(READY) ## Kill trainings, continue them, compare; then fuzz: make endure ARGS="--trials 20" FUZZ="--cases 5000"
	@$(PY) benchmarks/kill_and_resume.py $(ARGS)
	@$(PY) tests/system/fuzz $(FUZZ)

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

lock: $(READY) ## Write the locks, with hashes; versions stay unless asked: make lock ARGS=--upgrade
	@mkdir -p build && cat requirements.lock requirements-cuda.lock > build/lock
	@$(VENV)/bin/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-annotate --no-header --quiet --output-file build/lock $(ARGS)
	@awk '/^[a-z0-9]/ {file = /^(cuda|nvidia|triton)/ ? "requirements-cuda.lock" : "requirements.lock"} {print > file}' build/lock

licences: $(READY) ## List the licences of what is installed; fail on one that pyproject.toml does not allow
	@$(VENV)/bin/pip-licenses

sbom: $(READY) ## Write a software bill of materials: build/sbom.json (CycloneDX)
	@mkdir -p build && $(VENV)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json $(PY) && echo build/sbom.json

wheel: $(READY) ## Build the wheel into dist/
	@$(PY) -m build --wheel --no-isolation

clean: ## Remove .venv and what the tools leave; runs stay
	@rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .import_linter_cache

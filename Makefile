# Every target sets itself up: .venv is made from requirements.lock, and again when that changes.
PYTHON  ?= python3
PROFILE ?= smoke
RUN     ?= bench
CORES   ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN     := .venv/bin
NBVAL   := --nbval-lax --nbval-current-env --nbval-cell-timeout=300

.DEFAULT_GOAL := help
.PHONY: help setup reproduce status test test-full reliability compatibility check-notebooks \
	notebooks bench results report doctor lab lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | \
		awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/ready  ## make .venv from requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
		{ echo "bogp needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: .venv/ready  ## make what is missing or stale (PROFILE=paper: full MNIST; ONLY=table1)
	@$(BIN)/python -m bogp.workflow.batch reproduce '$(PROFILE)' --only '$(ONLY)' \
		--cores $(CORES) -- $(SNAKEMAKE)

status: .venv/ready  ## list each table and figure of PROFILE: fresh, stale (and why) or missing
	@$(BIN)/python -m bogp.workflow.batch status '$(PROFILE)' --only '$(ONLY)'

test: .venv/ready  ## lint, types, unit tests and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	# One thread a process: there is a process for each core.
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile \
		--no-loadscope-reorder

test-full: test .venv-compatibility/ready  ## that, and the tests that take minutes
	TQDM_DISABLE=1 $(BIN)/python -m pytest -m full
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(COMPATIBILITY)/python -m pytest -m full \
		tests/structural/test_compatibility.py

reliability: .venv/ready  ## kill, damage and misuse everything, and write docs/reliability.md
	BOGP_REPORT=1 TQDM_DISABLE=1 $(BIN)/python -m pytest -m full tests/reliability \
		tests/workflow/test_batch.py
	$(BIN)/python -m tests.reliability.report

# An environment of its own, because these libraries pin what the notebooks do not need.
COMPATIBILITY := .venv-compatibility/bin

.venv-compatibility/ready: requirements-compatibility.lock pyproject.toml
	$(PYTHON) -m venv .venv-compatibility
	$(COMPATIBILITY)/python -m pip install --quiet -r requirements-compatibility.lock
	$(COMPATIBILITY)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

compatibility: .venv-compatibility/ready  ## try torchvision, timm and transformers (an hour)
	OMP_NUM_THREADS=1 $(COMPATIBILITY)/python -m benchmarks.compatibility

check-notebooks: .venv/ready  ## run the notebooks, compare outputs with the committed ones
	TQDM_DISABLE=1 $(BIN)/python -m pytest -p no:cacheprovider $(NBVAL) notebooks/

notebooks: .venv/ready  ## execute the notebooks in place, as they are committed
	TQDM_DISABLE=1 $(BIN)/python -m tests.notebooks.execute_in_place

bench: .venv/ready  ## measure the speed claims (35 minutes, on an idle machine)
	$(BIN)/python -m benchmarks.speed $(RUN)
	$(BIN)/python -m benchmarks.structural $(RUN)
	$(BIN)/python -m benchmarks.depth $(RUN)
	$(BIN)/python -m benchmarks.flow $(RUN)
	$(BIN)/python -m benchmarks.masks $(RUN)

results: .venv/ready  ## write the pages of docs/_templates from the committed tables
	$(BIN)/python -m docs.results

report: .venv/ready  ## build the site from what is committed, into build/site
	rm -rf build/site build/doctrees docs/api
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/site

doctor: .venv/ready  ## check this machine: is it ready, and if not, what is to be done
	$(BIN)/python -m bogp doctor

lab: .venv/ready  ## open JupyterLab (LAB="--no-browser --allow-root" in a container)
	$(BIN)/jupyter lab $(LAB) notebooks

lock: .venv/ready  ## write requirements.lock from the packages that are installed
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//' \
		> requirements.lock

clean:  ## remove what was built, not what was measured
	rm -rf build .snakemake data/databases docs/api

# Two commands for people: `make run` and `make test`. Everything else is what they and CI are made of.
PYTHON ?= python3
PORT ?= 8000
# torch's builds have different hashes by platform, so it stands outside the hashed requirements.
# `make test TORCH=` leaves it out; TORCH_INDEX takes an index of CPU wheels.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PYTEST_ARGS ?=
# One file at a time in each of these processes; JOBS=0 runs all in one. One more than two cores: the tests of real
# servers mostly wait.
JOBS ?= 3
FILES := -n $(JOBS) --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
# Compiling every module takes longer than compiling those that are imported.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
SOURCES := image ci bench model_store tests

# Without compiled files every process of a new environment compiles all that it imports: a server takes 15 s to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run models test slow lint bench format docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Berth needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements.txt
	$(PIP) --no-deps --editable .
	@touch $@

# uv, itself a line of the list, needs a tenth of pip's CPU time. It does not read pip's configuration, so that pip does what
# uv cannot.
$(VENV)/.test: tests/requirements.txt pyproject.toml | $(VENV)/bin/python
	@sed -n '/^uv==/,/[^\\]$$/p' tests/requirements.txt >$(VENV)/uv.txt
	$(PIP) --require-hashes --no-deps -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r tests/requirements.txt \
		|| $(PIP) --require-hashes -r tests/requirements.txt
	$(PIP) --no-deps --editable .
	@[ -z "$(TORCH)" ] || $(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH) \
		|| echo "torch could not be installed; its tests will be skipped"
	@touch $@ $(VENV)/.run

models: $(VENV)/.run ## Train the sample models into model_store/ (once)
	@[ -f model_store/iris/1/model.json ] && [ -f model_store/iris-forest/1/model.json ] \
		|| $(BIN)/python model_store/recipes/iris.py --store model_store

run: models ## Serve the sample models on http://localhost:8000 (PORT=… for another)
	@exec $(BIN)/berth serve model_store --port $(PORT)

# Two processes whose every fit starts a thread for each core wait for one another: the models' tests took half as long
# again. Servers that a test starts set their own.
test: export OMP_NUM_THREADS ?= 1

test: $(VENV)/.test ## Run every test that this machine can run (the long ones: make slow)
	$(BIN)/python -m pytest $(FILES) -m "not slow and not cluster" $(PYTEST_ARGS)

# Those marked `alone` measure what clients notice, and mostly wait. 5: nothing to run, as with --last-failed.
slow: $(VENV)/.test ## Run the long tests
	@status=0; set -x; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(FILES) -m "slow and not alone and not cluster" $(PYTEST_ARGS) \
		|| [ $$? = 5 ] || status=1; \
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow and alone and not cluster" $(PYTEST_ARGS) tests/live \
		|| [ $$? = 5 ] || status=1; \
	exit $$status

lint: $(VENV)/.test ## Check style, types, scripts and generated files
	ci/lint

bench: $(VENV)/.test ## Measure Berth beside its peers, half an hour; needs wrk (BENCH_ARGS=--quick for a look)
	$(BIN)/python bench/run $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(BENCH_ARGS)

format: $(VENV)/.test ## Format the Python code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

docs: $(VENV)/.test ## Write the generated parts of the README again
	$(BIN)/python ci/generate-readme

clean: ## Remove the virtual environment and the sample models
	rm -rf $(VENV) model_store/iris model_store/iris-forest

# make demo: the whole main job on a generated head phantom.    make test: lint and all tests.
# make quick: lint and the tests that take little, in less than a minute on two free cores; for use while writing.
# make lowest: the same tests with the lowest versions that setup.py allows, in .venv-lowest.
# make bench: the benchmarks that fit this machine, written into docs/performance.md (half an hour).
# Each sets itself up in .venv first (a few minutes: torch is large). Another Python beside it:
#   make quick PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPES := $(VENV)/types
LOWEST := .venv-lowest

.PHONY: demo test quick lint lowest bench clean

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py --folder demo

# In a checkout the packages stand beside duiit, which finds them as it is imported (duiit/__init__.py). mypy imports
# nothing: it is shown links laid out as a wheel lays out the packages.
lint: $(READY)
	$(BIN)/ruff check .
	mkdir -p $(TYPES)/duiit
	ln -sfn $(addprefix ../../../,$(filter-out %/__pycache__,$(wildcard duiit/*)) data models options util) $(TYPES)/duiit
	ln -sfn ../../duiit_cli $(TYPES)
	cd $(TYPES) && ../bin/mypy --config-file ../../pyproject.toml -p duiit -p duiit_cli

# One thread a process: two test processes that share two cores run several times faster so.
PYTEST := -m pytest -n auto --dist loadfile --timeout 600

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

bench: $(READY)
	$(BIN)/python benchmarks/bench.py

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not slow"

# Without lint: what mypy finds depends on other packages' types. uv, since pip cannot resolve downwards.
$(LOWEST)/.ready: setup.py constraints.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct \
		--build-constraint constraints.txt -e ".[test]"
	touch $@

lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python $(PYTEST) -m "not slow"

clean:
	rm -rf $(VENV) $(LOWEST) demo

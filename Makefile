# make demo   deblur the example clip with the shipped model
# make test   run the tests (make soak: the long ones too)
# make check  what CI runs before the tests: lint and types
# make tables write the documents' tables from benchmarks/results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PACKAGES := train export runtime benchmarks
DEMO := build/demo

.PHONY: demo test soak check lint types bindings tables wheels clean

demo: $(VENV)/runtime
	@mkdir -p $(DEMO)
	$(BIN)/deblur-video examples/shaky.mp4 $(DEMO)/sharp.mp4 --overwrite --before-after $(DEMO)/before-after.png
	@echo "result: $(DEMO)/sharp.mp4"

# Two files of tests at a time, one thread each: threads of both would wait for each other's cores.
test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

soak: $(VENV)/dev
	$(BIN)/python -m pytest -m "not gpu"

check: lint types

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the installer's finder: it gets the packages as folders.
types: $(VENV)/dev
	@rm -rf build/types && mkdir -p build/types/deblurgan
	@for package in $(PACKAGES); do ln -s ../../../$$package build/types/deblurgan/$$package; done
	MYPYPATH=build/types $(BIN)/mypy $(foreach package,$(PACKAGES),-p deblurgan.$(package))

# Other people's interfaces, for the tests that hold ours against them: TensorRT's bindings
# of several versions on empty libraries, and Triton's protocol without the versions it pins.
bindings: $(VENV)/dev
	$(BIN)/python tests/runtime/tensorrt/stubs.py make
	$(PIP) --no-deps tritonclient grpcio python-rapidjson

# The documents' tables, out of the results that are committed.
tables: $(VENV)/dev
	$(BIN)/python -m deblurgan.benchmarks.report.documents README.md runtime/models/edge.md --results benchmarks/results

# Does what a Jetson installs resolve to wheels? Asks the package index; says so without one.
wheels: $(VENV)/dev
	$(BIN)/python tests/wheels.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Editable: changes to the code need no new installation.
$(VENV)/runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[cpu]"
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[cpu,dev]"
	@touch $@ $(VENV)/runtime

clean:
	rm -rf $(VENV) build

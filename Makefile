# Eight targets: demo, test, check, fmt, models, fuzz, thin-report, bench-docs. All make .venv and install what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FOLDERS := runtime train calibration compile benchmarks cli models
SOURCES := $(wildcard $(addsuffix /*.py,$(FOLDERS)) models/*) pyproject.toml
RECIPES := $(wildcard models/*.toml)

.PHONY: demo test check fmt models fuzz thin-report bench-docs $(RECIPES:.toml=)

demo: $(VENV)/installed
	$(BIN)/quillrt demo

test: check
	$(BIN)/pytest

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p quillrt.,$(FOLDERS))

fmt: $(VENV)/packages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pretrained models from data (QUILLRT_DATA): made in runs/, copied when all of it went well. What stands in a card is
# printed. `make models/digits` makes one.
models: $(RECIPES:.toml=)

$(RECIPES:.toml=): $(VENV)/installed
	$(BIN)/quillrt train --config $@.toml --output runs/$@.safetensors
	$(BIN)/quillrt compile runs/$@.safetensors --config $@.toml --output runs/$@.quill
	$(BIN)/quillrt verify runs/$@.quill
	$(BIN)/quillrt evaluate runs/$@.quill --output runs/$@
	cp runs/$@.safetensors runs/$@.quill models/

# Each reader of files under atheris (CPython 3.11 to 3.13 on Linux) for FUZZ_SECONDS; findings go to runs/fuzz/.
fuzz: $(VENV)/installed
	$(BIN)/pip install --quiet 'atheris>=3,<4'
	$(BIN)/python tests/fuzz/run.py

# Size, start, memory and overhead of the runtime in a fresh virtual environment, beside torch; tables go to runs/thin/.
thin-report: $(VENV)/installed
	$(BIN)/python -m quillrt.benchmarks.thin_report

# The tables of both READMEs and docs/benchmarks.md out of benchmarks/results/.
bench-docs: $(VENV)/installed
	$(BIN)/python -m quillrt.benchmarks.result_docs

# An ordinary install, made again when a source changes: what is checked and tested is what a user gets.
$(VENV)/installed: $(SOURCES) $(VENV)/packages
	rm -rf build quillrt.egg-info
	$(BIN)/pip install --quiet --no-deps --no-build-isolation .
	rm -rf build quillrt.egg-info
	touch $@

$(VENV)/packages: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "quillrt needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "python3-venv is missing: sudo apt install python3-venv" >&2; exit 1; }
	@echo "installing the packages: about 6.4 GB, mostly CUDA libraries of PyTorch"
	$(BIN)/pip install --quiet --disable-pip-version-check '.[all,dev]'
	touch $@

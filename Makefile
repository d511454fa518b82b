# `make demo` and `make test` do all their set-up in .venv. PYTHON chooses the interpreter, 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint wheel dist-check clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[pipeline,train,importers,dev]"
	touch $@

demo: $(VENV)/.installed  ## draw reaction videos, build shards from them, show what came out
	$(BIN)/reactionnet-demo demo

test: lint  ## the fast suite, about 8 minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile

slow: $(VENV)/.installed  ## the checks that take minutes each
	$(BIN)/pytest -q -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check pipeline datasets models tests dags
	$(BIN)/ruff format --check pipeline datasets models tests dags
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/.installed  ## wheel and sdist in dist/
	$(BIN)/python -P -m build

dist-check: $(VENV)/.installed  ## install both in clean environments and build a data set with each
	$(BIN)/pytest -q -m slow tests/test_distribution.py

clean:
	rm -rf $(VENV) demo dist build

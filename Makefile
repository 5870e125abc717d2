# `make run` and `make test` need Python 3.11 to 3.13, git and make, and set up what else they need.
PYTHON ?= python3
VENV := .venv
TORCH := torch==2.13.0

.PHONY: setup run test test-all mutations lint release-check docs clean

run: setup
	$(VENV)/bin/python benchmarks/run.py --model GRU4RecMoS

test: lint
	$(VENV)/bin/pytest -q -n 2

test-all: lint
	$(VENV)/bin/pytest -q -n 2 -m "not gpu"

# Builds the source archive and the wheel, installs it in empty environments and runs the main job from there.
release-check: setup
	$(VENV)/bin/pytest -q -m "slow or not slow" tests/test_release.py

# The documentation as a site, in site/.
docs: setup
	$(VENV)/bin/python docs/build.py

# Which wrong code the tests see: hundreds of single changes, by room. Takes hours.
mutations: setup
	$(VENV)/bin/python tests/robustness/mutations.py

lint: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy benchmarks
	$(VENV)/bin/lint-imports --no-cache

setup: $(VENV)/.complete

# PyTorch first and alone, so that pip picks the build that suits the machine; then everything at its pinned version
# without looking at dependencies, since those of RecBole contradict the rest (mos_recbole/installation.py).
$(VENV)/.complete: requirements.txt pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, set PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# Everything a developer types. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-code test-pages test-e2e test-clients screenshots lint format bench golden dashboards clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tachograph-installed

# The newest Python that is new enough and really starts (a shim of a version manager may be there and not start).
FIND_PYTHON = for p in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3; do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$p"; exit 0; fi; \
	done; exit 1

# The tests start this program by the hundred: what Python has compiled is kept, also where it is told not to.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
	  || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv with everything that is needed (quick the second time)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || { python=$$($(FIND_PYTHON)) || { \
	    echo "make: error: no Python 3.11 or newer found (tried python3.14 to python3.11, python3)" >&2; \
	    echo "make: try: install python3 and python3-venv, or: make setup PYTHON=/path/to/python3" >&2; exit 2; }; \
	  echo "make: $(VENV) with $$($$python -V) ($$python)"; \
	  $$python -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "make: try: apt-get install python3-venv" >&2; exit 2; }; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

run: setup ## start it; an empty store shows a demo until real data comes
	$(BIN)/tachograph up --demo

test: setup lint test-code test-pages ## everything that has to be true before a commit

test-code: setup ## all tests without a browser
	$(BIN)/pytest -n auto --dist worksteal -m "not clients and not e2e"

test-pages: setup ## the pages in Chromium: every link, keys, charts, live, login
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal -rs -m "not thorough" tests/e2e

test-e2e: setup ## the same, accessibility in both themes and widths, and hostile records
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal -rs tests/e2e

screenshots: setup ## every page, light and dark, wide and narrow, into build/screenshots
	PYTHONPATH=tests:tests/forwarders $(BIN)/python tests/e2e/screenshots.py

test-clients: setup ## agents and frameworks of all kinds for real; npm and pip fetch them once
	TACHOGRAPH_CLIENTS_REQUIRED=1 $(BIN)/pytest tests/clients

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests

format: setup ## let ruff put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure speed and size (docs/performance.md says how to read it)
	@for script in $$(grep -l __main__ bench/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

golden: setup ## write expected outputs anew; the diff is the review
	TACHOGRAPH_GOLDEN=write $(BIN)/pytest -n auto -m "not clients and not e2e"

dashboards: setup ## write the dashboards anew from their code
	$(BIN)/python dashboards/code

clean: ## remove what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

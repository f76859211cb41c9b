# One fast command for everyday work, and the longer ones beside it.
PYTHON ?= python

.PHONY: check test docs format

check:  ## under two minutes: linters, types, the quick tests
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict
	$(PYTHON) -m pytest -q -x tests/test_walls.py tests/coding tests/model tests/signal tests/cli

test:  ## everything
	$(PYTHON) -m pytest

docs:  ## the site, into site/; every broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

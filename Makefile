# make demo: install and run a first search.  make test: install with the test extra and run every check.
# make docs: build the documentation in build/docs.  make docs-links: ask the network whether its external links hold.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --constraint constraints.txt

.PHONY: demo test install docs docs-links clean

demo: $(VENV)/.installed
	@$(BIN)/headroom search configs/demo.yaml
	@echo
	@$(BIN)/headroom export demo --to exports/demo
	@echo
	@echo "look further, after . $(BIN)/activate:"
	@echo "  headroom status demo                    the outcome of every trial"
	@echo "  headroom dashboard demo                 live pages: Optuna Dashboard and MLflow"
	@echo "  headroom train exports/demo/best.yaml --to models/demo && headroom predict models/demo NEW.csv   save the model, predict new rows"
	@echo "  headroom init YOUR.csv --to my.yaml && headroom search my.yaml   search on your own data"

test: $(VENV)/.installed-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

docs: $(VENV)/.installed-docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs
	@echo "open build/docs/index.html"

docs-links: $(VENV)/.installed-docs
	@$(BIN)/sphinx-build --quiet --builder linkcheck docs build/docs-links

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("headroom needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch first: with it in place nothing that depends on it brings another build.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch"
	@$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing headroom"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing headroom with what its tests need"
	@$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing headroom with what its documentation needs"
	@$(INSTALL) --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

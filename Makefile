# `make demo`: set up, run the whole method on the bundled organism, leave runs/demo/report.html.
# `make test`: set up, run the tests.  `make check`: set up, every gate.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check

demo: $(VENV)/.installed
	$(BIN)/refusalscope run --out runs/demo

test: $(VENV)/.installed-dev
	scripts/test

check: $(VENV)/.installed-dev $(VENV)/.installed-docs
	scripts/check

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

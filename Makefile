# callreel: `make demo` and `make test` need only Python 3.11, make and a network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.callreel-ready
ARGS ?=
JOBS ?= 2

.PHONY: help demo test serve console lint bench chaos clean

help: ## Show this help
	@echo "make demo    set up, then record a real call end to end (under a minute)"
	@echo "make test    set up, then run the test suite (JOBS=1: one test after the other)"
	@echo "make serve   set up, then run the server (ARGS=\"--http 0.0.0.0:8080\" adds options)"
	@echo "make console fetch htmx and wavesurfer.js for the console's pages, where Node is there"
	@echo "make lint    ruff, mypy --strict and the import rules"
	@echo "make bench   measure capture, rendering, 200 calls at once, 100 bridged ones, 100 messages"
	@echo "make chaos   kill a server's processes 1,000 times and compare every recording"
	@echo "make clean   remove the environment and what runs left behind"

$(STAMP): requirements.lock pyproject.toml scripts/bootstrap.sh scripts/venv.sh
	@PYTHON="$(PYTHON)" sh scripts/bootstrap.sh "$(VENV)"
	@touch $@

demo: $(STAMP) console ## The first minute
	@$(BIN)/callreel demo $(ARGS)

test: $(STAMP) console ## The whole suite
	@PYTHON="$(PYTHON)" sh scripts/sdks.sh "$(VENV)/sdks"
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

serve: $(STAMP) console ## The server, on its defaults
	@$(BIN)/callreel serve $(ARGS)

console: ## What the console's pages load, into the package
	@sh scripts/console.sh

lint: $(STAMP) ## What a change must pass besides the tests
	@echo "==> ruff"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy --strict"
	@$(BIN)/mypy
	@echo "==> import rules"
	@$(BIN)/lint-imports

bench: $(STAMP) ## Figures of this machine, each beside a floor or a peer
	@$(BIN)/python -m bench $(ARGS)

chaos: $(STAMP) ## Kill processes at random, compare every recording (ARGS="--short": a minute)
	@$(BIN)/python -m chaos $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo-output

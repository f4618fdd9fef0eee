# The verbs. Each sets up what it needs in .venv, from hash-locked requirements, and only when those changed.
# A fresh machine needs python3 (3.11 or newer, with venv) and make; choose another one with `make PYTHON=python3.12 ...`.
# pip and npm ask the index their user configured: no address is written here.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet install
CODE := $(sort $(foreach room,src tools tests spec bench examples,$(if $(shell find $(room) -name '*.py' 2>/dev/null | head -n 1),$(room))))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo up test check bench bench-agentdojo conformance frameworks mutants train docs lock format lint types imports house pages

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## see an attack succeed without citywatch and stopped with it, and the log checked
	@$(BIN)/python -m examples.support_desk $(ARGS)

up: $(VENV)/.demo ## run the gateway that ./citywatch.yaml describes
	@$(BIN)/citywatch up $(ARGS)

test: $(VENV)/.dev ## run the whole test suite; COVERAGE=1 also prints what it did not reach
	@$(BIN)/python -m $(if $(COVERAGE),coverage run -m )pytest --ignore=tests/conformance --ignore=tests/frameworks \
	  $(if $(COVERAGE),,-n 3 --dist loadfile --no-loadscope-reorder) $(ARGS)
	@$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

check: $(VENV)/.dev ## check style, types, import rules, house rules and the documentation
	@$(MAKE) --keep-going --no-print-directory lint types imports house pages

bench: $(VENV)/.bench ## measure against peers in the same run; JSON=FILE writes the rows too
	@$(BIN)/python -m bench $(if $(JSON),--json "$(JSON)") $(ARGS)

bench-agentdojo: $(VENV)/.agentdojo ## measure flow control on AgentDojo: hijacked agents, honest work; JSON=FILE too
	@$(VENV)/agentdojo/bin/python -m bench.agentdojo $(if $(JSON),--json "$(JSON)") $(ARGS)

conformance: $(VENV)/.conformance ## run other people's suites: the MCP conformance suite through the gateway
	@$(BIN)/python -m pytest tests/conformance -n 2 --dist loadfile $(ARGS)

frameworks: $(VENV)/.frameworks ## try the SDK's hooks with the agent frameworks they are for
	@$(VENV)/frameworks/bin/python -m pytest tests/frameworks -W default $(ARGS)

mutants: $(VENV)/.dev ## remove each line that enforces an invariant and see its test fail
	@$(BIN)/python -m tools.mutants $(ARGS)

train: $(VENV)/.train ## train the content model from DATA=FOLDER, and print the figures of its card
	@OMP_NUM_THREADS=1 PYTHONPATH=src $(VENV)/train/bin/python -m tools.train_content "$(DATA)" $(ARGS)

docs: $(VENV)/.dev ## write the generated reference pages, then check the documentation
	@$(BIN)/python -m tools.docs --write

lock: $(VENV)/.lock ## compile requirements/*.txt again; ARGS=--upgrade takes the newest of everything
	@$(VENV)/lock/bin/python -m tools.lock $(ARGS)

format: $(VENV)/.dev ## write the code as `make check` wants to read it
	@$(BIN)/ruff check --quiet --fix $(CODE); $(BIN)/ruff format $(CODE)

# The parts of `make check`.

lint: $(VENV)/.dev
	@$(BIN)/ruff check $(CODE); checked=$$?; $(BIN)/ruff format --check $(CODE) && exit $$checked

types: $(VENV)/.dev
	@$(BIN)/mypy $(CODE)

imports: $(VENV)/.dev
	@$(BIN)/lint-imports --no-logo

house: $(VENV)/.dev
	@$(BIN)/python -m tools.purity
	@$(BIN)/python -m tools.house
	@$(BIN)/python -m tools.declared
	@$(BIN)/python -m tools.lock --check

pages: $(VENV)/.dev
	@$(BIN)/python -m tools.docs

# Setting up. A stamp is as old as the install it stands for; `demo` is the light one, `dev` contains it.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'citywatch needs Python 3.11 or newer; `$(PYTHON)` is not. Try `make PYTHON=python3.12 $(MAKECMDGOALS)`.' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '`$(PYTHON)` cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(VENV)/.made
	@echo 'Setting up $(VENV) (once; about a minute)'
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/.made
	@echo 'Setting up $(VENV) with the development tools (once; about a minute)'
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@echo 'Setting up the peers that are measured (once)'
	@$(INSTALL) --require-hashes -r $<
	@touch $@

$(VENV)/.agentdojo: requirements/agentdojo.txt pyproject.toml | $(VENV)/.made
	@echo 'Setting up AgentDojo in $(VENV)/agentdojo, apart from everything else (once; about two minutes)'
	@$(PYTHON) -m venv $(VENV)/agentdojo
	@$(VENV)/agentdojo/bin/python -m pip --disable-pip-version-check --no-input --quiet install --require-hashes -r $<
	@$(VENV)/agentdojo/bin/python -m pip --disable-pip-version-check --no-input --quiet install \
	  --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.frameworks: requirements/frameworks.txt pyproject.toml | $(VENV)/.made
	@echo 'Setting up the agent frameworks in $(VENV)/frameworks, apart from everything else (once)'
	@$(PYTHON) -m venv $(VENV)/frameworks
	@$(VENV)/frameworks/bin/python -m pip --disable-pip-version-check --no-input --quiet install --require-hashes -r $<
	@$(VENV)/frameworks/bin/python -m pip --disable-pip-version-check --no-input --quiet install \
	  --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.conformance: requirements/conformance.txt requirements/node/package-lock.json $(VENV)/.dev
	@echo 'Setting up Node and the conformance suite (once)'
	@$(INSTALL) --require-hashes -r $<
	@mkdir -p $(VENV)/node && cp requirements/node/package.json requirements/node/package-lock.json $(VENV)/node
	@cd $(VENV)/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.train: requirements/train.txt | $(VENV)/.made
	@echo 'Setting up what the content model is trained with (once)'
	@$(PYTHON) -m venv $(VENV)/train
	@$(VENV)/train/bin/python -m pip --disable-pip-version-check --no-input --quiet install --require-hashes -r $<
	@touch $@

$(VENV)/.lock: requirements/lock.txt | $(VENV)/.made
	@$(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

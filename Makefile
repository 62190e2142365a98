# Everything a person types here. `make demo` and `make test` need Python 3.11+, git and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# uv first (a sixth of pip's time); pip where uv cannot be had or cannot reach the registry
define install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) 2>$(VENV)/uv.log \
		|| $(BIN)/python -m pip install --quiet --require-hashes -r $(1) \
		|| { cat $(VENV)/uv.log; exit 1; }
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endef

.PHONY: setup demo test test-all test-cluster test-clients format lint types imports docs bench check lock change clean

$(VENV)/pip:
	$(PYTHON) -c 'import sys; sys.exit("loopwright needs Python 3.11 or later; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

KERNEL := hatch_build.py $(wildcard kernel/*)

$(VENV)/base: requirements/base.lock pyproject.toml $(KERNEL) | $(VENV)/pip
	$(call install,requirements/base.lock)
	touch $@

$(VENV)/dev: requirements/dev.lock pyproject.toml $(KERNEL) | $(VENV)/pip
	$(call install,requirements/dev.lock)
	touch $@ $(VENV)/base

# Ray compiles itself in every process where no bytecode lies, and then misses its own time limits
$(VENV)/ray: requirements/ray.lock | $(VENV)/dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/ray.lock \
		|| $(BIN)/python -m pip install --quiet --require-hashes -r requirements/ray.lock
	touch $@

setup: $(VENV)/dev        ## environment and commit hooks
	git config core.hooksPath .githooks

demo: $(VENV)/base        ## the house-price loop, from problem to live, monitored, retrained endpoint
	$(BIN)/loopwright demo

test: $(VENV)/dev         ## quick tests and examples
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/dev     ## also the slow ones
	$(BIN)/python -m pytest -m "not cluster"

test-cluster: $(VENV)/ray ## on a real Ray cluster of several nodes on this machine
	$(BIN)/python -m pytest -m cluster tests/compute tests/train

test-clients: $(VENV)/dev ## programs of the real SageMaker SDKs, in environments of their own
	LOOPWRIGHT_CLIENTS_REQUIRED=1 $(BIN)/python -m pytest -m slow tests/sagemaker/test_client_flows.py

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev
	$(BIN)/mypy

imports: $(VENV)/dev
	$(BIN)/lint-imports

check: lint types imports test   ## everything the build server runs, in the same order

bench: $(VENV)/dev        ## timings beside peers and physical limits; never a gate
	$(BIN)/python benchmarks/run.py

lock: | $(VENV)/pip       ## resolve the dependencies again
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 pyproject.toml requirements/build.in -o requirements/base.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 pyproject.toml requirements/build.in --group dev -c requirements/base.lock -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 pyproject.toml requirements/build.in --extra ray -c requirements/dev.lock -o requirements/ray.lock
	for sdk in sdk2 sdk3; do $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --python-version 3.11 tests/sagemaker/clients/$$sdk.in -o tests/sagemaker/clients/$$sdk.lock || exit 1; done

change:                   ## start a changelog fragment: make change NAME=12.added
	@test -n "$(NAME)" || { echo "make change NAME=<number>.<added|changed|fixed|removed>"; exit 2; }
	@echo "One sentence a user would care about." > changes/$(NAME).md && echo changes/$(NAME).md

clean:
	rm -rf $(VENV) .loopwright .loopwright-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

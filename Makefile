# Commands for developers. They need Python 3.11 or newer, make and a package index; `make help` lists the targets.
#
# Paths are relative, so that a checkout may be in a folder with spaces. `make peers` also calls apt and npm, and `make ui` npm.

# `python3`, or the newest Debian Python that can create a virtual environment, if `python3` was built without profile-guided
# optimisation: without it, each request costs a tenth more. Python below /usr is optimised, although Debian's does not report it.
DEBIAN := /usr/bin/python
OPTIMISED := import ensurepip, sys, sysconfig, venv; \
  flagged = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""); \
  sys.exit(sys.version_info < (3, 11) or not (flagged or sys.base_prefix == "/usr"))
if_optimised = $(shell $(1) -c '$(OPTIMISED)' 2>/dev/null && echo '$(1)')
PYTHON ?= $(or $(call if_optimised,python3),$(call if_optimised,$(DEBIAN)3.13),$(call if_optimised,$(DEBIAN)3.12),$\
  $(call if_optimised,$(DEBIAN)3.11),python3)
ARGS ?=
BASE ?=
BUILD_BASE ?=
BUILDER ?= docker
IMAGE ?= sidekey
ONCE ?=
MODULE ?=
ROWS ?=
SECONDS ?= 15
TARGET ?=
TESTS ?= $(subst proxy/sidekey,tests,$(dir $(MODULE)))
WHEEL ?=
UV ?= $(BIN)/uv
VENDOR ?= proxy/sidekey/console/static/vendor
OCI := org.opencontainers.image
# No other file knows the address of the repository (CONTRIBUTING.md, "Release").
REPOSITORY := $(patsubst %/,%,$(SIDEKEY_REPOSITORY_URL))
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' proxy/sidekey/__init__.py 2>/dev/null)

VENV := .venv
WHEEL_VENV := .venv-wheel
COMPILED_VENV := .venv-compiled
CHECKOV := tests/peers/checkov/.venv
MITMPROXY := tests/peers/mitmproxy/.venv
MOTO := tests/peers/moto/.venv
OPENAPI := tests/peers/openapi/.venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install --quiet
SOURCES := .ci hatch_build.py hatch_readme.py proxy tests benchmarks tools

# With a PYTHONPATH from the environment, tests could import the checkout, or a foreign package, instead of the wheel under test.
unexport PYTHONPATH

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test cluster-test container-test fuzz mutants wheel wheels release-check lint format docs charts clients ui pictures image bench bench-page bench-core peers lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.runtime ## Show how Sidekey adds a credential, on loopback; ONCE=1 exits after the requests
	@$(BIN)/python -m sidekey demo $(if $(filter-out 0,$(ONCE)),--once)

# Tests start many processes. Without bytecode, each one would compile all modules again.
test: $(if $(WHEEL),wheel-venv,$(VENV)/.dev) ## Run the tests; WHEEL=dist/*.whl tests that wheel, ARGS='-k word' passes arguments to pytest
	@PYTHONDONTWRITEBYTECODE= $(if $(WHEEL),SIDEKEY_EXPECT_BUILD=$(if $(filter %-none-any.whl,$(wildcard $(WHEEL))),pure,compiled) $(WHEEL_VENV),$(VENV))/bin/python \
	  -m pytest -n auto --dist worksteal $(ARGS)

fuzz: $(VENV)/.fuzz ## Fuzz each parser of untrusted bytes; SECONDS=600 sets the time for each, TARGET=paths selects one
	@PYTHONDONTWRITEBYTECODE= PYTHONPATH=tests $(BIN)/python -m fuzz $(TARGET) --seconds $(SECONDS)

# `make test` skips these tests, because they need a cluster or root. They use the images in IMAGE_ARCHIVES, or build them first;
# the time limit of a test does not include the build.
cluster-test: $(VENV)/.dev ## Run the chart on the cluster of KUBECONFIG, or on a node that it starts from the binaries in CLUSTER_BIN
	@if [ -z "$(KUBECONFIG)$(CLUSTER_BIN)" ]; then \
	  echo "cluster-test: set KUBECONFIG to a cluster that you may use (and IMAGE to Sidekey's image there), or CLUSTER_BIN to a" \
	    "folder with hyper and kube-proxy, to start a node on this machine as root" >&2; exit 2; fi
	@CLUSTER_TEST=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -s -o timeout_func_only=true tests/cluster $(ARGS)

container-test: $(VENV)/.dev ## Run image, compose files and plain manifest with podman, as root; IMAGE_ARCHIVES=folder contains built images
	@CONTAINER_TEST=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -o timeout_func_only=true tests/container $(ARGS)

# Another Python, such as the one of an active environment, cannot install the compiled wheel.
INSTALL_COMMAND := import glob, os, shlex, sys; version = "cp%d%d" % sys.version_info[:2]; \
  wheel = max(glob.glob(f"dist/sidekey-$(VERSION)-{version}-*.whl"), key=os.path.getmtime); python = "python%d.%d" % sys.version_info[:2]; \
  print(f"Install it into an environment of {python}: {python} -m pip install {shlex.quote(wheel)}")
wheel: $(VENV)/.compiler ## Build the compiled wheel for this Python into dist/ (needs a C compiler and Python's headers)
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps \
	  --no-build-isolation --no-index --wheel-dir dist .
	@$(BIN)/python -c '$(INSTALL_COMMAND)'

wheels: $(VENV)/.release ## Build and test the compiled wheels of a release into dist/wheels (needs docker, or CIBW_CONTAINER_ENGINE=podman)
	@$(BIN)/python -m cibuildwheel --platform linux --output-dir dist/wheels
	@for wheel in dist/wheels/*.whl; do $(BIN)/python .ci/check_wheel.py "$$wheel" || exit; done

release-check: $(VENV)/.release ## Build sdist, pure wheel, SBOM and chart of a release into dist/release and check them
	@bash .ci/release-check

# cosmic-ray changes the module in the working tree and restores it. After an interrupted run, restore it with `git checkout`.
mutants: $(VENV)/.dev ## Mutate MODULE=FILE and list the mutations that TESTS (default: the tests of its folder) do not detect
	@if [ ! -f '$(MODULE)' ]; then echo "mutants: set MODULE to a file, as in MODULE=proxy/sidekey/policy/tunnel.py" >&2; exit 2; fi
	@mkdir -p .cache
	@sed 's|@MODULE@|$(MODULE)|; s|@TESTS@|$(TESTS)|' cosmic-ray.toml >.cache/cosmic-ray.toml
	@$(BIN)/cosmic-ray init --force .cache/cosmic-ray.toml .cache/mutants.sqlite
	@$(BIN)/cosmic-ray baseline .cache/cosmic-ray.toml
	@$(BIN)/cosmic-ray exec .cache/cosmic-ray.toml .cache/mutants.sqlite
	@$(BIN)/cr-report --surviving-only --show-diff .cache/mutants.sqlite

lint: $(VENV)/.dev ## Check style, formatting, types, imports, declared dependencies, and the project's documents and files
	$(BIN)/python -m ruff check $(SOURCES)
	$(BIN)/python -m ruff format --check $(SOURCES)
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deptry proxy
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --quiet -n auto tests/project

format: $(VENV)/.dev ## Format the code and sort imports
	$(BIN)/python -m ruff check --fix $(SOURCES)
	$(BIN)/python -m ruff format $(SOURCES)

docs: $(VENV)/.runtime ## Regenerate config/schema.json and the reference pages in docs
	$(BIN)/python -m tools.docs

charts: $(VENV)/.dev ## Regenerate the Helm chart's schema and table of values, its plain manifest and the golden files of its tests
	@PYTHONPATH=tests $(BIN)/python -m tools.charts

clients: $(VENV)/.dev ## Run real clients, also with variables removed one by one, and regenerate the tables of docs/clients.md
	@SIDEKEY_RECORD=1 SIDEKEY_REQUIRE_PEERS=1 $(BIN)/python -m pytest --quiet tests/clients/test_services.py
	@PYTHONPATH=tests $(BIN)/python -m support.clients

ui: ## Bundle the libraries of the console's pages (needs node and npm); VENDOR=folder writes elsewhere
	@npm ci --prefix tools/ui --ignore-scripts --silent --no-audit --no-fund
	@node tools/ui/build.mjs '$(VENDOR)'

pictures: $(VENV)/.dev ## Take the screenshots in docs/console.md
	@SIDEKEY_RECORD=1 SIDEKEY_REQUIRE_PEERS=1 $(BIN)/python -m pytest --quiet tests/console/test_pictures.py

image: ## Build the container image; BUILDER=podman or buildah, BASE= and BUILD_BASE=other bases, IMAGE=name:tag, ARGS passes arguments to the builder
	$(BUILDER) build $(if $(filter docker,$(BUILDER)),,--format docker) $(if $(BASE),--build-arg BASE='$(BASE)') \
	  $(if $(BUILD_BASE),--build-arg BUILD_BASE='$(BUILD_BASE)') \
	  --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION="$$(git describe --match= --always --abbrev=40 --dirty 2>/dev/null || echo unknown)" \
	  --label $(OCI).created="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
	  $(if $(REPOSITORY),--label $(OCI).source='$(REPOSITORY)' --label $(OCI).url='$(REPOSITORY)' \
	    --label $(OCI).documentation='$(REPOSITORY)/blob/v$(VERSION)/docs/README.md') \
	  --tag '$(IMAGE)' $(ARGS) .

bench: $(VENV)/.bench $(MITMPROXY)/.made compiled-venv ## Measure Sidekey, compiled and pure, against Envoy, nginx and others; ROWS='http32 newconn' selects rows
	@ROWS='$(ROWS)' COMPILED=$(COMPILED_VENV)/bin/python $(BIN)/python -m benchmarks

bench-page: $(VENV)/.runtime ## Write benchmarks/README.md, and the README's plot and figures, from benchmarks/results.json
	@$(BIN)/python -m benchmarks.page

bench-core: $(VENV)/.runtime ## Measure one exchange without sockets, with the pure build; `make bench ROWS=core` measures both builds
	@$(BIN)/python -m benchmarks.core
	@$(BIN)/python -m benchmarks.signing

peers: $(VENV)/.dev $(CHECKOV)/.made $(MITMPROXY)/.made $(MOTO)/.made $(OPENAPI)/.made ## On Debian, as root: install the programs that tests use
	@packages=$$(PYTHONPATH=tests $(BIN)/python -m support.programs) && \
	if [ -z "$$packages" ]; then echo "peers: no program is missing"; else \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; fi
	@if ! command -v npm >/dev/null; then echo "peers: install npm to get the remaining packages"; else \
	  for folder in tests/peers/oidc tests/peers/crds tests/peers/clients tests/peers/openapi; do ( cd $$folder && \
	    if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then npm ci --silent --no-audit --no-fund; fi ) || exit; done; fi

# The lock files are requirements files with hashes: pip can install them, and unlike uv.lock they contain no address of an index.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-annotate --custom-compile-command 'make lock' --upgrade
lock: $(VENV)/.dev ## Lock the newest versions into requirements*.txt
	$(COMPILE) --output-file requirements-dev.txt pyproject.toml --group dev
	$(COMPILE) --output-file requirements.txt pyproject.toml --all-extras --constraint requirements-dev.txt
	$(COMPILE) --output-file requirements-build.txt --group build --constraint requirements-dev.txt
	$(COMPILE) --output-file requirements-compile.txt --group compile --constraint requirements-dev.txt
	$(COMPILE) --output-file requirements-release.txt --group release --constraint requirements-dev.txt
	$(COMPILE) --output-file requirements-bench.txt --group bench --constraint requirements-dev.txt
	$(COMPILE) --output-file requirements-fuzz.txt --group fuzz --constraint requirements-dev.txt
	$(COMPILE) --output-file tests/peers/checkov/requirements.txt tests/peers/checkov/requirements.in
	$(COMPILE) --output-file tests/peers/mitmproxy/requirements.txt tests/peers/mitmproxy/requirements.in
	$(COMPILE) --output-file tests/peers/moto/requirements.txt tests/peers/moto/requirements.in
	$(COMPILE) --output-file tests/peers/openapi/requirements.txt tests/peers/openapi/requirements.in

clean: ## Remove environments, caches and built files
	rm -rf $(VENV) $(WHEEL_VENV) $(COMPILED_VENV) $(CHECKOV) $(MITMPROXY) $(MOTO) $(OPENAPI) tests/peers/*/node_modules tools/ui/node_modules dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Environments -----------------------------------------------------------------------------------------------------
# Each step has a stamp file and depends on the previous step, so that `make -j` never runs two pips in one environment.

$(VENV)/.made:
	$(call make_venv,$(VENV))

$(VENV)/.runtime: requirements.txt requirements-build.txt pyproject.toml $(VENV)/.made
	@echo "Installing Sidekey into $(VENV) ..."
	@$(BIN)/python $(PIP) --require-hashes -r requirements.txt -r requirements-build.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.compiler: requirements-compile.txt $(VENV)/.runtime
	@echo "Installing the compiler into $(VENV) ..."
	@$(BIN)/python $(PIP) --require-hashes -r requirements-compile.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.compiler
	@echo "Installing the test tools into $(VENV) ..."
	@$(BIN)/python $(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.dev
	@$(BIN)/python $(PIP) --require-hashes -r requirements-bench.txt
	@touch $@

$(VENV)/.fuzz: requirements-fuzz.txt $(VENV)/.dev
	@$(BIN)/python $(PIP) --require-hashes -r requirements-fuzz.txt
	@touch $@

$(VENV)/.release: requirements-release.txt $(VENV)/.dev
	@$(BIN)/python $(PIP) --require-hashes -r requirements-release.txt
	@touch $@

# Programs whose requirements conflict with the project's.
$(CHECKOV)/.made $(MITMPROXY)/.made $(MOTO)/.made $(OPENAPI)/.made: %/.venv/.made: %/requirements.txt
	@echo "Installing $(notdir $*) into $(@D) ..."
	$(call make_venv,$(@D))
	@$(@D)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

$(WHEEL_VENV)/.made:
	$(call make_venv,$(WHEEL_VENV))

$(WHEEL_VENV)/.dev: requirements-dev.txt $(WHEEL_VENV)/.made
	@echo "Installing the test tools into $(WHEEL_VENV) ..."
	@$(WHEEL_VENV)/bin/python $(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: wheel-venv
wheel-venv: $(WHEEL_VENV)/.dev
	$(if $(filter 1,$(words $(wildcard $(WHEEL)))),,$(error WHEEL=$(WHEEL) must name one wheel; build it with: make wheel))
	@$(WHEEL_VENV)/bin/python $(PIP) --no-deps --no-index --force-reinstall $(wildcard $(WHEEL))

# The compiled Sidekey runs on the same Python as the checkout, so that benchmarks compare only the builds.
$(COMPILED_VENV)/.made: $(VENV)/.made
	@$(BIN)/python -m venv --clear $(COMPILED_VENV)
	@touch $@

$(COMPILED_VENV)/.runtime: requirements.txt $(COMPILED_VENV)/.made
	@$(COMPILED_VENV)/bin/python $(PIP) --require-hashes -r requirements.txt
	@touch $@

# pip installs the wheel in dist/ that fits this Python, and prefers a compiled wheel to a pure wheel.
.PHONY: compiled-venv
compiled-venv: wheel $(COMPILED_VENV)/.runtime
	@$(COMPILED_VENV)/bin/python $(PIP) --no-deps --no-index --find-links dist --force-reinstall sidekey

# If PYTHON is missing, too old, or lacks venv (Debian), `make` prints only the line of $(error).
define make_venv
$(if $(shell $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),,\
  $(error Sidekey needs Python 3.11 or newer: install it, or name one with PYTHON=/path/to/python3.11))\
$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && echo yes),,\
  $(error $(PYTHON) cannot create a virtual environment: install python3-venv (Debian, Ubuntu), or name another Python with PYTHON=))
@$(PYTHON) -m venv --clear $(1)
@touch $@
endef

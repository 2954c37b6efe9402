# Every target sets up what it needs first. Python 3.11 or later, git and make must be there;
# nothing else. `make help` lists the targets.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT   ?= out/demo
# The toolchain of `make docs`, which nothing else needs
DOCS  := $(VENV)/.docs-installed
# What drives a browser: `make browser`, `make screenshots`
BROWSER := $(VENV)/.browser-installed
# What `make matrix` looks for
PYTHONS ?= 3.11 3.12 3.13
# What `make matrix-light` installs and runs: nothing of either imports torch
LIGHT := cryptography dp-accounting hypothesis ir-measures jinja2 mpmath numpy prv-accountant pydantic \
  pytest pytest-timeout safetensors scikit-learn scipy typer
NO_TORCH := tests/common/evaluation tests/common/privacy/ledger tests/common/settings \
  $(addprefix tests/common/privacy/accounting/test_,plan.py pld.py replacement.py) \
  $(addprefix tests/common/test_,arrays.py arrays_map.py files.py pages.py record.py) \
  tests/common/federation/test_aggregation.py tests/common/release/test_code_digest.py \
  tests/server/releases/test_gate.py tests/server/run/test_checkpoint.py
# Folders of finished simulations, for `make results`
RUNS  ?=
# How many processes share the tests
WORKERS ?= 2
# More for pytest or the demo, such as ARGS='-k ledger'
ARGS  ?=

# Flower and Ray report usage and look for updates unless told not to.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
# What is compiled is kept, also where the environment says otherwise: each of the tests' processes would
# compile every module and test anew.
unexport PYTHONDONTWRITEBYTECODE
# Tests start `flwr` and its helpers by name.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-statistical faults drill soak attack browser screenshots coverage matrix matrix-light \
  e2e check format docs lock \
  wheel bench chaos small-shops settings http reference results traffic load fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST) | \
	  awk '{ printf "  %s %-18s", $$1, $$2; $$1 = $$2 = ""; print }'

setup: $(STAMP) ## a virtual environment in .venv with pinned packages

demo: $(STAMP) ## simulate eight shops of unlike size into out/demo: one to two minutes
	$(BIN)/fedtail simulate --experiment simulations/experiments/demo.toml --out $(OUT) $(ARGS)

# Files are dealt, in their order, to two processes of one thread each: two of two threads would wait
# for each other.
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## the tests, in WORKERS=2 processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) $(ARGS)

test-slow: $(STAMP) ## the tests that start Flower's own processes or take long
	$(BIN)/python -m pytest -m slow $(ARGS)

test-statistical: $(STAMP) ## the tests that repeat a random experiment many times
	$(BIN)/python -m pytest -m statistical $(ARGS)

faults: $(STAMP) ## break a federation on purpose in each known way, and 20 random ways
	$(BIN)/python -m pytest -m faults $(ARGS)

browser: $(BROWSER) ## look at the merchant's page with the machine's Chromium (CHROMIUM=... names it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser $(ARGS)

screenshots: $(BROWSER) | $(OUT)/release ## pictures of the page on the demo's shop, into docs/images
	$(BIN)/python -m tests.support.screenshots --demo $(OUT) --out docs/images

attack: $(STAMP) ## attack a federation and a deployment's door in each way that was found; 100,000 mutated messages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m attack $(ARGS)

soak: $(STAMP) ## a simulated day of nodes that come, go, lie and die: a few minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak -s $(ARGS)

drill: $(STAMP) ## how far one lying merchant of eight pushes a run, by rule of aggregation
	$(BIN)/python -m simulations.harness.drill $(ARGS)

coverage: $(STAMP) ## the tests, and which lines they run, in out/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) \
	  --cov --cov-report=term --cov-report=html:out/coverage $(ARGS)

# Each interpreter gets an environment of its own under out/matrix, and each is tried, whatever came of
# the one before. ARGS chooses tests, as above.
matrix: ## the tests under each Python of PYTHONS that is in PATH
	@passed=; failed=; for version in $(PYTHONS); do \
	  python$$version -c '' 2>/dev/null || { echo "Python $$version: skipped, not in PATH"; continue; }; \
	  here=out/matrix/$$version; \
	  echo "$$(python$$version --version) in $$here"; \
	  if python$$version -m venv $$here && \
	    $$here/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
	      -c constraints.txt -e '.[dev]' && \
	    OMP_NUM_THREADS=1 PATH="$(CURDIR)/$$here/bin:$$PATH" $$here/bin/python -m pytest $(SHARED) $(ARGS); \
	  then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; echo "Passed under:$${passed:- none}. Failed under:$${failed:- none}."; \
	test -n "$$passed" && test -z "$$failed"

# torch may be at hand as a small CPU build for one Python, and for another as several gigabytes.
matrix-light: $(STAMP) ## the same without torch: syntax, types and the tests that need none of it
	@passed=; failed=; for version in $(PYTHONS); do \
	  python$$version -c '' 2>/dev/null || { echo "Python $$version: skipped, not in PATH"; continue; }; \
	  here=out/matrix/$$version-light; \
	  echo "$$(python$$version --version) in $$here"; \
	  if python$$version -m venv $$here && \
	    $$here/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
	      -c constraints.txt $(LIGHT) && \
	    PYTHONPYCACHEPREFIX=$$here/compiled $$here/bin/python -W error -m compileall -qf \
	      fedtail.py client common server simulations tests && \
	    $(BIN)/mypy --python-version $$version && \
	    $$here/bin/python -m pytest $(NO_TORCH) $(ARGS); \
	  then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; echo "Passed under:$${passed:- none}. Failed under:$${failed:- none}."; \
	test -n "$$passed" && test -z "$$failed"

e2e: $(STAMP) ## one server and four nodes on this machine, from nothing to recommendations
	rm -rf out/e2e
	$(BIN)/python -m simulations.harness.deployment --out out/e2e $(ARGS)

check: $(STAMP) ## style, types and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## put the code into the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DOCS) ## these pages and the API reference as HTML in out/docs, without a network
	rm -rf docs/api out/docs
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet \
	  --doctree-dir out/doctrees docs out/docs
	@echo "out/docs/index.html"

wheel: $(STAMP) ## the wheel in dist/
	rm -rf build  # a file that has moved would be packed from there
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# One thread: a list is served, and a step is trained, on one core, and so is what each is held against.
bench: $(STAMP) ## measure what takes time or memory against its peers: ARGS="CASE ... --keep", ARGS=--list
	OMP_NUM_THREADS=1 $(BIN)/python -m simulations.benchmarks $(ARGS)

traffic: $(STAMP) ## four weeks of a simulated shop, many times: some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m simulations.traffic $(ARGS)

load: $(STAMP) ## ask one service of 20,000 items for lists, from another process (needs wrk)
	OMP_NUM_THREADS=1 $(BIN)/python -m simulations.benchmarks load $(ARGS)

fuzz: $(STAMP) ## ask the service what its OpenAPI allows and what it does not, 5,000 times
	$(BIN)/python -m pytest -m slow -s tests/client/serving/http/test_service_fuzz.py $(ARGS)

chaos: $(STAMP) ## kill a node 200 times at random moments and check its ledger each time
	$(BIN)/python -m simulations.harness.chaos $(ARGS)

# For the Python and platform at hand. Packages may be chosen from a folder that pip is told of; the
# hashes are of what the index has, so the second pip is told of none.
lock: $(STAMP) ## requirements.lock: the hash of each package that a deployment installs
	mkdir -p out
	$(BIN)/python -m pip install --dry-run --ignore-installed --quiet --no-input \
	  --disable-pip-version-check --report out/chosen.json -c constraints.txt .
	$(BIN)/python deploy/lock.py names < out/chosen.json > out/names.txt
	PIP_CONFIG_FILE=/dev/null env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL \
	  $(BIN)/python -m pip install --dry-run --ignore-installed --no-deps --quiet --no-input \
	  --disable-pip-version-check --report out/listed.json -r out/names.txt
	$(BIN)/python deploy/lock.py hashes < out/listed.json > out/requirements.lock
	mv out/requirements.lock requirements.lock

# DATA is a folder of tables; each experiment takes from minutes to an hour.
SMALL := small-shops-64 small-shops-256 kinds-of-goods unequal-shops
small-shops: $(STAMP) ## small and unlike shops on a data set: DATA=folder
	@test -n "$(DATA)" || { echo "make: give a data set: make small-shops DATA=folder" >&2; exit 1; }
	for one in $(SMALL); do $(BIN)/fedtail simulate --data $(DATA) \
	  --experiment simulations/experiments/$$one.toml --out out/$$one $(ARGS) || exit 1; done

settings: $(STAMP) ## pyproject.toml's table of run settings, from common/settings/run.py
	$(BIN)/python -m common.settings.flower_table pyproject.toml

http: $(STAMP) ## docs/ref-http.md from the service's OpenAPI
	$(BIN)/python -m client.serving.http.reference docs/ref-http.md

reference: http $(STAMP) ## docs/ref-cli.md, ref-settings.md and ref-http.md from the code
	PYTHONPATH=. $(BIN)/python docs/cli_reference.py docs/ref-cli.md
	$(BIN)/python -m common.settings.reference docs/ref-settings.md

results: $(STAMP) ## docs/ref-results.md and ref-performance.md from their extracts, with RUNS="out/a out/b" added
	$(BIN)/python -m simulations.results_page.page $(RUNS)
	$(BIN)/python -m simulations.benchmarks.page

clean: ## remove caches and builds; .venv and out/ stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  .coverage docs/api
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Installed again only when what is installed has changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing pinned packages into $(VENV): two to five minutes the first time."
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
	  -c constraints.txt -e '.[dev]'
	@touch $@

$(BROWSER): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
	  -c constraints.txt -e '.[dev,browser]'
	@touch $@

$(OUT)/release:
	@echo "make: no demo in $(OUT); run make demo first." >&2; exit 1

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
	  -c constraints.txt -e '.[dev,docs]'
	@touch $@

# PYTHON=... chooses an interpreter; else the first of these that is new enough.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$("$$python" --version)."; \
	    "$$python" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	    echo "make: $$python could not make a virtual environment; its message is above." >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "make: fedtail needs Python 3.11 or later; found none in PATH." >&2; \
	echo "make: install one, or name it: make PYTHON=/path/to/python3.11 setup" >&2; \
	exit 1

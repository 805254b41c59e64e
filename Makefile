# make run        the whole story on the embedded specimens, from an empty machine: minutes
# make test       pytest, and every committed notebook executed again (nbval)
# make fast       the tests without the slow ones: under two minutes
# make lint       ruff (lint and format) and mypy
# make lab        JupyterLab on the notebooks
# make site       the static site, from the notebooks as they were executed: site/index.html
# make notebooks  for maintainers: sync .py -> .ipynb, execute, copy back (needs Chromium)
# make clean      remove what can be made again; runs/ and the environment stay

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV ?= $(shell command -v uv 2>/dev/null)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN_DIR ?= runs/quick
CELL_TIMEOUT ?= 900
WORKERS ?= 2
EXTRAS := notebooks,test,site,weights

export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Packages of some hundred megabytes: a slow line is no failure.
export UV_HTTP_TIMEOUT ?= 600

.PHONY: run test fast lint lab site notebooks setup clean

run: $(READY)
	@$(BIN)/bionas run 01_data_prep 02_search_space 03_search 04_derivation -p mode=quick --run-dir $(RUN_DIR)

# One thread per worker: two workers then use two cores, and results do not depend on how many there are.
test: $(READY)
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && \
	BIONAS_MODE=smoke BIONAS_RUNS="$$runs" PLOTLY_RENDERER=plotly_mimetype TQDM_DISABLE=1 OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=10 \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) \
		--nbval-sanitize-with=tests/nbval_sanitize.cfg tests notebooks </dev/null

fast: $(READY)
	@TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow" tests </dev/null

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

lab: $(READY)
	@$(BIN)/jupyter lab notebooks

site: $(READY)
	@$(BIN)/python tools/build_site.py site

notebooks: $(READY)
	@$(BIN)/bionas notebooks

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "bionas needs Python 3.11 or newer; none was found. PYTHON=/path/to/python make ..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "$(PYTHON) cannot make an environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV), once: about 3.3 GB to download (PyTorch with its GPU libraries), 7 GB on disk, 3 to 8 minutes."
	@if [ -n "$(UV)" ]; then $(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' </dev/null; \
	else $(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]' </dev/null; fi
	@touch $@

clean:
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache data/cache notebooks/.ipynb_checkpoints
	@find bionas tests benchmarks notebooks tools -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Left as they are: $(VENV) and runs/."

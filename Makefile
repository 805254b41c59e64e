# make run        the whole story on the embedded specimens, from an empty machine: minutes
# make test       pytest, and every committed notebook executed again (nbval)
# make lab        JupyterLab on the notebooks
# make notebooks  for maintainers: sync .py -> .ipynb, execute, copy back (needs Chromium)
# make clean      remove what can be made again; runs/ and the environment stay

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN_DIR ?= runs/quick
CELL_TIMEOUT ?= 900

export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test lab notebooks setup clean

run: $(READY)
	@$(BIN)/bionas run 01_data_prep 02_search_space 03_search 04_derivation -p mode=quick --run-dir $(RUN_DIR)

test: $(READY)
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && \
	BIONAS_MODE=smoke BIONAS_RUNS="$$runs" PLOTLY_RENDERER=plotly_mimetype TQDM_DISABLE=1 \
	$(BIN)/python -m pytest --durations=10 --nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) \
		--nbval-sanitize-with=tests/nbval_sanitize.cfg tests notebooks </dev/null

lab: $(READY)
	@$(BIN)/jupyter lab notebooks

notebooks: $(READY)
	@$(BIN)/bionas notebooks

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "bionas needs Python 3.11 or newer; none was found. PYTHON=/path/to/python make ..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "$(PYTHON) cannot make an environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV), once (PyTorch is large)"
	@$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[notebooks,test]' </dev/null
	@touch $@

clean:
	@rm -rf build dist *.egg-info .pytest_cache data/cache notebooks/.ipynb_checkpoints
	@find bionas tests benchmarks notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Left as they are: $(VENV) and runs/."

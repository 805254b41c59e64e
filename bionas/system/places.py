"""Where things are kept, whatever folder a notebook or a command was started in.

In a checkout (or an editable installation) every place is inside the repository; otherwise it is the current folder.
Notebooks ask here instead of writing `../`, because papermill may run them from the root or from `notebooks/`.
"""

from __future__ import annotations

import os
from pathlib import Path

from bionas.errors import BionasError

CHECKOUT = Path(__file__).resolve().parents[2]


def root() -> Path:
    """The repository this package is imported from, or the current folder where it is installed without one."""
    return (
        CHECKOUT
        if (CHECKOUT / "notebooks").is_dir() and (CHECKOUT / "pyproject.toml").is_file()
        else Path.cwd()
    )


def notebooks() -> Path:
    """The folder of NN_name.py and NN_name.ipynb."""
    return root() / "notebooks"


def runs(run_dir: str | os.PathLike | None = None) -> Path:
    """The folder that holds one folder a run: `run_dir` if given, else $BIONAS_RUNS, else `runs/` of the repository."""
    chosen = run_dir or os.environ.get("BIONAS_RUNS") or root() / "runs"
    return Path(chosen).expanduser().resolve()


def data(name: str = "") -> Path:
    """A file or folder under `data/`: `data("paper/table1_ablation.csv")`.

    Raises:
        BionasError: it is not there; the message says where it was looked for.
    """
    path = root() / "data" / name
    if not path.exists():
        raise BionasError(f"data/{name} was not found in {root()}: run from a checkout of the repository.")
    return path


def results() -> Path:
    """Where commands write tables of results: `data/results/` of the checkout, or of the current folder."""
    return root() / "data" / "results"


def cache() -> Path:
    """What the program draws or decodes and can make again: `data/cache/`."""
    return root() / "data" / "cache"


def publishing() -> bool:
    """Whether the committed notebooks are being made: `make notebooks` sets $BIONAS_PUBLISH."""
    return bool(os.environ.get("BIONAS_PUBLISH"))


def figures(run_dir: str | os.PathLike | None = None) -> Path:
    """Where a notebook writes its figures: `figures/` beside the runs.

    Only while the committed notebooks are regenerated (`publishing`) is it the repository's own `figures/`, so that no smoke test and no private run overwrites a published figure.
    """
    folder = root() / "figures" if publishing() else runs(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown(path: Path) -> str:
    """`path` as one would type it in the current folder; absolute only where the two have no folder in common here.

    A notebook that prints it says `../runs/...`, the same on every machine.
    """
    here = Path.cwd()
    if path.is_relative_to(here) or (path.is_relative_to(root()) and here.is_relative_to(root())):
        return os.path.relpath(path, here)
    return str(path)

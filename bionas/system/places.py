"""Where files are, whatever folder a notebook or a command was started in.

In a checkout (or an editable installation) every place is inside the repository. In an installation from a wheel, what
the package reads (data of the paper, notebooks) is inside the package, and what it writes goes to the current folder.
Notebooks call these functions instead of writing `../`, because papermill may run them from the root or from `notebooks/`.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from bionas.errors import BionasError

CHECKOUT = Path(__file__).resolve().parents[2]


def in_checkout() -> bool:
    """Whether the package is imported from a checkout of the repository."""
    return (CHECKOUT / "notebooks").is_dir() and (CHECKOUT / "pyproject.toml").is_file()


def root() -> Path:
    """The repository; without one $BIONAS_HOME, which the notebook runner sets, else the current folder."""
    return CHECKOUT if in_checkout() else Path(os.environ.get("BIONAS_HOME") or Path.cwd())


def packaged() -> Path:
    """The folder that has `data/` and `notebooks/`: the repository, or the package that a wheel installed."""
    return root() if in_checkout() else Path(str(resources.files("bionas"))) / "packaged"


def notebooks() -> Path:
    """The folder of NN_name.ipynb, in a checkout with NN_name.py beside each."""
    return packaged() / "notebooks"


def runs(run_dir: str | os.PathLike | None = None) -> Path:
    """The folder that holds one folder per run: `run_dir` if given, else $BIONAS_RUNS, else `runs/` of the repository.

    Raises:
        BionasError: it is a file.
    """
    chosen = Path(run_dir or os.environ.get("BIONAS_RUNS") or root() / "runs").expanduser().resolve()
    if chosen.exists() and not chosen.is_dir():
        raise BionasError(f"{chosen} is a file; run_dir is the folder in which run folders are made.")
    return chosen


def data(name: str = "") -> Path:
    """A file or folder under `data/`: `data("paper/table1_ablation.csv")`.

    Raises:
        BionasError: it does not exist; the message says where it was expected.
    """
    path = packaged() / "data" / name
    if not path.exists():
        raise BionasError(
            f"data/{name} was not found in {packaged()}. Install bionas again, or run from a checkout."
        )
    return path


def results() -> Path:
    """Where commands write tables of results: `data/results/` of the repository, or of the current folder."""
    return root() / "data" / "results"


def kept_results() -> Path:
    """Where the tables of results that come with the package are read from."""
    return packaged() / "data" / "results"


def cache() -> Path:
    """What the program draws or decodes and can make again: `data/cache/`."""
    return root() / "data" / "cache"


def publishing() -> bool:
    """Whether the committed notebooks are being made: `make notebooks` sets $BIONAS_PUBLISH."""
    return bool(os.environ.get("BIONAS_PUBLISH"))


def figures(run_dir: str | os.PathLike | None = None) -> Path:
    """Where a notebook writes its figures: `figures/` beside the runs.

    Only while the committed notebooks are made (`publishing`) is it the repository's own `figures/`, so that no smoke
    test and no private run overwrites a published figure.
    """
    folder = root() / "figures" if publishing() else runs(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown(path: Path) -> str:
    """`path` as one would type it in the current folder; absolute only where the two have no folder in common here.

    A notebook that prints it shows `../runs/...`, the same on every machine.
    """
    here = Path.cwd()
    if path.is_relative_to(here) or (path.is_relative_to(root()) and here.is_relative_to(root())):
        return os.path.relpath(path, here)
    return str(path)

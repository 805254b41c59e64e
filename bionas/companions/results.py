"""The measured tables of the two companions (`data/results/`), or the command that makes those that are missing.

Notebooks ask here, so that a table that does not exist yet reads `not run` and shows by itself once it does.
"""

from __future__ import annotations

import pandas as pd

from bionas import places
from bionas.registry import Registry

NOT_RUN = "not run"

COMMANDS: Registry[str] = Registry("result of the companions")
"""Stem of a table's file name -> what makes it."""

for _stem, _command in {
    "seran_field_orders": "bionas seran -p source=folder -p data_dir=FOLDER --out seran_field_orders",
    "eb_lnast_wdbc": "bionas eb-lnast --task wdbc --repeats 10 --out eb_lnast_wdbc",
    "eb_lnast_colour": "bionas eb-lnast --task colour --repeats 10 --out eb_lnast_colour",
    "eb_lnast_records": "bionas eb-lnast --task records --data-dir FILE --repeats 3 --out eb_lnast_records",
    "population_training": "python benchmarks/population_training.py --out data/results/population_training.csv",
}.items():
    COMMANDS.register(_stem)(_command)


def table(stem: str, ending: str = "") -> pd.DataFrame:
    """data/results/<stem><ending>.csv; without rows and columns where it was not run.

    Raises:
        UnknownName: not a name of `COMMANDS`.
    """
    COMMANDS[stem]
    path = places.root() / "data" / "results" / f"{stem}{ending}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def told(stem: str, ending: str = "") -> str:
    """In a line: that a table is not run, with its command; or the command, code and source that it came from."""
    rows = table(stem, ending)
    if rows.empty:
        return f"{stem}{ending}.csv: {NOT_RUN}. Made by: {COMMANDS[stem]}"
    born = [" ".join(sorted(rows[name].dropna().astype(str).unique())) for name in ("source", "code", "command") if name in rows]
    return f"{stem}{ending}.csv: " + " | ".join(born)


def spread(mean: float | None, sd: float | None = None, digits: int = 2) -> str:
    """"13.24 ± 0.41"; `not run` without a mean, the mean alone without a spread."""
    if mean is None or pd.isna(mean):
        return NOT_RUN
    return f"{mean:.{digits}f}" + ("" if sd is None or pd.isna(sd) else f" ± {sd:.{digits}f}")

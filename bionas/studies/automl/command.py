"""`bionas automl`: from the options to a table."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pandas as pd

from bionas.errors import AutoMLError
from bionas.studies.automl import study
from bionas.studies.automl.systems import SYSTEMS
from bionas.training.configuration import from_settings

SHOWN = (
    "model",
    "inputs",
    "n_seeds",
    "accuracy_mean",
    "accuracy_sd",
    "balanced_accuracy_mean",
    "minutes",
    "images_seen",
    "note",
)
UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "": 1.0}


def run(options: SimpleNamespace, command: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Run the chosen systems: one row per run, and the summary, which is printed. None where none was chosen.

    Raises:
        UnknownName: no such system or parameter.
        AutoMLError: a budget that is not a time; an environment that cannot be made.
    """
    if options.make_env:
        system = SYSTEMS[options.make_env]
        if system.environment is None:
            raise AutoMLError(
                f"{system.name} shares this environment: pip install -c constraints.txt -e '.[automl]'"
            )
        print(f"{system.name}: {system.environment.make()}")
        return None
    if not options.system:
        print(catalogue().to_string(index=False))
        return None
    for name in options.system:
        SYSTEMS.require(name)
    plan = from_settings(options.settings)
    rows = study.measured(plan, options.system, options.seeds, minutes(options.budget))
    table = study.table(rows, plan, command)
    print(table.reindex(columns=SHOWN).to_string(index=False, na_rep=""))
    return rows, table


def minutes(text: str) -> float:
    """ "10m", "90s", "1.5h", or a number of minutes.

    Raises:
        AutoMLError: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)(?:in)?", text.strip())
    if not found:
        raise AutoMLError(f"--budget {text}: write a time as 10m, 90s or 1.5h.")
    return float(found[1]) * UNITS[found[2]]


def catalogue() -> pd.DataFrame:
    """The systems: model (the paper's name), typed, here (whether it can be run now), note."""

    def here(system) -> str:
        try:
            system.require()
        except AutoMLError as error:
            return str(error)
        return "yes"

    return pd.DataFrame(
        {"model": s.paper, "typed": s.name, "here": here(s), "note": s.note} for s in SYSTEMS.values()
    )

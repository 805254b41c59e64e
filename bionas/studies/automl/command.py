"""`bionas automl`: from the options to a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from bionas.errors import AutoMLError
from bionas.studies import report
from bionas.studies.automl import study
from bionas.studies.automl.systems import SYSTEMS
from bionas.system.output import show
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


def run(
    systems: Sequence[str],
    budget: str,
    seeds: Sequence[int],
    settings: Sequence[str],
    make_env: str | None,
    out: str | None,
    command: str,
    as_json: bool = False,
) -> int:
    """Run the chosen systems and print their summary: 0, or 1 where a run failed. Alone, list the systems.

    Args:
        budget: wall time of each run, as `minutes` reads it.
        settings: choices of the plan as NAME=VALUE.
        make_env: make the environment of this system instead.
        out: name of the tables in data/results; None writes none.

    Raises:
        UnknownName: no such system or parameter.
        AutoMLError: a budget that is not a time; an environment that cannot be made.
    """
    if make_env:
        system = SYSTEMS[make_env]
        if system.environment is None:
            raise AutoMLError(
                f"{system.name} shares this environment: pip install -c constraints.txt -e '.[automl]'"
            )
        print(f"{system.name}: {system.environment.make()}")
        return 0
    if not systems:
        show(catalogue(), as_json)
        return 0
    for name in systems:
        SYSTEMS.require(name)
    plan = from_settings(settings)
    rows = study.measured(plan, systems, seeds, minutes(budget))
    table = study.table(rows, plan, command)
    show(table, as_json, SHOWN, na_rep="")
    report.write(out, {"": table, "_runs": rows})
    return int(rows["note"].str.startswith("failed").any())


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
    """The systems: model (the paper's name), typed (its name here), here (whether it can be run now), note."""

    def here(system) -> str:
        try:
            system.require()
        except AutoMLError as error:
            return str(error)
        return "yes"

    return pd.DataFrame(
        {"model": s.paper, "typed": s.name, "here": here(s), "note": s.note} for s in SYSTEMS.values()
    )

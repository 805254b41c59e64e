"""`bionas searches`: from what was typed to the study's tables."""

from __future__ import annotations

from collections.abc import Sequence

from bionas.studies import report
from bionas.studies.searches.study import BASELINE, HAND, Study, run
from bionas.studies.searches.tables import SHOWN, runs_table, summary
from bionas.system import places
from bionas.system.output import show
from bionas.training.configuration import from_settings

STRATEGIES_SHOWN = ("random", "gradient", "halving", "most_macs", "synflow", HAND, BASELINE)


def searches(
    settings: Sequence[str],
    strategies: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    mode: str,
    as_json: bool,
    out: str | None,
    command: str,
) -> int:
    """Run the study and write its tables: 0, or 130 where it was interrupted; the same command resumes.

    Args:
        settings: choices of the plan as NAME=VALUE.
        strategies: names of `STRATEGIES`, "hand_drawn" or "resnet18".
        seeds: of the searches.
        minutes: core-minutes of a search and its final training together.
        mode: of the plan.
        as_json: print the whole table as JSON.
        out: name of the tables in data/results and of the study's folder among the runs; without it, "searches", and
            the tables are written into that folder.
        command: as typed, for the tables.
    """
    plan = from_settings(settings, mode=mode)
    study = Study(plan, minutes, tuple(strategies), tuple(seeds), out or "searches")
    interrupted = False
    try:
        rows = run(study)
    except KeyboardInterrupt:
        interrupted, rows = True, study.done()
        print(f"\nbionas: stopped. The same command resumes from {places.shown(study.folder)}.")
    if not rows:
        return 130
    table, runs = summary(study, rows, command), runs_table(rows).assign(command=command)
    show(table, as_json, SHOWN)
    report.write(out or "searches", {"": table, "_runs": runs}, None if out else study.folder)
    return 130 if interrupted else 0

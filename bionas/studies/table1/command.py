"""`bionas ablate`: from the options to a grid that has run, and its tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bionas.errors import BionasError, UnknownName
from bionas.studies import report
from bionas.studies.engines import ENGINES
from bionas.studies.table1.grid import BUDGETS, DECIDED, chosen_rows, prepare
from bionas.studies.table1.grid import ablate as run_grid
from bionas.studies.table1.live import LiveTable
from bionas.studies.table1.tables import runs_table, summary
from bionas.system import places
from bionas.system.output import show
from bionas.training.choices import parsed
from bionas.training.configuration import Plan, plan

SHOWN = (
    "row",
    "primitive_set",
    "fusion",
    "strategy",
    "n",
    "paper_accuracy",
    "accuracy_mean",
    "accuracy_sd",
    "mmacs",
)


def ablate(
    rows: str,
    *,
    seeds: int,
    mode: str,
    settings: Sequence[str],
    budget: int | None,
    minutes: float | None,
    child_epochs: int | None,
    jobs: int | None,
    engine: str,
    address: str | None,
    out: str | None,
    command: str,
    as_json: bool = False,
) -> int:
    """Run a grid and write its tables: 0, or 1 where a trial failed, or 130 where it was interrupted.

    The parameters are those of `bionas ablate`. After an interruption the tables hold what is finished, and mark the rest
    as waiting.

    Raises:
        UnknownName: a row, fusion, strategy, primitive set, mode, engine or parameter that there is not.
        BionasError: choices that cannot be run as asked; see `grid.prepare`.
    """
    ENGINES.require(engine)
    if budget and minutes:
        raise BionasError(
            "--budget counts images and --minutes core-minutes of the same search: give one of them."
        )
    chosen = _plan(mode, settings)
    grid = prepare(
        chosen, chosen_rows(rows), range(seeds), child_epochs=child_epochs, budget=budget, minutes=minutes
    )
    if not grid.trials:
        raise BionasError(f"none of these rows can be run: {next(iter(grid.unfit.values()))}.")
    interrupted = False
    try:
        run_grid(
            grid, engine, LiveTable(grid, sys.stdout), address=address, **({"jobs": jobs} if jobs else {})
        )
    except KeyboardInterrupt:
        interrupted = True
        where = places.shown(grid.folder)
        print(f"\nbionas: stopped. The same command resumes from {where}.", file=sys.stderr)
    runs = runs_table(grid)
    table = summary(grid, runs, command)
    show(table, as_json, SHOWN)
    report.write(out or "ablation", {"": table, "_runs": runs}, None if out else grid.folder)
    failed = runs[runs["status"] == "failed"]
    for run in failed.itertuples():
        print(f"{run.row} seed {run.seed} failed: {run.reason}", file=sys.stderr)
    return 130 if interrupted else 1 if len(failed) else 0


def _plan(mode: str, settings: Sequence[str]) -> Plan:
    """The plan that all rows share; refuses what the grid decides."""
    typed = parsed(settings, Plan)
    if decided := sorted(typed.keys() & DECIDED.keys()):
        words = (f"-p {name}=... is decided by the grid: give {DECIDED[name]}" for name in decided)
        raise BionasError("; ".join(words) + ".")
    if mode not in BUDGETS:
        raise UnknownName("mode", mode, BUDGETS)
    epochs = {name: BUDGETS[mode][name] for name in ("search_epochs", "epochs")}
    return plan(mode, **{**epochs, **typed})

"""`bionas ablate`: from the options to a grid that has run, and its tables."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from bionas.errors import BionasError, UnknownName
from bionas.studies import report
from bionas.studies.engines import ENGINES
from bionas.studies.table1.grid import BUDGETS, DECIDED, Grid, chosen_rows, prepare
from bionas.studies.table1.grid import ablate as run_grid
from bionas.studies.table1.live import LiveTable
from bionas.studies.table1.tables import runs_table, summary
from bionas.system import places
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


def ablate(options: SimpleNamespace, command: str) -> int:
    """Run a grid and write its tables: 0, or 1 where a trial failed, or 130 where it was interrupted.

    After an interruption the tables hold what is finished, and mark the rest as waiting.

    Raises:
        UnknownName: a row, fusion, strategy, primitive set, mode, engine or parameter that there is not.
        BionasError: choices that cannot be run as asked; see `grid.prepare`.
    """
    grid = parse(options)
    engine_options = {"address": options.address} | ({"jobs": options.jobs} if options.jobs else {})
    interrupted = False
    try:
        run_grid(grid, options.engine, LiveTable(grid, sys.stdout), **engine_options)
    except KeyboardInterrupt:
        interrupted = True
        where = places.shown(grid.folder)
        print(f"\nbionas: stopped. The same command resumes from {where}.", file=sys.stderr)
    runs = runs_table(grid)
    table = summary(grid, runs, command)
    print(table[[name for name in SHOWN if name in table]].to_string(index=False))
    report.write(options.out or "ablation", {"": table, "_runs": runs}, None if options.out else grid.folder)
    failed = runs[runs["status"] == "failed"]
    for run in failed.itertuples():
        print(f"{run.row} seed {run.seed} failed: {run.reason}", file=sys.stderr)
    return 130 if interrupted else 1 if len(failed) else 0


def parse(options: SimpleNamespace) -> Grid:
    """The grid of the options, checked before anything runs."""
    ENGINES.require(options.engine)
    rows = chosen_rows(options.rows)
    settings = parsed(options.settings, Plan)
    if decided := sorted(settings.keys() & DECIDED.keys()):
        words = (f"-p {name}=... is decided by the grid: give {DECIDED[name]}" for name in decided)
        raise BionasError("; ".join(words) + ".")
    if options.mode not in BUDGETS:
        raise UnknownName("mode", options.mode, BUDGETS)
    epochs = {name: BUDGETS[options.mode][name] for name in ("search_epochs", "epochs")}
    chosen = plan(options.mode, **{**epochs, **settings})
    if options.budget and options.minutes:
        raise BionasError(
            "--budget counts images and --minutes core-minutes of the same search: give one of them."
        )
    budget = {"budget": options.budget, "minutes": options.minutes}
    grid = prepare(chosen, rows, range(options.seeds), child_epochs=options.child_epochs, **budget)
    if not grid.trials:
        raise BionasError(f"none of these rows can be run: {next(iter(grid.unfit.values()))}.")
    return grid

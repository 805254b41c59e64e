"""A grid that is killed at any write goes on with the same command: no finished row is lost, the table is the same.

Every grid is a process of its own, killed by SIGKILL before a write that is counted, not timed. This file, run as a program,
imports what a grid needs once and forks the processes from there.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
from pathlib import Path

import killing
import laboratory
import pandas as pd
import pytest

from bionas.studies.table1 import grid as ablations
from bionas.studies.table1.tables import runs_table, summary
from bionas.system import files, places
from bionas.training import runs

pytestmark = [killing.needs_fork, pytest.mark.slow]

ROWS = "conv_only/gating/gradient,E007,E012"
MEASURED = ["cpu_ms", "search_minutes", "minutes"]
KILLS = {
    "within the first row": [1, 9],
    "row after row": [40, 25, 20],
}
"""For each grid the writes before which its starts are killed; the last start goes on to the end."""


def grid(folder: Path, name: str) -> ablations.Grid:
    return laboratory.grid(folder / "photographs", folder / name, ROWS, search_epochs=1)


def process(made: ablations.Grid, log: Path, kill: int | None) -> int:
    """Run a grid in a process of its own, to the end or to the kill: its exit status, or minus the signal."""

    def ablate() -> None:
        if kill is not None:
            killing.before_write(kill)
        ablations.ablate(made)

    return killing.forked(ablate, log)


def finished(made: ablations.Grid) -> dict[str, int]:
    """The finished rows, and when each was."""
    done = {str(task): made.run(task).path / "done.json" for task in made.trials}
    return {name: path.stat().st_mtime_ns for name, path in done.items() if path.exists()}


def main(folder: Path) -> None:
    laboratory.photographs(folder / "photographs")
    places.cache = lambda: folder / "cache"
    runs.commit = lambda: "of a test"  # asks git, which takes longer than these rows
    ablations.LATENCY_SECONDS = {"smoke": 0.001}
    ablations.ablate(grid(folder, "never"))
    told = {}
    for where, kills in KILLS.items():
        made, ends, seen = grid(folder, where), [], []
        for kill in [*kills, None]:
            ends.append(process(made, folder / f"{where}.log", kill))
            seen.append(finished(made))
        told[where] = {"ends": ends, "seen": seen}
    for where in ["never", *KILLS]:
        made = grid(folder, where)
        table = runs_table(made)
        files.write_csv(folder / f"{where}_runs.csv", table)
        files.write_csv(folder / f"{where}.csv", summary(made, table, "bionas ablate"))
    files.write_json(folder / "told.json", told)


@pytest.fixture(scope="module")
def grids(tmp_path_factory) -> Path:
    return killing.run_as_program(__file__, tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("where", KILLS)
def test_the_table_is_that_of_a_grid_that_was_never_killed(grids, where):
    ends = json.loads((grids / "told.json").read_text())[where]["ends"]
    assert ends == [-signal.SIGKILL] * len(KILLS[where]) + [0], (grids / f"{where}.log").read_text()
    for suffix in ("_runs", ""):
        ours, undisturbed = (pd.read_csv(grids / f"{name}{suffix}.csv") for name in (where, "never"))
        pd.testing.assert_frame_equal(
            ours.drop(columns=MEASURED), undisturbed.drop(columns=MEASURED), check_exact=True
        )
    assert (pd.read_csv(grids / f"{where}_runs.csv")["status"] == "done").all()


@pytest.mark.parametrize("where", KILLS)
def test_no_finished_row_is_run_again(grids, where):
    seen = json.loads((grids / "told.json").read_text())[where]["seen"]
    for before, after in itertools.pairwise(seen):
        assert before.items() <= after.items()
    assert len(seen[-1]) == 3


def test_the_kills_came_before_within_and_between_rows(grids):  # or they would hold little
    told = json.loads((grids / "told.json").read_text())
    assert {len(seen) for each in told.values() for seen in each["seen"][:-1]} >= {0, 1, 2}


if __name__ == "__main__":
    main(Path(sys.argv[1]))

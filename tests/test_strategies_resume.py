"""Killed at any moment and started again, a search ends with the trace and the genotype of one that never was.

Every search is a process of its own, killed by SIGKILL at points that are counted and not timed, some of the counts
drawn at random. This file, run as a program, imports what searching needs once and forks the processes from there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import killing
import numpy as np
import pandas as pd
import pytest

from bionas.strategies import STRATEGIES, SearchResult, Space, TableEvaluator
from bionas.strategies.one_path import OnePathTrainer
from bionas.trainer import WeightTrainer
from bionas.training import runs
from bionas.training.runs import Run

pytestmark = killing.needs_fork

CANDIDATES = 16
OPTIONS = {"nao": {"initial": 6, "batch": 4, "steps": 5}, "evolutionary": {"population": 5, "tournament": 2}}
VARIANTS = {"beta_darts": {}, "early_stopping": {}, "fair_darts": {}, "gdas": {}, "pc_darts": {"share": 2}}
SMALL = VARIANTS | {
    "gradient": {},
    "enas": {"controller_steps": 4, "finalists": 5},
    "single_path": {"population": 3, "generations": 2},
}
LEFT_OUT = ("most_macs", "synflow", "recommended")
"""Two controls that train nothing (interrupted, they start again), and an alias."""
ROWS = dict.fromkeys(VARIANTS, 3) | {
    "fixed": 1,
    "gradient": 3,
    "enas": 5,
    "single_path": 6,
    "halving": 40,
    "hyperband": 27,
    "dehb": 39,
    "warm_start": 16,
}

SEARCHES = sorted(set(STRATEGIES) - set(LEFT_OUT))

KILLS_OF_SUPERNET = {
    "while the weights learn": [("update", 6), ("update", 2)],
    "half-way through a checkpoint": [("write of", "last.pt", 2)],
    "before the answer is written": [("write of", "done.json", 1)],
}
AMONG_FINALISTS = {"among the finalists": [("write of", "trace.csv", 1), ("candidate", 2)]}
"""Each kill of a search, one after the other: each start goes on until the next one, the last one to the end."""


# --- the processes: this file as a program ----------------------------------------------------------------------------


def search(name: str, path: Path) -> SearchResult:
    """Everything built anew from its seed, or gone on with from `path`."""
    np.random.seed(os.getpid())  # what went before in a process has no say
    if name in SMALL:
        from test_strategies_supernet import SPACE, Tiny

        return STRATEGIES[name](SPACE, Tiny(), 300, seed=3, folder=path, **SMALL[name])
    space = Space((True,), "reduced")
    scores = {g.key(): 0.5 + 0.4 * np.sin(i * 1.7) for i, g in enumerate(space.all())}
    table = TableEvaluator(
        scores, images=10, fidelities={1: TableEvaluator(scores, 2), 3: TableEvaluator(scores, 10)}
    )
    return STRATEGIES[name](space, table, 10 * CANDIDATES, seed=3, folder=path, **OPTIONS.get(name, {}))


POINTS = {
    "candidate": [(TableEvaluator, "__call__"), (OnePathTrainer, "scored")],
    "update": [(WeightTrainer, "update")],
}


def arm(what: str, *where) -> None:
    """Let one passage of a point of the program, counted from 1, kill this process."""
    if what in POINTS:
        killing.before_call(*where, *POINTS[what])
    else:
        killing.within_write(*where)


def process(name: str, path: Path, kill: tuple | None) -> int:
    """Search in a process of its own, to the end or to the kill: its exit status, or minus the signal that killed it."""

    def searched() -> None:
        if kill is not None:
            arm(*kill)
        search(name, path)

    return killing.forked(searched, f"{path}.log")


def kills_of(name: str) -> dict[str, list[tuple]]:
    if name in VARIANTS:  # the trainer of `gradient`, with other parts
        return {"while the weights learn": [("update", 8)]}
    if name in SMALL:
        return KILLS_OF_SUPERNET | (AMONG_FINALISTS if name != "gradient" else {})
    if name == "fixed":  # has one candidate
        return {
            "everywhere": [("candidate", 1), ("write of", "last.pt", 1), ("write of", "genotype.json", 1)]
        }
    some, others = np.random.default_rng(SEARCHES.index(name)).integers(1, 5, size=2).tolist()
    return {
        "at candidates": [("candidate", 1), ("candidate", some), ("candidate", others)],
        "while writing": [
            ("write of", "last.pt", 1),
            ("write of", "trace.csv", 2),
            ("write of", "last.pt", 4),
            ("write of", "genotype.json", 1),
        ],
    }


def main(folder: Path) -> None:
    ends = {}
    runs.commit = lambda: "of a test"  # asks git, which takes longer than these searches
    search("enas", folder / "warm")  # PyTorch imports much of itself here: once, for all processes
    for name in SEARCHES:
        for where, kills in {"never": [], **kills_of(name)}.items():
            path = folder / name / where
            path.parent.mkdir(exist_ok=True)
            ends[f"{name}, {where}"] = [process(name, path, kill) for kill in [*kills, None]]
    (folder / "ends.json").write_text(json.dumps(ends))


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searches(tmp_path_factory) -> Path:
    """The folder of all searches, killed and not, by strategy and by where they were killed."""
    return killing.run_as_program(__file__, tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize(("name", "where"), [(name, where) for name in SEARCHES for where in kills_of(name)])
def test_a_killed_search_ends_as_one_that_was_not(searches, name, where):
    ends = json.loads((searches / "ends.json").read_text())[f"{name}, {where}"]
    kills = kills_of(name)[where]
    log = (searches / name / f"{where}.log").read_text()
    assert ends == [-signal.SIGKILL] * len(kills) + [0], log
    run, undisturbed = Run(searches / name / where), Run(searches / name / "never")
    traces = [one.table("trace").drop(columns=["seconds", "core_seconds"]) for one in (run, undisturbed)]
    pd.testing.assert_frame_equal(*traces, check_exact=True)
    assert run.genotype == undisturbed.genotype and run.summary == undisturbed.summary
    assert [one.path.name for one in run.path.rglob(".*.part")] == []


def test_the_undisturbed_searches_went_their_way(searches):  # or the comparison would hold little
    for name in SEARCHES:
        trace = Run(searches / name / "never").table("trace")
        assert len(trace) == ROWS.get(name, CANDIDATES), name
    assert len(Run(searches / "enas" / "never" / "supernet").history) == 6


if __name__ == "__main__":
    main(Path(sys.argv[1]))

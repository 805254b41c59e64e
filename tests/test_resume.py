"""Killed at any moment and started again, a search or a fit ends bit-identical to one that was never interrupted.

Every run is a process of its own, killed by SIGKILL at a point that is counted, not timed. This file, run as a program,
imports what training needs once and forks the processes from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
from pathlib import Path

import killing
import numpy as np
import pandas as pd
import pytest
import small
import torch
from PIL import Image

from bionas.specimens import SpecimenSet
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.streaming import StreamedImages
from bionas.trainer import WeightTrainer
from bionas.training.fitting import Fit, Search
from bionas.training.loop import Trainer
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

pytestmark = killing.needs_fork

EPOCHS = 3
UPDATES = {"search": 8, "fit": 4, "guarded search": 8, "streamed fit": 4}
"""Updates in an epoch: of w, and of theta in a search. The guarded one is given more epochs and ends itself after EPOCHS;
the streamed fit decodes photographs for each batch, one of which cannot be read."""

KILLS = {
    "in the first epoch": [("update", 0, 3)],
    "inside an epoch": [("update", 1, 2)],
    "during the first checkpoint write": [("write of", "last.pt", 1)],
    "during a checkpoint write": [("write of", "last.pt", 2)],
    "between epochs, before the tables": [("tables", 2)],
    "between epochs, half-way through a table": [("write of", "history.csv", 2)],
    "after the last epoch": [("tables", EPOCHS)],
    "and killed again, while going on": [("update", 1, 1), ("tables", 1), ("update", 0, 2)],
}
"""Each kill of a run, one after the other; the next start goes on until the next one, the last one to the end."""


FORGIVEN = ["seconds", "core_seconds", "images_per_second"]


# --- the processes: this file as a program --------------------------------------------------------------------------


def start(kind: str, path: Path) -> Trainer:
    """Everything built anew from its seed, or gone on with from `path`."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(os.getpid())  # what went before in a process has no say
    sides = small.sides()
    choices = {"epochs": EPOCHS, "batch_size": 12, "augment": "flips_and_shifts", "device": "cpu", "seed": 3}
    if kind == "search":
        return Search(small.supernet(sides[2], seed=3), *sides, SearchConfig(**choices), Run(path))
    if kind == "guarded search":
        choices |= {"epochs": EPOCHS + 3, "max_skips": EPOCHS - 1}
        network = small.Collapsing.begun(small.supernet(sides[2], seed=3))
        return small.Collapsing(network, *sides, SearchConfig(**choices), Run(path))
    if kind == "streamed fit":
        sides = (streamed(sides[0], path.parent / "photographs"), *sides[1:])
    return Fit(small.derived(sides[2], seed=3), *sides, FitConfig(**choices), Run(path))


UNREADABLE = 7
"""Which photograph of the streamed fit is cut off."""


def streamed(specimens: SpecimenSet, folder: Path) -> SpecimenSet:
    """The same specimens with images that are decoded from files, written to `folder` where they are not there yet."""
    names = [f"{i:02}.png" for i in range(len(specimens))]
    if not folder.exists():
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            Image.fromarray(specimens.require_images().pixels(np.array([i]))[0]).save(folder / name)
        whole = (folder / names[UNREADABLE]).read_bytes()
        (folder / names[UNREADABLE]).write_bytes(whole[: len(whole) // 3])
    size = specimens.require_images().size
    images = StreamedImages(FolderPhotographs(folder, names), size, workers=2, max_unreadable=0.1)
    return dataclasses.replace(specimens, images=images)


def arm(kind: str, what: str, *where) -> None:
    """Let one passage of a point of the program, counted from 1, kill this process."""
    if what == "update":
        epoch, number = where
        killing.before_call(epoch * UPDATES[kind] + number, (WeightTrainer, "update"))
    elif what == "tables":
        killing.before_call(*where, (Trainer, "write_tables"))
    else:
        killing.within_write(*where)


def process(kind: str, path: Path, kill: tuple | None) -> int:
    """Train in a process of its own, to the end or to the kill: its exit status, or minus the signal that killed it."""

    def train() -> None:
        if kill is not None:
            arm(kind, *kill)
        start(kind, path).train()

    return killing.forked(train, f"{path}.log")


def main(folder: Path) -> None:
    ends = {}
    start(
        "search", folder / "warm"
    )  # PyTorch and Accelerate import much of themselves here: once, for all processes
    for kind in UPDATES:
        for name, kills in {"never": [], **KILLS}.items():
            path = folder / kind / name
            path.parent.mkdir(exist_ok=True)
            ends[f"{kind}, {name}"] = [process(kind, path, kill) for kill in [*kills, None]]
    (folder / "ends.json").write_text(json.dumps(ends))


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of all runs, killed and not, by kind and by where they were killed."""
    return killing.run_as_program(__file__, tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("kind", list(UPDATES))
@pytest.mark.parametrize("killed", list(KILLS))
def test_a_killed_run_ends_as_one_that_was_not(
    runs, kind, killed
):  # section III-B.2: checkpoints enable recovery
    ends = json.loads((runs / "ends.json").read_text())[f"{kind}, {killed}"]
    log = (runs / kind / f"{killed}.log").read_text()
    assert ends == [-signal.SIGKILL] * len(KILLS[killed]) + [0], log
    run, undisturbed = Run(runs / kind / killed), Run(runs / kind / "never")
    found, expected = run.load_checkpoint(), undisturbed.load_checkpoint()
    assert expected["epoch"] == EPOCHS and len(expected["history"]) == EPOCHS
    for state in (found, expected):
        state["history"] = [{k: v for k, v in row.items() if k not in FORGIVEN} for row in state["history"]]
        state["random"] = state["random"]["torch"]  # the one that training draws from
    assert small.differences(found, expected) == []  # weights, theta, both optimisers, schedule, history
    histories = [one.history.drop(columns=FORGIVEN) for one in (run, undisturbed)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    tables = ["alphas.csv", "genotype.json"] if "search" in kind else []
    assert all((run.path / name).read_bytes() == (undisturbed.path / name).read_bytes() for name in tables)
    names = [{str(path.relative_to(one.path)) for path in one.path.rglob("*")} for one in (run, undisturbed)]
    assert names[0] == names[1]  # and no half-written file is left behind


def test_the_undisturbed_runs_drew_and_learnt(runs):  # or the comparison would hold little
    for kind in UPDATES:
        losses = Run(runs / kind / "never").history["train_loss"]
        assert losses.nunique() == EPOCHS
    for kind in ("search", "guarded search"):
        alphas = Run(runs / kind / "never").alphas
        assert alphas.groupby(["cell", "edge", "primitive"])["theta"].nunique().min() == EPOCHS + 1


def test_every_start_of_a_streamed_fit_names_the_photograph_that_it_leaves_out(runs):
    assert Run(runs / "streamed fit" / "never").history["images"].tolist() == [47] * EPOCHS
    for name in ("never", *KILLS):
        assert f"{UNREADABLE:02}.png" in (runs / "streamed fit" / f"{name}.log").read_text()


def test_a_guarded_search_says_each_time_where_it_ended_and_what_it_derived(runs):
    for name in ("never", *KILLS):
        run = Run(runs / "guarded search" / name)
        said = f"search: stopped after epoch {EPOCHS} of {EPOCHS + 3}, where skip_connect leads {EPOCHS} of 9 edges"
        assert said in (runs / "guarded search" / f"{name}.log").read_text()
        last = run.alphas[run.alphas["epoch"] == EPOCHS - 1]
        leader = last.loc[last.groupby(["cell", "edge"], sort=False)["alpha"].idxmax(), "primitive"].tolist()
        assert leader.count("skip_connect") == EPOCHS - 1
        chosen = [operation for cell in run.genotype.cells for operation in cell.operations]
        assert [a for a, b in zip(chosen, leader) if b == "skip_connect"] == ["skip_connect"] * (EPOCHS - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

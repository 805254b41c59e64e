"""Who does the work: one process, several, a Ray cluster; a worker that dies takes its own task with it and no other."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path

import chores
import laboratory
import pandas as pd
import pytest

from bionas.errors import BionasError
from bionas.studies import engines
from bionas.studies.engines import ENGINES, Event
from bionas.studies.table1 import grid as ablations
from bionas.studies.table1.tables import runs_table
from bionas.system import places


def test_one_process_works_in_order(tmp_path):
    events = list(ENGINES["local"](functools.partial(chores.write, tmp_path), ["a", "b"]))
    assert events == [Event("a", "running"), Event("a", "ended"), Event("b", "running"), Event("b", "ended")]
    assert (tmp_path / "a").read_text() == str(os.getpid())


def test_a_process_that_dies_is_replaced_and_only_its_task_is_lost(tmp_path):
    events = list(ENGINES["local"](functools.partial(chores.write, tmp_path), ["dies", "a", "b"], jobs=2))
    ended = {event.task: event for event in events if event.state != "running"}
    assert {task: event.state for task, event in ended.items()} == {
        "dies": "lost",
        "a": "ended",
        "b": "ended",
    }
    assert ended["dies"].reason == "its process was ended by SIGKILL (often: out of memory)"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}


def test_what_cannot_even_be_recorded_ends_the_grid(tmp_path):
    with pytest.raises(BionasError, match="breaks: OSError: no space left"):
        list(ENGINES["local"](functools.partial(chores.write, tmp_path), ["breaks", "breaks"], jobs=2))


def test_a_lost_row_is_recorded_unless_it_had_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    grid = laboratory.grid(laboratory.photographs(tmp_path / "photographs"), tmp_path / "runs", "E007,E012")
    first, second = grid.trials

    def dying(work, tasks):
        grid.run(second).finish({})
        for task in tasks:
            yield Event(task, "lost", "its process was ended by SIGKILL")

    monkeypatch.setitem(ENGINES._things, "dying", dying)
    ablations.ablate(grid, "dying")
    assert grid.failure(first) == "its process was ended by SIGKILL" and grid.failure(second) is None


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BionasError, match=r"not installed.*pip install -c constraints.txt -e '\.\[ray\]'"):
        list(ENGINES["ray"](chores.write, ["a"]))


def worker_of(folder: Path) -> int:
    """The id of the process that last started a trial, from its log."""
    started = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("process ")]
    return int(started[-1].split()[1])


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed: pip install -c constraints.txt -e '.[ray]'",
)
def test_a_ray_worker_killed_in_the_middle_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    folder, rows = laboratory.photographs(tmp_path / "photographs"), "E003,E007,E008,E012"
    alone = laboratory.grid(folder, tmp_path / "alone", rows, search_epochs=6, epochs=3)
    by_ray = laboratory.grid(folder, tmp_path / "ray", rows, search_epochs=6, epochs=3)
    ablations.ablate(alone)
    killed = []

    def kill_one() -> None:
        row = by_ray.run(by_ray.trials[1]).path
        while not list(row.glob("*/seed0/child-*/done.json")):
            time.sleep(0.01)
        killed.append(worker_of(row))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    ablations.ablate(by_ray, "ray", jobs=2)
    assert killed and killed[0] != os.getpid()
    assert worker_of(by_ray.run(by_ray.trials[1]).path) not in (*killed, os.getpid())
    measured = ["cpu_ms", "search_minutes", "minutes"]
    tables = [runs_table(grid).drop(columns=measured) for grid in (alone, by_ray)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (tables[1]["status"] == "done").all() and engines.RAY_RETRIES > 0

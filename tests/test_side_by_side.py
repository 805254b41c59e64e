"""Searches and trainings side by side: the same numbers as one after the other, and errors where they are asked for."""

from __future__ import annotations

import dataclasses

import laboratory
import pandas as pd
import pytest
import torch

from bionas.errors import CheckpointError
from bionas.studies import side_by_side
from bionas.system import places
from bionas.training import experiments


@pytest.fixture
def threads():
    """Sets torch's threads; as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.slow
def test_side_by_side_gives_the_numbers_of_one_after_the_other(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = laboratory.photographs(tmp_path / "photographs")
    choices = {"mode": "quick", "search_epochs": 2, "epochs": 2, "augment": "none"}
    found = {}
    for name, cores in (("apart", 1), ("together", 2)):
        threads(cores)
        small = dataclasses.replace(
            laboratory.plan(folder, tmp_path / name), theta_learning_rate="scaled", **choices
        )
        plans = [small, dataclasses.replace(small, theta_learning_rate="paper"), small]
        side_by_side.searches(plans)
        began = [experiments.search_run(plan).complete for plan in plans]
        assert began == [cores > 1] * 3  # on one core nothing happens before it is asked for
        threads(1)
        search = experiments.search(small)
        drawn = experiments.random_genotypes(small, 1)["random-1"]
        wanted = [
            (small, search.genotype),
            (small, search.genotype, "inherited", search),
            (small, drawn, "random-1"),
        ]
        threads(cores)
        side_by_side.trainings(wanted)
        assert [experiments.retrain_run(*one).complete for one in wanted] == [cores > 1] * 3
        threads(1)
        runs = [experiments.retrain(*one) for one in wanted]
        assert runs[2].path == experiments.random_controls(small, 1)[0].path
        found[name] = [search.table("alphas"), *(run.table("predictions") for run in runs)]
    for apart, together in zip(*found.values(), strict=True):
        pd.testing.assert_frame_equal(apart, together, check_exact=True)


@pytest.mark.slow
def test_what_fails_side_by_side_is_said_where_it_is_asked_for(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    small = dataclasses.replace(laboratory.own_plan(tmp_path), mode="quick", augment="none")
    never = experiments.search_run(small)
    wanted = [(small, experiments.random_genotype(small, i), f"inherited-{i}", never) for i in range(2)]
    threads(2)
    side_by_side.trainings(wanted)
    with pytest.raises(CheckpointError, match="not a finished search"):
        experiments.retrain(*wanted[0])


def test_trainings_of_seconds_are_left_to_be_asked_for(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    plan = laboratory.own_plan(tmp_path)  # mode smoke
    threads(2)
    side_by_side.searches([plan, dataclasses.replace(plan, seed=1)])
    assert not experiments.search_run(plan).path.exists()

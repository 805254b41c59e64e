"""The measurement of warm-up and stop, at toy size, on searches that are made to fill up with skips."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import scripts
import small

from bionas import figures
from bionas.genotype import Genotype
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.runs import Run


@pytest.fixture(scope="module")
def script():
    return scripts.loaded("skip_guard")


@pytest.fixture(scope="module")
def written(script, tmp_path_factory):
    """The three tables of one seed; after epoch n of these searches n edges are led by skips, the warm-up's among them."""
    folder, made, planned = tmp_path_factory.mktemp("guard"), Plan.supernet, experiments.plan

    def tiny(mode, **choices):
        sizes = {"preset": "tiny", "image_size": 16, "limit": 90, "batch_size": 24}
        return planned("smoke", **{**choices, **sizes})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plan, "supernet", lambda self: small.Collapsing.begun(made(self)))
        patch.setattr(experiments, "Search", small.Collapsing)
        patch.setattr(experiments, "plan", tiny)
        words = [
            "--seeds",
            "0",
            "--search-epochs",
            "3",
            "--epochs",
            "1",
            "--warmup-epochs",
            "1",
            "--max-skips",
            "1",
        ]
        for _ in range(2):  # the second time everything is only read
            script.main([*words, "--run-dir", str(folder / "runs"), "--out", str(folder / "skip_guard.csv")])
    names = {"table": "", "runs": "_runs", "epochs": "_epochs"}
    return SimpleNamespace(
        folder=folder, **{k: pd.read_csv(folder / f"skip_guard{v}.csv") for k, v in names.items()}
    )


def test_kinds_differ_in_warm_up_and_stop_alone(script):
    plans = script.kinds(experiments.plan("quick"), 5, [2, 0])
    assert {name: (plan.warmup_epochs, plan.max_skips) for name, plan in plans.items()} == {
        "as published": (0, None),
        "warm-up": (5, None),
        "stop above 2": (0, 2),
        "warm-up, stop above 2": (5, 2),
        "stop above 0": (0, 0),
        "warm-up, stop above 0": (5, 0),
    }
    assert len({str(plan) for plan in plans.values()}) == 6


def test_what_each_search_did_is_told_by_epochs_and_edges(written):
    rows = written.runs.set_index("model")
    assert rows.loc[
        "as published", ["skips_at_the_end", "searched_epochs", "derived_from_epoch"]
    ].tolist() == [3, 3, 3]
    assert rows.loc["warm-up", ["skips_at_the_end", "searched_epochs"]].tolist() == [3, 3]
    counted = ["skips_at_the_end", "searched_epochs", "derived_from_epoch", "skips_derived"]
    assert rows.loc["stop above 1", counted].tolist() == [2, 2, 1, 1]
    assert rows.loc["stop above 1", "stopped"].startswith("search: stopped after epoch 2 of 3")
    assert rows.loc["stop above 1", "search_images"] * 3 == rows.loc["as published", "search_images"] * 2
    # After its first epoch of searching, the second of all, two edges are led by skips already: nothing to go back to.
    assert rows.loc["warm-up, stop above 1", "note"].startswith(
        "failed: search: skip_connect led more than max_skips=1 of 9"
    )
    courses = written.epochs.groupby("model")["leading_skips"].agg(list).to_dict()
    assert courses == {"as published": [0, 1, 2, 3], "warm-up": [0, 0, 2, 3], "stop above 1": [0, 1, 2]}


def test_the_network_that_was_trained_is_the_one_that_was_derived(written):
    runs = [Run(path) for path in (written.folder / "runs").glob("*/seed0/search-*")]
    (run,) = [run for run in runs if run.complete and run.config["max_skips"] == 1]
    name = written.runs.set_index("model").loc["stop above 1", "run"]
    assert Genotype.load(run.path.parent / name / "genotype.json") == run.genotype


def test_the_summary_has_the_majority_class_first_and_counts_the_stopped(written):
    table = written.table
    assert table["model"].tolist() == [
        "majority class",
        "as published",
        "warm-up",
        "stop above 1",
        "warm-up, stop above 1",
    ]
    by_kind = table.set_index("model")
    assert by_kind.loc["stop above 1", "n_stopped"] == 1 and by_kind.loc["as published", "n_stopped"] == 0
    assert by_kind.loc["stop above 1", "accuracy_mean"] == round(
        100 * written.runs.set_index("model").loc["stop above 1", "accuracy"], 2
    )
    assert (
        by_kind.loc["warm-up, stop above 1", "n_seeds"] == 0
        and "nothing to" not in by_kind.loc["warm-up", "command"]
    )
    assert (table["command"] == table["command"][0]).all() and "--max-skips 1" in table["command"][0]
    assert (
        figures.skip_courses(written.epochs).layout.title.text
        == "<b>skip_connect leads 3 of 9 edges at the most</b>"
    )

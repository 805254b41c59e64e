"""The comparison a search paper owes: same data, same budget, several seeds, the majority class first."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.errors import TrainingError
from bionas.studies import comparison, report
from bionas.training import experiments
from bionas.training.cost import cost


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return experiments.plan(
        "smoke", search_epochs=1, epochs=1, metadata="none", run_dir=tmp_path_factory.mktemp("runs")
    )


@pytest.fixture(scope="module")
def rows(plan):
    return comparison.measured(plan, seeds=[0, 1], augments=["none"], baselines=[])


@pytest.mark.slow
def test_every_seed_brings_a_derived_network_and_another_random_one(rows):
    assert rows.groupby("model").size().to_dict() == {"derived": 2, "random genotypes": 2}
    assert rows["run"].nunique() == 4


@pytest.mark.slow
def test_networks_can_be_compared_at_equal_cost(rows, plan):  # each as wide as its MACs allow
    assert (rows["channels"] == plan.network().channels).all() and rows["mmacs"].nunique() > 1
    equal = dataclasses.replace(plan, max_mmacs=3.0)
    for i in range(3):
        genotype = experiments.random_genotype(plan, i)
        sizes = equal.derived_network(genotype)
        wider = dataclasses.replace(plan, derived_channels=sizes.channels + 4)
        assert sizes.channels % 4 == 0
        assert cost(equal.derived(genotype), 64)["macs"] <= 3.0e6 < cost(wider.derived(genotype), 64)["macs"]
    with pytest.raises(TrainingError, match="at 4 channels this genotype already costs"):
        dataclasses.replace(plan, max_mmacs=0.01).derived(genotype)
    with pytest.raises(TrainingError, match="Give one of them"):
        experiments.plan("smoke", max_mmacs=3.0, derived_channels=8)


def test_all_rows_had_the_same_budget(rows):
    assert rows["images_seen"].nunique() == rows["epochs"].nunique() == 1
    assert (rows["search_minutes"] > 0).tolist() == rows["model"].str.startswith("derived").tolist()


def test_the_summary_is_mean_and_sample_spread_below_the_majority_class(rows, plan):
    table = report.summary(rows, plan, "bionas compare")
    train, _, test = plan.splits()
    commonest = np.bincount(train.labels).argmax()
    assert table["model"].tolist() == ["majority class", "derived", "random genotypes"]
    assert table["accuracy_mean"][0] == pytest.approx(100 * (test.labels == commonest).mean(), abs=0.01)
    own = rows[rows["model"] == "derived"]["accuracy"].tolist()
    assert table["accuracy_mean"][1] == pytest.approx(100 * sum(own) / 2, abs=0.01)
    assert table["accuracy_sd"][1] == pytest.approx(100 * abs(own[0] - own[1]) / 2**0.5, abs=0.01)


def test_an_interrupted_comparison_only_reads_what_is_finished(rows, plan):
    again = comparison.measured(plan, seeds=[0, 1], augments=["none"], baselines=[])
    pd.testing.assert_frame_equal(again, rows)


def test_a_misspelt_choice_names_the_nearest(capsys):
    assert main(["compare", "-p", "epoch=3"]) == 2
    assert "Did you mean 'epochs'" in capsys.readouterr().err

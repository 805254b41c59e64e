"""The study of searches under equal core-minutes: its budget, its rule, its intervals, and one small run of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bionas.errors import CheckpointError, SearchError, UnknownName
from bionas.genotype import Genotype
from bionas.strategies import PlanEvaluator
from bionas.studies.searches import study as studied
from bionas.studies.searches.intervals import balanced, bootstrap
from bionas.studies.searches.study import HAND, Rate, Study, run, search_budget, stopped
from bionas.studies.searches.tables import agreement, runs_table, summary
from bionas.system import files, places
from bionas.training.configuration import plan

STRATEGIES = ("random", "gradient", "halving", "most_macs", HAND)
RATES = {"children": (1e-3, 0.0), "gradient": (1e-3, 0.0)}


@pytest.fixture(scope="module")
def small_plan(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(60):
        pixels = generator.integers(0, 180, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 70
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    orders = [("Coleoptera", "Diptera", "Odonata")[i % 3] for i in range(60)]
    pd.DataFrame({"file": [f"{i:03d}.png" for i in range(60)], "order": orders}).to_csv(
        folder / "labels.csv", index=False
    )
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "cache", lambda: cache)
        yield plan(
            "smoke",
            source="folder",
            data_dir=folder,
            preset="tiny",
            image_size=16,
            metadata="none",
            batch_size=16,
            device="cpu",
            epochs=3,
            run_dir=tmp_path_factory.mktemp("runs"),
            max_mmacs=0.5,
        )


def of(chosen, minutes, strategies=STRATEGIES, seeds=(0, 1)) -> Study:
    return Study(chosen, minutes, strategies, seeds)


# --- budget and rule --------------------------------------------------------------------------------------------------


def test_the_budget_is_minutes_less_the_final_training_at_the_measured_rate(small_plan):
    rates = {"children": Rate(0.01), "gradient": Rate(0.02, overhead=3.0)}
    study = of(small_plan, 1.0)
    assert search_budget(study, "gradient", rates, training=17.0, final_images=10) == (60 - 17 - 3) / 0.02
    # Random search's own candidates are final trainings: nothing is set aside.
    assert search_budget(study, "random", rates, training=17.0, final_images=10) == 60 / 0.01
    assert search_budget(study, "most_macs", rates, training=17.0, final_images=10) == 0
    with pytest.raises(SearchError, match="leave nothing to search with"):
        search_budget(study, "gradient", rates, training=58.0, final_images=10)
    with pytest.raises(UnknownName, match="gradient"):
        of(small_plan, 1.0, ("random", "gradiant"))
    with pytest.raises(SearchError, match="compares with 'random'"):
        of(small_plan, 1.0, ("gradient",))


def test_a_strategy_stops_after_three_searches_that_are_clearly_worse():
    def rows(name, values):
        return [{"strategy": name, "val_balanced_accuracy": v, "seed": i} for i, v in enumerate(values)]

    chance = rows("random", [0.40, 0.42, 0.41])
    bad = rows("nao", [0.300, 0.301, 0.302])
    assert "stopped after 3 searches" in stopped("nao", chance + bad)
    assert not stopped("nao", chance + bad[:2])  # too early
    assert not stopped(
        "nao", chance + rows("nao", [0.30, 0.40, 0.35])
    )  # t with two degrees of freedom is wide
    assert not stopped("random", chance + bad)


# --- intervals --------------------------------------------------------------------------------------------------------


def test_balanced_accuracy_under_weights_is_that_of_the_repeated_photographs():
    from sklearn.metrics import balanced_accuracy_score

    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(3, size=40), generator.integers(3, size=40)
    weights = generator.multinomial(40, np.full(40, 1 / 40), size=3)
    right = (predicted == labels)[None].astype(float)
    for i, weight in enumerate(weights):
        repeated = np.repeat(np.arange(40), weight)
        expected = balanced_accuracy_score(labels[repeated], predicted[repeated])
        assert balanced(right, labels, weights.astype(float))[i, 0] == pytest.approx(expected)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator, covered = np.random.default_rng(1), 0
    labels = np.arange(300) % 3
    for trial in range(100):
        of_search = 0.5 + 0.02 * generator.standard_normal(8)
        right = {s: generator.random(300) < p for s, p in enumerate(of_search)}
        interval = bootstrap(right, labels, replicates=300, seed=trial)
        covered += interval.low <= 0.5 <= interval.high
    assert 85 <= covered <= 100


def test_a_difference_is_paired_by_photographs():
    generator = np.random.default_rng(2)
    labels = np.arange(600) % 4
    hard = generator.random(600) < 0.5  # the same photographs are hard for everyone
    one = {s: ~hard ^ (generator.random(600) < 0.02) for s in range(5)}
    other = {s: ~hard ^ (generator.random(600) < 0.02) for s in range(5)}
    alone, paired = bootstrap(one, labels), bootstrap(one, labels, other)
    assert paired.low <= 0 <= paired.high and paired.high - paired.low < 0.5 * (alone.high - alone.low)
    better = {s: np.ones(600, bool) for s in range(5)}
    assert bootstrap(better, labels, one).low > 0.3


def test_agreement_is_the_share_of_edges_with_the_same_primitive():
    a = Genotype.random(3, generator=np.random.default_rng(0))
    b = Genotype.random(3, generator=np.random.default_rng(1))
    names = [[n for cell in g.cells for n in cell.operations] for g in (a, b)]
    assert agreement([a, a]) == 1 and agreement([a, b]) == np.mean([x == y for x, y in zip(*names)])
    assert np.isnan(agreement([a]))


# --- a small run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_study_runs_resumes_and_reads_test_once_per_search(small_plan, monkeypatch):
    images = PlanEvaluator(small_plan, small_plan.epochs).images
    study = of(small_plan, 3.5 * images * 1e-3 / 60)
    files.write_json(study.folder / "rates.json", {name: list(rate) for name, rate in RATES.items()})
    tested, predict = [], studied.predict

    def watched(network, specimens, *args, **options):
        tested.append(len(specimens))
        return predict(network, specimens, *args, **options)

    monkeypatch.setattr(studied, "predict", watched)
    first = run(of(small_plan, study.minutes, seeds=(0,)))
    assert len(first) == len(tested) == len(STRATEGIES)
    rows = run(study)
    assert rows[: len(first)] == first and len(rows) == len(tested) == 2 * len(STRATEGIES)
    assert run(study) == rows and len(tested) == len(rows)  # all read
    with pytest.raises(CheckpointError, match="epochs: 3 there, 4 now"):
        run(dataclasses.replace(study, plan=dataclasses.replace(small_plan, epochs=4)))

    by_name = {row["strategy"]: row for row in first}
    assert by_name["random"]["candidates"] == 3  # of 3.5 trainings
    assert by_name["gradient"]["search_images"] <= 2.5 * images
    assert by_name["most_macs"]["search_images"] == 0
    assert {c["x->z1"] for c in by_name[HAND]["genotype"]["cells"]} == {"sep_conv_3x3"}
    assert all(row["mmacs"] <= small_plan.max_mmacs for row in rows)

    table, runs = summary(study, rows, "bionas searches"), runs_table(rows)
    assert table["strategy"].tolist() == ["majority class", *STRATEGIES] and len(runs) == len(rows)
    measured = table.iloc[1:]
    assert (measured["low"] <= measured["balanced_accuracy"] + 1e-6).all()
    assert (measured["balanced_accuracy"] <= measured["high"] + 1e-6).all()
    for name in STRATEGIES:
        mean = 100 * np.mean([row["balanced_accuracy"] for row in rows if row["strategy"] == name])
        assert table.set_index("strategy").loc[name, "balanced_accuracy"] == pytest.approx(mean, abs=1e-2)
    predictions = pd.read_csv(study.row_path(0, "random").parent / "predictions.csv")
    assert len(predictions) == len(small_plan.splits().test)

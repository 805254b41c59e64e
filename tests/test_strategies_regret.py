"""The regret experiment: its arithmetic on tables that are small enough to do by hand, and what was committed of it."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bionas.errors import SearchError
from bionas.network import PRESETS
from bionas.strategies import STRATEGIES, Score, SearchResult, Space, TableEvaluator
from bionas.system import places

SPACE = Space((True,), "reduced")
TABLE, REGRET = (places.CHECKOUT / "data" / "results" / f"{name}.csv" for name in ("regret_table", "regret"))


@pytest.fixture(scope="module")
def script():
    path = places.CHECKOUT / "benchmarks" / "strategy_regret.py"
    spec = importlib.util.spec_from_file_location("strategy_regret", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "strategy_regret", module)
        spec.loader.exec_module(module)
        yield module
    PRESETS.pop("one-cell")


def table_of(scores) -> pd.DataFrame:
    """A row a training, images 10; `scores`: key -> two scores."""
    rows = [(key, seed, value, 10) for key, values in scores.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["key", "seed", "val_accuracy", "images"])


def graded(step: float) -> pd.DataFrame:
    """Each primitive is worth the same on every edge; the second training of a genotype is a little better."""
    return table_of(
        {
            g.key(): (0.3 + step * SPACE.encode(g).sum(), 0.3 + step * SPACE.encode(g).sum() + 0.002)
            for g in SPACE.all()
        }
    )


def test_the_table_has_every_genotype_and_each_training(script):
    class Scored(SimpleNamespace):
        def __call__(self, genotype):
            value = float(SPACE.encode(genotype).sum()) + self.seed
            return Score(value, 60, {"val_balanced_accuracy": value / 2, "training_seconds": 1.5})

    evaluators = [(seed, Scored(space=lambda: SPACE, seed=seed, epochs=4)) for seed in (0, 1)]
    frame = script.make_table(evaluators)
    columns = [
        "key",
        "operations",
        "genotypes",
        "seed",
        "epochs",
        "val_accuracy",
        "val_balanced_accuracy",
        "images",
        "seconds",
    ]
    assert frame.columns.tolist() == columns and len(frame) == 2 * 169
    assert frame[frame["seed"] == 0]["genotypes"].sum() == 216 - 6  # 6 have no path
    row = frame[frame["operations"] == "conv_1x1 / none / none"].iloc[1]
    assert row["seed"] == 1 and row["val_accuracy"] == 2 + 5 + 5 + 1
    assert row["genotypes"] == 1 + 6  # [P(x), 0]: also none / P / whatever
    assert len(script.make_table(evaluators, limit=3)) == 6
    known = frame[frame["seed"] == 0].assign(
        val_accuracy=-1.0
    )  # kept as it is, and extended by the other seed
    extended = script.make_table(evaluators, known=known)
    assert len(extended) == len(frame) and (extended["val_accuracy"] == -1).sum() == len(known)
    assert "169 genotypes, 338 trainings of 60 images" in script.described(frame)


def test_regret_is_of_what_was_held_best_and_judged_by_both_trainings(script):
    genotypes = list(SPACE.all())[:3]
    table = TableEvaluator(
        {g.key(): values for g, values in zip(genotypes, [(0.2, 0.4), (0.6, 0.2), (0.5, 0.5)])}, 10
    )
    rows = [  # seen scores are those of one training
        {"genotype": g.to_json(), "score": score, "images": 10 * (i + 1)}
        for i, (g, score) in enumerate(zip(genotypes, (0.2, 0.6, 0.5)))
    ]
    result = SearchResult(genotypes[1], pd.DataFrame(rows), 30, "")
    # Means 0.3, 0.4, 0.5: after the second the lucky 0.6 is held, worth 0.4, and the third does not replace it.
    assert script.regret_of(result, table, [1, 2, 3, 9]) == pytest.approx([0.2, 0.1, 0.1, 0.1])
    epochs = pd.DataFrame(rows).assign(alpha_entropy=1.0, images=[7, 14, 40])
    found = script.regret_of(result._replace(trace=epochs), table, [0, 1, 2, 4])
    assert np.isnan(found[0]) and found[1:] == pytest.approx(
        [0.2, 0.1, 0.0]
    )  # a supernet's last derivation counts


def test_strategies_are_held_against_chance_pair_by_pair(script):
    generator = np.random.default_rng(0)
    chance = generator.uniform(0.1, 0.2, (20, 3))
    assert script.verdict("nao", chance - generator.uniform(0.0, 0.02, (20, 3)), chance).startswith(
        "better than chance (p"
    )
    assert script.verdict("nao", chance + generator.normal(0, 0.02, (20, 3)), chance).startswith(
        "no better than chance (p"
    )
    assert script.verdict("nao", chance, chance) == "no better than chance (the same)"
    assert script.verdict("enas", np.empty((0, 3)), chance) == "not run"
    assert script.verdict("enas", chance[:3], chance) == "3 seeds: too few to test"
    assert script.verdict("random", chance, chance) == "chance itself"


@pytest.mark.slow
def test_the_whole_of_it_at_toy_size(script, tmp_path, capsys):
    table, out = tmp_path / "table.csv", tmp_path / "regret.csv"
    graded(0.02).to_csv(table, index=False)
    script.main(["regret", "--table", str(table), "--repeats", "3", "--candidates", "20", "--out", str(out)])
    frame = pd.read_csv(out)
    assert set(frame["strategy"]) == set(STRATEGIES)
    children = {name for name, one in STRATEGIES.items() if one.needs == "children"}
    searched = frame[frame["strategy"].isin(children)]
    assert (searched["repeats"] == 3).all() and searched["regret_mean"].between(0, 0.31).all()
    assert (searched["regret_q25"] <= searched["regret_median"]).all()
    assert (searched["images"] == 10 * searched["candidates"]).all()
    unrun = frame[~frame["strategy"].isin(children)]
    assert (
        (unrun["verdict"] == "not run").all()
        and unrun["regret_mean"].isna().all()
        and (unrun["repeats"] == 0).all()
    )
    for _, curve in searched[searched["strategy"] == "evolutionary"].groupby("strategy"):
        assert curve["regret_mean"].iloc[-1] < curve["regret_mean"].iloc[0]
    random = frame[frame["strategy"] == "random"]
    assert (random["regret_mean"] == random["random_mean"]).all()
    assert frame["command"].str.contains("strategy_regret.py regret").all() and frame["code"].notna().all()
    assert "evolutionary: " in capsys.readouterr().out


def test_shorter_trainings_in_the_table_admit_multi_fidelity_strategies(script):
    whole = graded(0.02).assign(epochs=4, images=40)
    frame = pd.concat([whole, whole.assign(epochs=2, images=20), whole.assign(epochs=1, images=10)])
    regrets = script.look_up(frame, SPACE, [5, 20], repeats=2)
    assert {"halving", "hyperband", "dehb", "random"} <= set(regrets) and "synflow" not in regrets
    assert (
        regrets["halving"][:, -1] <= regrets["random"][:, -1]
    ).all()  # short trainings rank these perfectly
    with pytest.raises(SearchError, match="do not grow by one factor"):
        script.look_up(pd.concat([frame, whole.assign(epochs=3, images=30)]), SPACE, [20], repeats=1)


def test_the_plan_trains_one_cell_of_the_reduced_set(script, tmp_path):
    chosen = script.planned(1, tmp_path)
    network = chosen.network()
    assert Space(network.reductions, chosen.primitive_set) == SPACE and network.image_size == 32
    assert (
        chosen.seed == 1
        and chosen.data_seed == 0
        and chosen.metadata == "none"
        and chosen.source == "synthetic"
    )


@pytest.mark.skipif(not TABLE.exists(), reason="data/results/regret_table.csv has not been made yet")
def test_the_committed_table_is_complete():
    frame = pd.read_csv(TABLE)
    keys = {genotype.key() for genotype in SPACE.all()}
    assert set(frame["key"]) == keys and (frame.groupby("key")["seed"].nunique() >= 2).all()
    assert frame["val_accuracy"].between(0, 1).all()
    for _, row in frame.iterrows():
        names = row["operations"].split(" / ")
        assert SPACE.decode([SPACE.primitives.index(name) for name in names]).key() == row["key"]


@pytest.mark.skipif(not REGRET.exists(), reason="data/results/regret.csv has not been made yet")
def test_each_strategy_beats_chance_or_it_is_said_that_it_does_not():
    frame = pd.read_csv(REGRET)
    assert set(frame["strategy"]) <= set(STRATEGIES)
    for name, rows in frame.groupby("strategy"):
        (said,) = rows["verdict"].unique()
        known = rows.dropna(subset=["regret_mean"])
        if said.startswith("better than chance"):
            assert known["repeats"].min() >= 50
            assert known["regret_mean"].mean() < known["random_mean"].mean(), name
        else:
            assert (
                said.startswith(("no better than chance", "not run", "chance itself", "no search"))
                or "too few" in said
            )

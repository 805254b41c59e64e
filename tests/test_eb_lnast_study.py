"""EB-LNAST's study: tasks, comparators, tests of significance by hand, resuming, claims, the command."""

from __future__ import annotations

import colorsys
import dataclasses
import gzip
import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from bionas.__main__ import main
from bionas.errors import BionasError, SearchError, TrainingError, UnknownName
from bionas.studies import published
from bionas.studies.eb_lnast import comparators, study, tasks, tuning
from bionas.studies.eb_lnast.comparators import MODELS, Budget, Fitted
from bionas.studies.eb_lnast.evolution import Evolution
from bionas.studies.eb_lnast.lower import GradientLevel, inner_folds
from bionas.studies.eb_lnast.population import Training
from bionas.studies.eb_lnast.significance import holm, signed_rank
from bionas.studies.eb_lnast.space import Architecture, LayerSpace
from bionas.studies.eb_lnast.study import Study
from bionas.system import files
from bionas.training import experiments

TINY = Budget(
    LayerSpace(1, 4, ("relu",)),
    Evolution(4, 1),
    Training(steps=5),
    weights=Evolution(4, 1),
    trials=1,
    trees=2,
    epochs=5,
)
ROOT = Path(__file__).resolve().parent.parent


def test_holm_by_hand():
    # sorted: 0.01 * 4 = 0.04, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.9 * 1 = 0.9
    assert holm([0.02, 0.9, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.03, 0.04]).tolist() == pytest.approx([0.06, 0.06])  # it never falls: 0.04 * 1 < 0.03 * 2
    assert holm([0.7, 0.8]).tolist() == [1.0, 1.0]
    corrected = holm([np.nan, 0.01, 0.5])
    assert np.isnan(corrected[0]) and corrected[1:].tolist() == [0.02, 0.5]


def test_signed_rank_by_hand():
    # five differences of one sign: of 2**5 assignments of signs, one is as extreme on each side
    assert signed_rank([5, 6, 7, 8, 9], [4, 4, 4, 4, 4]) == pytest.approx(2 / 32)
    assert signed_rank([0.5, 0.1 + 0.2], [0.5, 0.3]) == 1.0
    assert np.isnan(signed_rank([1.0], [0.0]))


def test_the_colour_task_is_one_fixed_table_of_sensor_readings():
    task = tasks.colour()
    assert task.x.shape == (800, 6) and np.bincount(task.y).tolist() == [80] * 10 == [80] * len(
        task.class_names
    )
    assert task.fingerprint == tasks.colour().fingerprint != tasks.colour(seed=1).fingerprint
    assert "Synthetic" in task.origin and task.x.min() >= 0 and task.x.max() <= 1
    steps = task.x[:, :3] * 1023
    assert np.allclose(steps, steps.round())  # a converter of 10 bits
    hsv = np.array([colorsys.rgb_to_hsv(*rgb) for rgb in task.x[:, :3]])
    assert np.allclose(task.x[:, 3:], hsv)
    back = tasks.hsv_to_rgb(hsv)
    assert np.allclose(back, task.x[:, :3])
    red, black, white = (task.y == list(tasks.COLOURS).index(name) for name in ("red", "black", "white"))
    assert (task.x[red, 0] > task.x[red, 2]).mean() > 0.99 and task.x[white, 5].mean() > 3 * task.x[
        black, 5
    ].mean()


def test_wdbc_is_the_real_one():
    task = tasks.wdbc()
    assert task.x.shape == (569, 30) and np.bincount(task.y).tolist() == [212, 357]
    assert task.class_names == ("malignant", "benign")


def test_numbers_kept_are_counted_as_said():
    task = tasks.wdbc()
    x, y = task.x[:80, :3], task.y[:80]
    assert comparators.numbers_kept(LogisticRegression().fit(x, y)) == 4
    assert comparators.numbers_kept(DecisionTreeClassifier(max_depth=1).fit(x, y)) == 2 + 2 * 2
    machine = SVC().fit(x, y)
    assert comparators.numbers_kept(machine) == len(machine.support_) * 4 + 1
    network = MLPClassifier((5, 2), solver="lbfgs", max_iter=2000).fit(x, y)
    assert comparators.numbers_kept(network) == 3 * 5 + 5 + 5 * 2 + 2 + 2 + 1
    with pytest.raises(TypeError):
        comparators.numbers_kept(SVC)


@pytest.mark.parametrize("name", [*MODELS])
def test_every_model_fits_predicts_and_says_its_size(name, monkeypatch):
    monkeypatch.setattr(tuning, "STEPS", (5,))
    if name == "mlp_tuned":
        pytest.importorskip("optuna", reason="Optuna is not installed: no tuned MLP")
    task = tasks.wdbc()
    x, y = task.x[::5], task.y[::5]
    fitted = comparators.fit(name, x, y, TINY, 0)
    again = comparators.fit(name, x, y, TINY, 0)
    assert np.array_equal(fitted.predict(task.x), again.predict(task.x)) and fitted.choice == again.choice
    assert set(fitted.predict(task.x)) <= {0, 1} and fitted.parameters >= 1
    floor = (task.y == 1).mean() if name == "majority" else 0.0
    assert (fitted.predict(task.x) == task.y).mean() >= floor
    assert len(fitted.history) == (8 if name.startswith("eb_lnast") else 0)


def test_weights_by_evolution_can_be_asked_for():
    task = tasks.wdbc()
    wide = dataclasses.replace(
        TINY, lower="evolution", space=LayerSpace(2, 32, ("relu",))
    )  # cut to what evolution bears
    fitted = comparators.fit("eb_lnast", task.x[::8], task.y[::8], wide, 0)
    assert fitted.candidates >= 1 and set(fitted.predict(task.x)) <= {0, 1} and fitted.parameters <= 400
    with pytest.raises(SearchError, match="gradient"):
        Budget(lower="annealing")


@pytest.fixture
def counted(monkeypatch):
    """A model that counts its fits and can be told to be killed at one of them."""
    fits, kill_at = [], [None]

    def fit(name, x, y, budget, seed):
        fits.append((name, seed, len(y)))
        if len(fits) == kill_at[0]:
            raise KeyboardInterrupt
        common = int(np.bincount(y).argmax())
        return Fitted(
            lambda rows: np.full(len(rows), common), {"eb_lnast": 10, "mlp_tuned": 1000}.get(name, 1), "-"
        )

    monkeypatch.setattr(comparators, "fit", fit)
    return fits, kill_at


def test_a_finished_fold_is_never_run_again(counted, tmp_path):
    fits, kill_at = counted
    asked = Study("wdbc", ("majority", "knn"), repeats=2, folds=2, budget=TINY)
    kill_at[0] = 6
    with pytest.raises(KeyboardInterrupt):
        study.measured(asked, tmp_path)
    rows = study.measured(asked, tmp_path)
    assert len(fits) == 9 and len(set(fits)) == 8  # eight, and once more the one that was killed
    assert len(rows) == 8 and rows.groupby("repeat")["n_test"].sum().tolist() == [2 * 569] * 2
    kill_at[0] = None
    pd.testing.assert_frame_equal(study.measured(asked, tmp_path), rows)
    study.measured(dataclasses.replace(asked, repeats=3), tmp_path)
    assert len(fits) == 9 + 4  # more repeats go on in the same folder
    study.measured(dataclasses.replace(asked, beta=1.0), tmp_path)
    assert len(fits) == 9 + 4 + 8  # another measure does not


def test_the_scores_of_a_row_are_those_of_its_fold(counted, tmp_path):
    rows = study.measured(Study("wdbc", ("majority",), repeats=1, folds=3, budget=TINY), tmp_path)
    benign = np.array(
        [(tasks.wdbc().y[test] == 1).mean() for _, test in study.outer_folds(tasks.wdbc().y, 3, 0)]
    )
    assert rows["accuracy"].tolist() == pytest.approx(benign.tolist())
    # F2 of always "benign": 5 p / (4 p + 1) for it with recall 1, 0 for the other, averaged
    assert rows["f_beta"].tolist() == pytest.approx((5 * benign / (4 * benign + 1) / 2).tolist())
    assert rows["balanced_accuracy"].tolist() == pytest.approx([0.5] * 3)


def test_test_folds_of_a_repeat_are_everything_once():
    y = tasks.colour().y
    for repeat in range(2):
        tests = [test for _, test in study.outer_folds(y, 5, repeat)]
        assert sorted(np.concatenate(tests)) == list(range(800))
        assert all(np.bincount(y[test]).tolist() == [16] * 10 for test in tests)


def rows_of(values):
    return pd.DataFrame(
        [
            {
                "model": m,
                "repeat": r,
                "fold": f,
                "accuracy": a,
                "f_beta": a - 0.1,
                "balanced_accuracy": a,
                "parameters": p,
                "candidates": 1,
                "seconds": 1.0,
                "code": "c",
            }
            for m, (p, scores) in values.items()
            for r, pair in enumerate(scores)
            for f, a in enumerate(pair)
        ]
    )


def test_claims_stand_beside_what_came_out():
    rows = rows_of(
        {"eb_lnast": (10, [(0.9, 0.9), (0.95, 0.95)]), "mlp_tuned": (1000, [(0.92, 0.94), (0.9, 0.98)])}
    )
    table = study.claims(rows).set_index("claim")
    assert table["published"].tolist() == [0.99, 0.99, 99.66]
    assert table["ours"].tolist() == pytest.approx([1.0, 1.0, 99.0])  # behind by 3 and by -1 points
    assert table["ours_extreme"].tolist() == pytest.approx([3.0, 3.0, 99.0])
    assert study.claims(rows[rows["model"] == "eb_lnast"]).empty
    assert published.table("eb_lnast_claims")["value"].dropna().tolist() == [0.99, 99.66]


def test_claims_on_fixed_and_traditional_models_carry_corrected_p_values():
    def scores(first):  # six repeats of two folds
        return [(first + r / 100, first + r / 100) for r in range(6)]

    values = {
        "eb_lnast": (10, scores(0.8)),
        "mlp_16": (50, scores(0.7)),
        "svm": (9, scores(0.85)),
        "majority": (1, scores(0.5)),
    }
    rows = rows_of(values)
    table = study.claims(rows).set_index("claim")
    smallest = signed_rank(np.full(6, 0.8), np.full(6, 0.7))
    expected = holm([smallest] * 3)[0]
    fixed, svm = table.loc["accuracy above mlp_16 (fixed MLP)"], table.loc["accuracy above svm (traditional)"]
    assert (fixed["ours"], svm["ours"]) == pytest.approx((10.0, -5.0))
    assert fixed["p_holm"] == svm["p_holm"] == pytest.approx(expected, abs=1e-5) and expected > 0.05
    assert fixed["finding"] == svm["finding"] == "no difference"
    of_summary = study.summary(rows, Study("wdbc", tuple(values), 6, 2), "x").set_index("model")["p_holm"]
    assert of_summary["svm"] == pytest.approx(svm["p_holm"], abs=1e-5)


def test_kept_weights_are_those_with_which_the_architecture_was_judged():
    task = tasks.wdbc()
    x, y = torch.tensor(task.x[:120], dtype=torch.float32), torch.tensor(task.y[:120])
    x = (x - x.mean(0)) / x.std(0)
    pair = [Architecture((3,), "tanh"), Architecture((4, 2), "relu")]
    keeping = GradientLevel(x, y, 2, Training(steps=20), keep=True)
    plain = GradientLevel(x, y, 2, Training(steps=20))
    assert np.array_equal(keeping(pair), plain(pair)) and not plain.kept
    held_out = inner_folds(y, 3, 0)
    for architecture in pair:
        network = keeping.final(architecture)
        with torch.no_grad():
            right = network(x).argmax(1) == y
        of_folds = [float((right & out).sum() / out.sum()) for out in held_out]
        assert network is keeping.kept[architecture]
        assert max(of_folds) > 0.5  # trained, though never on all rows


def test_other_readings_are_run_only_where_they_are_named():
    assert set(comparators.VARIANTS) <= set(MODELS) and not set(comparators.VARIANTS) & set(
        Study("wdbc").models
    )
    with pytest.raises(SearchError, match="gradient"):
        comparators.fit(
            "eb_lnast_kept", np.eye(8), np.arange(8) % 2, dataclasses.replace(TINY, lower="evolution"), 0
        )


def test_the_summary_pairs_repeats():
    scores = [(0.9 + 0.01 * r, 0.9) for r in range(6)]
    rows = rows_of({"majority": (1, [(0.5, 0.5)] * 6), "knn": (7, scores), "eb_lnast": (10, scores)})
    asked = Study("wdbc", ("majority", "eb_lnast", "knn"), repeats=6, folds=2)
    table = study.summary(rows, asked, "bionas eb-lnast").set_index("model")
    assert table.index.tolist() == ["majority", "eb_lnast", "knn"]
    assert table.loc["eb_lnast", "accuracy"] == pytest.approx(100 * (0.9 + 0.0125))
    assert table.loc["eb_lnast", "accuracy_sd"] == pytest.approx(np.std(0.5 * np.arange(6), ddof=1), rel=1e-4)
    assert table.loc["majority", "p"] == pytest.approx(2 / 64, rel=1e-3) and table.loc["knn", "p"] == 1
    assert table.loc["majority", "p_holm"] == pytest.approx(4 / 64, rel=1e-3) and np.isnan(
        table.loc["eb_lnast", "p"]
    )
    assert table.loc["majority", "less_than_ours"] == pytest.approx(41.25)


def test_what_cannot_be_is_said(tmp_path, capsys):
    with pytest.raises(UnknownName, match="colour"):
        Study("color")
    with pytest.raises(UnknownName, match="svm"):
        Study("wdbc", ("svn",))
    with pytest.raises(SearchError):
        Study("wdbc", folds=1)
    assert main(["eb-lnast", "--task", "wdbx"]) == 2 and "records" in capsys.readouterr().err
    assert main(["eb-lnast", "--task", "records"]) == 2 and "--data-dir" in capsys.readouterr().err


def test_the_command_from_end_to_end(monkeypatch, tmp_path, capsys):
    from bionas.studies.eb_lnast import command

    monkeypatch.setattr(
        command, "Budget", lambda **options: dataclasses.replace(TINY, lower=options["lower"])
    )
    monkeypatch.setattr(command.places, "root", lambda: tmp_path)
    monkeypatch.setattr(
        study.published, "table", lambda name: pd.read_csv(ROOT / "data" / "paper" / f"{name}.csv")
    )
    words = [
        "eb-lnast",
        "--task",
        "colour",
        "--repeats",
        "1",
        "--folds",
        "2",
        "--models",
        "majority",
        "eb_lnast",
    ]
    assert main([*words, "--run-dir", str(tmp_path / "runs"), "--out", "tiny", "--json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == ["majority", "eb_lnast"]
    rows = pd.read_csv(tmp_path / "data" / "results" / "tiny_runs.csv")
    assert (
        rows["model"].tolist() == ["majority", "eb_lnast"] * 2 and (rows["accuracy"].iloc[::2] == 0.1).all()
    )
    summary = pd.read_csv(tmp_path / "data" / "results" / "tiny.csv")
    assert summary["source"].str.startswith("Synthetic").all() and summary["model"].iloc[0] == "majority"
    (folder,) = (tmp_path / "runs" / "eb_lnast").iterdir()
    assert len(list((folder / "histories").glob("*eb_lnast.csv"))) == 2
    assert files.read_json(folder / "config.json")["budget"]["space"]["neurons"] == 4


def test_the_command_on_a_table_of_records(monkeypatch, tmp_path, capsys):
    from bionas.studies.eb_lnast import fields

    generator = np.random.default_rng(0)
    orders = np.array(["Diptera", "Coleoptera"])[np.arange(80) % 2]
    places_ = np.where(generator.random(80) < 0.9, orders == "Diptera", orders != "Diptera")
    table = pd.DataFrame({"processid": [f"P{i}" for i in range(80)], "order": orders})
    table["country"] = np.where(places_, "Canada", "Brazil")
    with gzip.open(tmp_path / "records.csv.gz", "wt") as file:
        table.to_csv(file, index=False)
    tiny = {"space": LayerSpace(1, 3, ("relu",), 2), "evolution": Evolution(4, 1), "training": Training(4)}
    whole = fields.compared
    asked = []
    monkeypatch.setattr(fields, "compared", lambda s, **o: asked.append(o["seed"]) or whole(s, **o, **tiny))
    words = [
        "eb-lnast",
        "--task",
        "records",
        "--data-dir",
        str(tmp_path / "records.csv.gz"),
        "--min-records",
        "1",
    ]
    words += ["--run-dir", str(tmp_path / "runs"), "--repeats"]
    assert main([*words, "1"]) == 0 and main([*words, "2"]) == 0
    assert asked == [0, 1] and "bioautoml_nas_metadata" in capsys.readouterr().out
    assert main([*words, "2", "--json"]) == 0
    shown = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert 0 <= shown["bioautoml_nas_metadata"]["accuracy_mean"] <= 1
    assert main(["eb-lnast", "--task", "embedded", "--data-dir", str(tmp_path / "records.csv.gz")]) == 2
    assert "takes no --data-dir" in capsys.readouterr().err
    assert main(["eb-lnast", "--min-records", "5"]) == 2
    assert (
        "--task wdbc has its own data and takes no --min-records; --task records does"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_the_command_on_the_embedded_specimens(monkeypatch, tmp_path, capsys):
    from bionas.studies.eb_lnast import command, fields

    tiny = {"space": LayerSpace(1, 3, ("relu",), 2), "evolution": Evolution(4, 1), "training": Training(4)}
    whole, plan = fields.compared, experiments.plan
    monkeypatch.setattr(fields, "compared", lambda s, **o: whole(s, **o, **tiny))
    monkeypatch.setattr(command.experiments, "plan", lambda mode, **o: plan("smoke", **o))
    written = {}
    monkeypatch.setattr(command.report, "write", lambda out, tables: written.update(tables))
    assert (
        main(["eb-lnast", "--task", "embedded", "--repeats", "1", "--run-dir", str(tmp_path / "runs")]) == 0
    )
    assert written["_runs"]["source"].str.contains("ynthetic").all() and len(written["_runs"]) == 3
    (folder,) = (tmp_path / "runs" / "eb_lnast").iterdir()
    assert folder.name.startswith("embedded-leak_free")


def test_the_tuned_mlp_is_the_best_of_its_trials_scored_as_eb_lnast_scores_its_candidates(monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is not installed: no tuned MLP")
    tried = []

    class Level(GradientLevel):
        def __call__(self, architectures):
            (score,) = super().__call__(architectures)
            tried.append((score, architectures[0], self.training))
            if len(tried) == 2:
                raise TrainingError("not finite")
            return np.array([score])

    monkeypatch.setattr(tuning, "GradientLevel", Level)
    monkeypatch.setattr(tuning, "STEPS", (4, 8))
    monkeypatch.setattr(tuning, "NEURONS", (2, 6))
    task = tasks.wdbc()
    x, y = torch.tensor(task.x[::5], dtype=torch.float32), torch.tensor(task.y[::5])
    found = tuning.tuned(x, y, 2, trials=5, seed=0)
    assert len(tried) == 5 and len({training for _, _, training in tried}) > 1
    best = max(
        (trial for i, trial in enumerate(tried) if i != 1), key=lambda trial: trial[0]
    )  # the first of equals
    assert (found.architecture, found.training) == best[1:]
    assert found.parameters == sum(p.numel() for p in found.network.parameters())
    alone = GradientLevel(x, y, 2, found.training, 0).final(found.architecture)
    assert torch.equal(found.network(x), alone(x)) and str(found.architecture) in found.choice


def test_the_command_gives_no_library_a_second_thread(monkeypatch):
    from threadpoolctl import threadpool_info

    from bionas.studies.eb_lnast import command

    seen = []
    monkeypatch.setattr(command.study, "measured", lambda *a: seen.extend(threadpool_info()))
    monkeypatch.setattr(command.study, "summary", lambda *a: (_ for _ in ()).throw(BionasError("far enough")))
    assert main(["eb-lnast", "--task", "wdbc"]) == 2
    assert {pool["num_threads"] for pool in seen} == {1}


def test_without_optuna_the_tuned_mlp_says_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    task = tasks.wdbc()
    with pytest.raises(BionasError, match=r"bionas\[companions\]"):
        comparators.fit("mlp_tuned", task.x[::5], task.y[::5], TINY, 0)


def test_the_extra_that_the_message_names_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name.split(">")[0] for name in extras["companions"]] == ["optuna"]
    assert extras["companions"][0] in extras["test"]

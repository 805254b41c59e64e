"""SERAN's recipe, its two tables as runs under one budget, and the figures of its text held against its own tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from bionas import figures
from bionas.__main__ import main
from bionas.errors import UnknownName
from bionas.studies import report
from bionas.studies.seran import study as seran_study
from bionas.studies.seran.network import ROWS, build
from bionas.studies.seran.study import ERRORS
from bionas.system import places
from bionas.training import experiments
from bionas.training import fitting as trainer
from bionas.training.evaluation import top_k_error
from bionas.training.loop import optimizer_of_w
from bionas.training.runs import Run

ROWS_RUN = ["seran", "attention92"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return seran_study.study_plan(mode="smoke", epochs=1, limit=72, batch_size=24, run_dir=folder)


@pytest.fixture(scope="module")
def rows(plan):
    return seran_study.measured(plan, ROWS_RUN, seeds=[0, 1])


def test_the_recipe_is_the_papers():  # section 4.1
    plan = seran_study.study_plan("full", "full", seed=3)
    recipe = seran_study.recipe(plan)
    assert (recipe.learning_rate, recipe.weight_decay, plan.image_size) == (5e-4, 0.01, 224)
    assert recipe.augment == "flips_crops_light_zoom" and recipe.label_smoothing == 0 and recipe.seed == 3
    assert recipe.epochs == plan.epochs and plan.metadata == "none"
    optimizer = optimizer_of_w(list(build("seran", 3, 1 / 16).parameters()), recipe)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["weight_decay"] == 0.01
    other = seran_study.study_plan("full", "full", learning_rate=1e-3, augment="none", image_size=64)
    assert (seran_study.recipe(other).learning_rate, seran_study.recipe(other).augment, other.image_size) == (
        1e-3,
        "none",
        64,
    )


def test_the_first_updates_use_the_initial_rate(rows, plan):  # it falls from 5e-4, it does not climb to it
    run = seran_study.trained(plan, "seran", "tiny")
    assert run.config["schedule"] == "cosine" and run.config["learning_rate"] == 5e-4
    assert run.history["learning_rate"].iloc[-1] < 5e-4


def test_all_rows_have_one_budget_and_every_seed_a_network_of_its_own(rows):
    assert rows["row"].tolist() == ROWS_RUN * 2 and rows["seed"].tolist() == [0, 0, 1, 1]
    assert rows["images_seen"].nunique() == rows["epochs"].nunique() == rows["learning_rate"].nunique() == 1
    assert rows["run"].nunique() == 4 and set(rows["size"]) == {"tiny"}
    built = {row: sum(p.numel() for p in build(row, 12, 1 / 16).parameters()) for row in ROWS_RUN}
    assert rows["parameters"][0] > rows["parameters"][1] and built["seran"] > built["attention92"]


def test_errors_are_counted_from_what_the_network_said(rows, plan):
    run = seran_study.trained(plan, "seran", "tiny")
    said = run.table("predictions")
    names = list(plan.splits().test.class_names)
    wrong = dict.fromkeys((1, 5), 0)
    for _, specimen in said.iterrows():
        truth = specimen[f"p_{specimen['truth']}"]
        better = sum(specimen[f"p_{name}"] > truth for name in names)
        for k in wrong:
            wrong[k] += better >= k
    first = rows.iloc[0]
    assert (
        first["test_top1_error"]
        == pytest.approx(1 - first["accuracy"])
        == pytest.approx(wrong[1] / len(said))
    )
    assert first["test_top5_error"] == pytest.approx(wrong[5] / len(said))
    assert first["val_top1_error"] == pytest.approx(1 - run.history["val_accuracy"].iloc[-1])
    assert 0 <= first["val_top5_error"] <= first["val_top1_error"]


def test_finished_runs_are_only_read(rows, plan, monkeypatch):
    monkeypatch.setattr(trainer.Fit, "train", lambda self: pytest.fail("trained again"))
    again = seran_study.measured(plan, ROWS_RUN, seeds=[0, 1])
    assert again.equals(rows)


def test_another_recipe_is_another_run(rows, plan):
    for other in ({"augment": "none"}, {"epochs": 2}, {"learning_rate": 1e-3}):
        changed = dataclasses.replace(plan, **other)
        description = changed.describe(role="seran")
        folders = {p.run("seran", seran_study.recipe(p), description).path for p in (plan, changed)}
        assert len(folders) == 2


def test_the_table_has_ours_and_theirs_in_columns_of_their_own(rows, plan):
    table = seran_study.table(rows, plan, "bionas seran")
    assert table["model"].tolist() == ["majority class", "SERAN", "Attention-92"]
    ours = rows[rows["row"] == "seran"]["test_top1_error"]
    assert table["test_top1_error_mean"][1] == pytest.approx(100 * ours.mean(), abs=0.01)
    assert table["test_top1_error_sd"][1] == pytest.approx(100 * ours.std(ddof=1), abs=0.01)
    train, val, _ = plan.splits()
    commonest = np.bincount(train.labels).argsort(kind="stable")[::-1]
    assert table["val_top1_error_mean"][0] == pytest.approx(
        100 * (val.labels != commonest[0]).mean(), abs=0.01
    )
    assert table.loc[0, "test_top1_error_mean"] == pytest.approx(
        100 - table.loc[0, "accuracy_mean"], abs=0.011
    )
    assert table["published_test_top1_error"].tolist()[1:] == [15.28, 18.89] and np.isnan(
        table["published_test_top1_error"][0]
    )
    assert set(report.METRICS) <= {name.removesuffix("_mean") for name in table}


def test_the_command_trains_a_subset_and_writes_both_tables(rows, plan, monkeypatch, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "paper").symlink_to(places.data("paper"))
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    settings = [f"{n}={getattr(plan, n)}" for n in ("mode", "epochs", "limit", "batch_size", "run_dir")]
    words = [
        "seran",
        "--rows",
        *ROWS_RUN,
        "--seeds",
        "0",
        "1",
        "--out",
        "few",
        *(w for s in settings for w in ("-p", s)),
    ]
    monkeypatch.setattr(trainer.Fit, "train", lambda self: pytest.fail("trained again"))
    assert main(words) == 0
    assert "Attention-92" in capsys.readouterr().out
    written = [
        len((tmp_path / "data" / "results" / f"few{end}.csv").read_text().splitlines())
        for end in ("", "_runs", "_curves")
    ]
    assert written == [1 + 3, 1 + 4, 1 + 4]  # of one epoch each
    assert main(["seran", "--rows", "seran_e"]) == 2 and "seran_d" in capsys.readouterr().err
    assert main(["seran", "--size", "half"]) == 2 and "quarter" in capsys.readouterr().err


def test_courses_are_those_of_the_histories(rows, plan):
    courses = seran_study.curves(rows, plan)
    assert courses.groupby(["row", "seed"]).size().tolist() == [1] * 4
    run = Run(dataclasses.replace(plan, seed=1).folder() / rows[rows["seed"] == 1]["run"].iloc[0])
    own = courses[(courses["row"] == "seran") & (courses["seed"] == 1)].iloc[0]
    assert own["train_error"] == pytest.approx(1 - run.history["train_accuracy"].iloc[0], abs=1e-5)
    assert figures.error_curves(courses, "x").data


def test_over_fitting_by_hand():  # validation turns at epoch 6 of 20 while training still improves
    epochs = np.arange(1, 21)
    courses = pd.DataFrame(
        {
            "model": "SE only", "seed": 0, "epoch": epochs, "train_error": 0.8 - 0.02 * epochs,
            "val_error": 0.5, "train_loss": 1.0, "val_loss": 1 + 0.1 * abs(epochs - 6),
        }
    )  # fmt: skip
    row = seran_study.over_fitting(courses).iloc[0]
    assert (row["runs"], row["epochs"], row["best_epoch"]) == (1, 20, 6)
    assert row["rise"] == pytest.approx(140.0) and row["train_error"] == pytest.approx(40.0)
    assert row["still_falling"] == pytest.approx(4.0)  # epochs 17 and 18 against 19 and 20


def test_top_k_error_by_hand():
    probabilities = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    assert top_k_error([1, 0, 2], probabilities, 1) == 0
    assert top_k_error([2, 1, 0], probabilities, 1) == 1
    assert top_k_error([2, 1, 0], probabilities, 2) == pytest.approx(1 / 3)  # of equal ones the first counts
    assert top_k_error([2, 2, 0], probabilities, 2) == pytest.approx(2 / 3)
    assert top_k_error([0, 1, 2], probabilities, 5) == 0


def test_every_row_of_both_tables_is_in_the_registry_once():
    from bionas.studies import published

    held = {
        source: [row.published[source] for row in ROWS.values() if source in row.published]
        for source in ("seran_table1", "seran_table2", "seran_text")
    }
    for source, models in held.items():
        assert sorted(models) == sorted(published.table(source)["model"])
    printed = seran_study.published_errors().set_index("row")
    assert printed.loc["seran_d", list(ERRORS)].tolist() == [13.24, 3.82, 13.58, 4.04]
    assert printed.loc["seran_d_ran_only", list(ERRORS[:2])].tolist() == [19.65, 5.72]
    assert printed.loc["seran_d_ran_only", list(ERRORS[2:])].isna().all()


def test_without_se_modules_reads_otherwise_than_the_table():  # section 4.2: "declines by 3.59 %"
    audit = seran_study.audit().set_index("claim")
    against_se_only = audit.loc["without SE modules, read as attention only against SE only, top-1"]
    against_full = audit.loc["without SE modules, read as attention only against the full SERAN-D, top-1"]
    assert against_se_only["holds"] and against_se_only["computed"] == pytest.approx(
        19.65 - 16.06
    ) == pytest.approx(3.59)
    assert not against_full["holds"] and against_full["computed"] == pytest.approx(
        19.65 - 13.24
    ) == pytest.approx(6.41)
    assert audit["holds"].tolist() == [True] * 7 + [False] * 2


def test_parameter_counts_say_how_far_they_are_off():
    counts = seran_study.parameter_counts().set_index("row")
    assert counts["published"]["seran_d"] == pytest.approx(93.5e6, rel=1e-3)
    assert counts["published"]["seran"] == pytest.approx(64.8e6, rel=1e-3)
    for row in ("seran", "seran_d", "attention92"):
        ratio = counts["parameters"][row] / counts["published"][row]
        assert counts["off_percent"][row] == pytest.approx(100 * (ratio - 1), abs=0.006)
    assert counts[["se", "attention"]].loc["seran_d"].tolist() == [10, 4]


def test_what_was_assumed_is_declared():
    told = seran_study.assumptions()
    assert list(told.columns) == ["matter", "text", "ours"] and told["matter"].is_unique
    for matter in ("widths", "SE ratio", "order of modules", "residual block", "epochs, batch size"):
        assert matter in set(told["matter"])
    assert told.map(lambda text: bool(text.strip())).all(axis=None)


def test_another_row_is_refused_before_anything_is_trained(plan, monkeypatch):
    monkeypatch.setattr(experiments, "companion", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(UnknownName, match="row of SERAN's tables"):
        seran_study.measured(plan, ["seran", "resnet_101"], seeds=[0])


def test_what_was_not_run_has_its_row_beside_the_published_errors(rows, plan):
    nothing = seran_study.beside_published(pd.DataFrame())
    assert (
        nothing["model"].tolist() == [row.title for row in ROWS.values()] and (nothing["n_seeds"] == 0).all()
    )
    assert nothing.set_index("model").loc["SERAN-D", "published_test_top1_error"] == 13.58
    assert nothing["test_top1_error_mean"].isna().all()
    table = seran_study.table(rows, plan, "bionas seran")
    one_seed = seran_study.table(rows[rows["seed"] == 0], plan, "bionas seran")
    some = seran_study.beside_published(pd.concat([table, one_seed])).set_index("model")
    assert some.index[0] == "majority class" and len(some) == 1 + len(ROWS)
    assert (
        some["n_seeds"].to_dict() | {"SERAN": 2, "Attention-92": 2, "SERAN-D": 0} == some["n_seeds"].to_dict()
    )
    assert some.loc["SERAN", "val_top5_error_mean"] == table["val_top5_error_mean"][1]
    assert some.loc["SERAN", "published_val_top5_error"] == 4.77


def test_trunk_and_mask_of_a_trained_network_are_those_of_its_modules(rows, plan):
    network = seran_study.restored(plan, "seran", "tiny", seran_study.trained(plan, "seran", "tiny")).eval()
    images = torch.rand(2, 3, 64, 64)
    maps = seran_study.attention_maps(network, images)
    assert [trunk.shape[-1] for trunk, _ in maps] == [16, 8, 4]
    with torch.no_grad():
        first = network.body[1]
        before = first.before(network.body[0](network.stem(images)))
        assert torch.allclose(maps[0][0], first.trunk(before)) and torch.allclose(
            maps[0][1], first.mask(before)
        )
    assert all(mask.min() >= 0 and mask.max() <= 1 and mask.shape == trunk.shape for trunk, mask in maps)
    assert not first.trunk._forward_hooks

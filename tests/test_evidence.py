"""What each input contributes, and what each open choice changes: arithmetic by hand, and tiny runs of both studies."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bionas.__main__ import main
from bionas.errors import UnknownName
from bionas.genotype import derive
from bionas.operators import PRIMITIVE_SETS
from bionas.studies import report
from bionas.studies.evidence import assumptions, inputs
from bionas.system import places
from bionas.training import experiments
from bionas.training.loop import predict
from bionas.training.runs import Run

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return experiments.plan("smoke", search_epochs=1, epochs=1, run_dir=tmp_path_factory.mktemp("runs"))


# --- inputs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(plan):
    return inputs.measured(plan, ["no_target", "country"], ["paper"], SEEDS)


def run_of(plan, name, seed):
    return Run(dataclasses.replace(plan, seed=seed).folder() / name)


@pytest.mark.slow
def test_each_seed_sees_the_image_each_choice_and_both(rows):
    kinds = [
        ("image", "none"),
        ("metadata", "no_target"),
        ("image + metadata", "no_target"),
        ("metadata", "country"),
        ("image + metadata", "country"),
    ]
    assert list(zip(rows["inputs"], rows["metadata"])) == kinds * 2
    assert rows["run"].nunique() == 10 and rows["images_seen"].nunique() == 1
    assert rows.loc[rows["metadata"] == "country", "fields"].unique().tolist() == ["country"]


def test_all_rows_with_an_image_train_one_network(rows, plan):
    with_image = rows[rows["inputs"] != "metadata"]
    genotypes = {run_of(plan, r.run, r.seed).genotype.to_json() for r in with_image.itertuples()}
    assert len(genotypes) == 1


def test_shares_of_seen_and_unseen_bins_are_of_the_test_specimens(rows, plan):
    row = rows.iloc[1]
    train, _, test = dataclasses.replace(plan, split="paper").splits()
    predictions = run_of(plan, row["run"], row["seed"]).table("predictions")
    shown = set(train.records["dna_bin"].dropna()) - {""}
    right = (predictions["truth"] == predictions["predicted"]).to_numpy()
    seen = test.records["dna_bin"].isin(shown).to_numpy()
    known = test.records["dna_bin"].notna().to_numpy() & (test.records["dna_bin"] != "").to_numpy()
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["accuracy_seen"] == pytest.approx(right[seen].mean())
    if (known & ~seen).any():
        assert row["accuracy_unseen"] == pytest.approx(right[known & ~seen].mean())
    assert row["low"] <= row["accuracy"] <= row["high"]


def test_the_summary_is_by_division_below_the_majority_class(rows, plan):
    table = inputs.summary(rows, plan, "bionas evidence inputs")
    assert table["model"].tolist() == [
        "majority class",
        "image",
        "metadata",
        "image + metadata",
        "metadata",
        "image + metadata",
    ]
    own = rows[(rows["inputs"] == "metadata") & (rows["metadata"] == "country")]
    assert table["accuracy_mean"].iloc[4] == pytest.approx(100 * own["accuracy"].mean(), abs=0.01)
    assert (table["split"] == "paper").all()


def test_what_the_image_adds_is_paired_by_seed():
    def row(kind, choice, seed, accuracy):
        return {"split": "paper", "inputs": kind, "metadata": choice, "seed": seed, "accuracy": accuracy}

    table = inputs.remains(
        pd.DataFrame(
            [
                row("image", "none", 0, 0.6),
                row("image", "none", 1, 0.4),
                row("metadata", "place", 0, 0.80),
                row("image + metadata", "place", 0, 0.90),
                row("metadata", "place", 1, 0.70),
                row("image + metadata", "place", 1, 0.70),
            ]
        )
    )
    (only,) = table.itertuples()
    assert (only.metadata_alone, only.image_alone, only.both) == pytest.approx((75, 50, 80))
    assert only.gain == pytest.approx(5) and only.gain_se == pytest.approx(np.std([10, 0], ddof=1) / 2**0.5)
    assert only.repaired == pytest.approx(100 * 0.05 / 0.25)


def test_shuffling_is_the_plain_loop_over_one_column(rows, plan, monkeypatch):
    monkeypatch.setattr(inputs, "REPEATS", 2)
    table = inputs.permuted(plan, ["no_target"], ["paper"], SEEDS[:1])
    given = dataclasses.replace(plan, split="paper", metadata="no_target")
    fields = given.encoding().fields
    assert table["shuffled"].tolist() == [*fields, "all metadata", "image"]
    run, val, encoding = run_of(plan, table["run"][0], 0), given.splits().val, given.encoding()
    network = given.derived(run.genotype)
    network.load_state_dict(run.load_checkpoint()["model"])
    whole = (predict(network, val, encoding).argmax(1) == val.labels).mean()
    assert whole == pytest.approx(run.history["val_accuracy"].iloc[-1]) and (table["accuracy"] == whole).all()
    generator = np.random.default_rng([given.data_seed, 0])
    orders = [generator.permutation(len(val)) for _ in range(2)]
    records = [
        val.records.assign(**{fields[0]: val.records[fields[0]].to_numpy()[order]}) for order in orders
    ]
    left = [
        (predict(network, dataclasses.replace(val, records=r), encoding).argmax(1) == val.labels).mean()
        for r in records
    ]
    assert table["drop"][0] == pytest.approx(whole - np.mean(left))


@pytest.mark.slow
def test_a_network_loses_what_it_relied_on_and_nothing_else(tmp_path):
    """Trained until it reads the order from its own column, shuffling that column costs it, another does not."""
    plan = experiments.plan(
        "smoke", metadata="order+country", epochs=30, limit=240, run_dir=tmp_path, split="paper"
    )
    table = inputs.permuted(plan, ["order+country"], ["paper"], [0]).set_index("shuffled")
    assert table.loc["order", "drop"] > 0.2 > abs(table.loc["country", "drop"])


def test_bins_of_confidence_are_put_together_over_runs(rows, plan):
    runs = [run_of(plan, r.run, r.seed) for r in rows[rows["inputs"] == "image"].itertuples()]
    merged = inputs.reliability(runs)
    predictions = pd.concat([run.table("predictions") for run in runs])
    filled = merged[merged["n"] > 0].iloc[-1]
    within = predictions[
        (predictions["confidence"] > filled["low"]) & (predictions["confidence"] <= filled["high"])
    ]
    assert merged["n"].sum() == len(predictions) and filled["n"] == len(within)
    assert filled["accuracy"] == pytest.approx((within["truth"] == within["predicted"]).mean())
    classes = inputs.by_class(dataclasses.replace(plan, split="paper"), runs)
    assert (
        classes.groupby("seed")["n_test"].sum().nunique() == 1
        and len(classes) == 2 * classes["class"].nunique()
    )


# --- assumptions --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_choice_is_turned_at_a_time(plan):
    rows = assumptions.measured(
        plan, [0], ["one theta for all cells", "no edge removed", "inherited weights"]
    )
    declared, shared, kept, inherited = (run_of(plan, name, 0) for name in rows["run"])
    assert rows["model"][0] == "as declared" and rows["changed_edges"][0] == 0
    assert shared.genotype.cells[0].operations == shared.genotype.cells[1].operations
    assert "none" not in {name for cell in kept.genotype.cells for name in cell.operations}
    assert inherited.genotype == declared.genotype and inherited.config["inherit"]
    assert rows["images_seen"].nunique() == 1
    with pytest.raises(UnknownName, match="inherited weights"):
        assumptions.measured(plan, [0], ["inherited weight"])


def test_alphas_of_a_finished_search_derive_again(plan):
    search = experiments.search(plan)
    network = plan.supernet()
    network.load_state_dict(search.load_checkpoint()["model"])
    alphas, names = network.alpha().detach().double(), PRIMITIVE_SETS["full"]
    reductions = plan.network().reductions
    assert assumptions.genotype_of(search, True) == derive(alphas, names, reductions)
    assert assumptions.genotype_of(search, False) == derive(alphas, names, reductions, removable=False)


def test_differences_are_paired_by_seed(plan):
    rows = pd.DataFrame(
        {
            "model": ["as declared", "no edge removed"] * 2,
            "seed": [0, 0, 1, 1],
            "augment": "none",
            **dict.fromkeys(report.METRICS, 0.5),
            "balanced_accuracy": [0.30, 0.34, 0.40, 0.42],
            "mmacs": 1.0,
            "parameters": 10,
            "minutes": 1.0,
            "search_minutes": 1.0,
            "epochs": 1,
            "images_seen": 10,
            "learning_rate": 0.1,
            "code": "x",
            "removed_edges": [2, 0, 1, 0],
            "changed_edges": [0, 2, 0, 1],
        }
    )
    table = assumptions.summary(rows, plan, "command").set_index("model")
    assert table.loc["no edge removed", "difference"] == pytest.approx(3.0)
    assert table.loc["no edge removed", "difference_se"] == pytest.approx(1.0)
    assert table.loc["as declared", "removed_edges"] == 1.5


@pytest.mark.slow
def test_the_command_writes_its_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bionas.system.places.root", lambda: tmp_path)
    asked = [
        "evidence",
        "inputs",
        "-p",
        "mode=smoke",
        "-p",
        "epochs=1",
        "-p",
        "search_epochs=1",
        "-p",
        f"run_dir={tmp_path}/runs",
    ]
    assert main([*asked, "--seeds", "0", "--out", "audit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["command"].startswith("bionas ")
    endings = ("", "_runs", "_counting", "_remains", "_permuted", "_classes", "_reliability")
    assert {p.name for p in (tmp_path / "data" / "results").iterdir()} == {f"audit{e}.csv" for e in endings}
    assert main(["evidence", "input"]) == 2
    assert "did you mean 'inputs'" in capsys.readouterr().err.lower()


def test_photographs_without_records_have_nothing_to_set_beside_them(tmp_path, capsys):
    for name in ("Diptera", "Hymenoptera"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(tmp_path / name / f"{i}.png")
    assert (
        main(
            [
                "evidence",
                "inputs",
                "-p",
                "source=folder",
                "-p",
                f"data_dir={tmp_path}",
                "-p",
                f"run_dir={tmp_path}/r",
            ]
        )
        == 2
    )
    assert "nothing to set beside the image" in capsys.readouterr().err


# --- what is committed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["audit_inputs", "audit_records", "audit_assumptions"])
def test_the_committed_summary_is_of_the_committed_runs(name):
    table, runs = (pd.read_csv(places.data(f"results/{name}{ending}.csv")) for ending in ("", "_runs"))
    by = [column for column in ("split", "model", "metadata") if column in table and column in runs]
    stated = table[table["n_seeds"] > 0].set_index(by).sort_index()
    found = runs.groupby(by)[["accuracy", "balanced_accuracy"]].agg(["mean", "std", "size"]).sort_index()
    assert list(stated.index) == list(found.index) and (stated["n_seeds"] == 3).all()
    for metric in ("accuracy", "balanced_accuracy"):
        assert (100 * found[metric, "mean"] - stated[f"{metric}_mean"]).abs().max() < 0.006
        assert (100 * found[metric, "std"] - stated[f"{metric}_sd"]).abs().max() < 0.006
    assert table["model"].iloc[0] == "majority class"
    assert table["command"].dropna().unique()[0].endswith(f"--out {name}")


def test_notebook_04_says_how_searches_differ():
    runs = pd.read_csv(places.data("results/audit_assumptions_runs.csv")).query("model == 'as declared'")
    scores = 100 * runs["balanced_accuracy"]
    stated = f"gave networks of {scores.mean():.1f} ± {scores.std():.1f} %"
    assert stated in (places.notebooks() / "04_derivation.py").read_text(encoding="utf-8").replace(
        "\n# ", " "
    )

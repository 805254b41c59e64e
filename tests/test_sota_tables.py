"""Tables II to V beside ours: every figure is read, none is typed, and what is missing says so."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import readme_blocks

from bionas.errors import UnknownName
from bionas.studies import published, report, results, sota_tables
from bionas.studies.backbones import paper_backbones as backbones
from bionas.studies.backbones import slug
from bionas.studies.report import HEADLINE, MAJORITY, NOT_RUN
from bionas.studies.sota_rows import (
    BOTH,
    COLUMNS,
    EMBEDDED,
    IMAGE,
    OURS,
    PARTS,
    PHOTOGRAPHS,
    PRINTED,
    PROTOCOL,
    files_of,
    key,
    small_backbones,
)
from bionas.system import places

EIGHT = small_backbones()
NOTEBOOK = "06_sota_comparison"
BACKBONES_BY = {"augment": "none", "inputs": "image", "pretrained": False, "frozen": False}


def scored(model: str, accuracy: float, n: int = 1, sd: float | None = None, **more) -> dict:
    """A row as `report.summary` writes it, its balanced accuracy ten points lower."""
    means = {
        "accuracy_mean": accuracy,
        "balanced_accuracy_mean": accuracy - 10,
        "f1_macro_mean": accuracy - 20,
    }
    spreads = {f"{m}_sd": sd for m in report.METRICS}
    spent = {"mmacs": 20.0, "parameters": 1e6, "minutes": 2.0, "images_seen": 4096}
    return {"model": model, "n_seeds": n, **means, **spreads, **spent, **more}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with the published tables and no result but what the backbones cost; `put` writes one."""
    shutil.copytree(places.data("paper"), tmp_path / "data" / "paper")
    folder = tmp_path / "data" / "results"
    folder.mkdir()
    shutil.copy(places.data("results/backbones_at_rest.csv"), folder)
    monkeypatch.setattr(places, "root", lambda: tmp_path)

    def put(name: str, rows: list[dict]) -> None:
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)

    put.folder = folder
    return put


def everything(put) -> None:
    """One row a network in every file, as the commands write them."""
    first = scored(MAJORITY, 30.0, 0)
    put(
        "spine_field_orders",
        [
            first,
            scored("derived", 41.0, 3, 2.0, augment="none"),
            scored("resnet18", 44.0, 3, 1.0),
            scored("derived", 46.0, 3, 2.0, augment="flips_and_shifts"),
        ],
    )
    grid = {**scored("E009", 55.5, 3, 1.5), "row": "E009", "n": 3, "images_seen": 4096.0}
    others = {**scored("E010", 44.4, 3, 1.5), "row": "E010", "n": 3}
    for name in ("ablation_synthetic", "image_alone_synthetic"):
        rows = [{**first, "row": MAJORITY, "n": 0}, grid, others]
        put(name, [{k: v for k, v in r.items() if k not in ("model", "n_seeds")} for r in rows])
    put("metadata_alone_synthetic", [first, scored("metadata alone", 52.0, 3, 0.5)])
    for name in ("backbones_synthetic", "backbones_field_orders"):
        one = [scored(b, 40.0 + i, **BACKBONES_BY, note="") for i, b in enumerate(EIGHT)]
        left = [
            {"model": b.name, "n_seeds": 0, "note": "not run: not chosen (large)"}
            for b in backbones()
            if b.name not in EIGHT
        ]
        put(name, [first, *one, *left])
        put(f"{name}_runs", one)
    three = [scored(b, 60.0 + i, 3, 0.7, **BACKBONES_BY, note="") for i, b in enumerate(EIGHT[:3])]
    both = [
        scored(b, 70.0 + i, 3, 0.7, **{**BACKBONES_BY, "inputs": BOTH}, note="")
        for i, b in enumerate(EIGHT[:3])
    ]
    put("backbones_synthetic_three", [first, *three, *both])
    systems = [m for m in sota_tables.paper("V")["model"] if m != OURS]
    ours_and_others = [*((m, 33.0 + i) for i, m in enumerate(systems)), (PRINTED, 44.0)]
    put(
        "automl_synthetic",
        [first, *(scored(m, s, budget_minutes=10, inputs=BOTH) for m, s in ours_and_others)],
    )


# --- published ---------------------------------------------------------------------------------------------------


def test_the_majority_line_is_counted_from_the_printed_records():  # 71.57 %; seven of the twenty are under it
    counts = published.table("bioscan5m_order_counts")
    order, percent = published.commonest_order()
    assert (order, round(percent, 2)) == ("Diptera", 71.57)
    assert percent == pytest.approx(100 * counts["count"].max() / counts["count"].sum())
    below = sota_tables.under_majority()
    tables = pd.concat([published.table("table2_transfer_learning"), published.table("table3_transformers")])
    theirs = tables[~tables["model"].str.startswith("Ours")]
    assert len(theirs) == 20 and sorted(below["model"]) == sorted(
        theirs.loc[theirs["bioscan5m_accuracy"] < percent, "model"]
    )
    assert len(below) == 7 and below["bioscan5m_accuracy"].is_monotonic_increasing


def test_every_published_model_is_there_once_with_its_printed_figures():
    frame = sota_tables.published_models()
    assert frame["model"].is_unique and len(frame) == 20 + 7 + 1 and frame["model"].iloc[-1] == OURS
    rest = sota_tables.at_rest().set_index("model")
    for b in backbones():
        own = frame.set_index("model").loc[b.name]
        assert own["gmacs"] == rest.loc[b.name, "gmacs"] and own["px"] == b.native
    printed = published.table("table1_ablation").set_index("exp_id").loc["E009"]
    ours = frame.set_index("model").loc[OURS]
    assert ours["gmacs"] == printed["gflops"] and ours["parameters"] * 4 / 2**20 == pytest.approx(
        printed["memory_mb"]
    )
    assert frame.loc[frame["table"] == "V", "gmacs"].isna().all()  # the paper prints none for these systems


def test_what_lies_at_rest_is_what_the_registry_says():
    rest = sota_tables.at_rest()
    assert rest["model"].tolist() == [b.name for b in backbones()] and rest["command"].nunique() == 1
    for row, b in zip(rest.itertuples(), backbones()):
        assert row.parameters / 1e6 == pytest.approx(b.mparameters, abs=0.006) and row.gmacs == pytest.approx(
            b.gmacs, abs=0.006
        )
        assert (
            row.training_gb == pytest.approx(row.parameters * 16 / 2**30, abs=0.01)
            and row.gmacs_64 <= row.gmacs
        )


def test_a_name_is_the_same_in_the_papers_words_and_in_ours():
    assert key("Optuna (HPO for CNN)") == "optuna" == key("optuna")
    assert key("Big Transfer (BiT)") == "big-transfer" and key("resnet18") != key("ResNet-18")
    with pytest.raises(UnknownName, match="table of scores"):
        sota_tables.paper("IV")


# --- what is kept ------------------------------------------------------------------------------------------------

KEPT = [name for part in PARTS if part.file.startswith(("backbones", "automl")) for name in files_of(part)]


def test_a_kept_table_is_the_mean_of_its_runs():
    for name in KEPT:
        check(results.table(name), results.table(f"{name}_runs"))


def check(table: pd.DataFrame, runs: pd.DataFrame) -> None:
    assert table["model"][0] == MAJORITY and table["n_seeds"][0] == 0
    done = runs[runs["accuracy"].notna()].groupby("model")
    stated = table[table["n_seeds"] > 0].set_index("model")
    assert dict(done.size()) == dict(stated["n_seeds"])
    for metric in HEADLINE:
        assert (100 * done[metric].mean() - stated[f"{metric}_mean"]).abs().max() < 0.006
        assert not ((100 * done[metric].std() - stated[f"{metric}_sd"]).abs() > 0.006).any()
    assert runs["threads"].nunique() == 1 and not runs.duplicated(["model", "seed"]).any()


# --- the blocks of the documents -----------------------------------------------------------------------------------


def cells_of(block: str) -> dict[str, list[str]]:
    """First cell -> the others, of a Markdown table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def test_a_block_lists_what_was_trained_by_rising_cost(checkout):
    everything(checkout)
    lines = cells_of(readme_blocks.backbones())
    names, costs = (
        list(lines),
        [float(cells[0].split(";")[0]) for name, cells in lines.items() if name in EIGHT],
    )
    assert names[0] == MAJORITY and names[-1] == OURS and set(names) == {MAJORITY, *EIGHT, OURS}
    assert costs == sorted(costs) and len(costs) == 8
    assert (
        "backbones_synthetic_three.csv" in lines[EIGHT[0]][6]
        and "#backbones_field_orders" in lines[EIGHT[0]][6]
    )
    assert lines[EIGHT[0]][3:6] == ["40.0 (1)", "60.0 ± 0.7 (3)", "70.0 ± 0.7 (3)"]
    printed = pd.concat([sota_tables.paper("II"), sota_tables.paper("III")]).set_index("model")
    assert all(float(lines[name][2]) == printed.loc[name, "bioscan5m_accuracy"] for name in EIGHT)
    assert lines[OURS][2:4] == ["96.81", "41.0 ± 2.0 (3)"] and lines[EIGHT[-1]][5] == NOT_RUN
    assert lines[MAJORITY][:6] == ["", "", "71.57", "30.0", "30.0", "30.0"]


def test_a_block_lists_the_systems_best_first(checkout):
    everything(checkout)
    lines = cells_of(readme_blocks.systems())
    ours = [cells[1] for cells in lines.values()]
    assert ours == ["30.0", "44.0 (1)", *(f"{33.0 + i:.1f} (1)" for i in reversed(range(7)))]
    printed = sota_tables.paper("V").set_index("model")["bioscan5m_accuracy"]
    assert all(float(cells[0]) == printed[name] for name, cells in list(lines.items())[1:])


# --- what is missing ---------------------------------------------------------------------------------------------


def test_without_any_result_all_of_ours_is_not_run(checkout):
    assert sota_tables.measured().empty
    for number in sota_tables.TABLES:
        table = sota_tables.side_by_side(number)
        ours = table[[c for c in table if c[0] != "the paper"]]
        assert (ours == NOT_RUN).all(axis=None) and ours.shape[1] == (1 if number == "V" else 3)
    missing = sota_tables.not_run()
    assert missing["why"].tolist() == [
        f"not run: data/results/{part.file}.csv is not there" for part in PARTS
    ]
    assert all(f"--out {part.file}" in part.command for part in PARTS)
    assert sota_tables.budgets().empty and sota_tables.with_and_without()["gain"].isna().all()


def test_a_file_that_lands_is_read_and_leaves_the_list(checkout):
    everything(checkout)
    missing = sota_tables.not_run()
    alone = missing[missing["what"].str.endswith("image+metadata")]
    missing = missing.drop(alone.index)
    assert set(missing["what"]) == {b.name for b in backbones()} - set(EIGHT) and len(missing) == 2 * 12
    pairs = sota_tables.with_and_without().query("both_seeds == 0 and image_seeds > 0")["model"]
    assert set(alone["what"].str.removesuffix(", image+metadata")) == set(pairs) and len(alone)
    assert (
        alone["command"].str.contains(r"--inputs image\+metadata .*--out backbones_synthetic_metadata_").all()
    )
    vgg = missing[(missing["what"] == "VGG16") & (missing["collection"] == PHOTOGRAPHS)].iloc[0]
    assert vgg["why"] == "not run: not chosen (large)" and "--names vgg16 -p source=folder" in vgg["command"]
    assert vgg["command"].endswith("--seeds 0 --out backbones_field_orders_vgg16")


def test_each_command_is_one_of_ours_and_writes_its_table():
    for part in PARTS:
        assert part.command.startswith("bionas ") and f"--out {part.file}" in part.command
    chosen = results.command("backbones_synthetic").split("--names ")[1].split(" --")[0].split()
    assert chosen == [slug(name) for name in EIGHT] and set(EIGHT) <= {b.name for b in backbones()}


# --- side by side ------------------------------------------------------------------------------------------------


def test_every_figure_of_a_table_is_the_one_in_its_file(checkout):
    everything(checkout)
    table = sota_tables.side_by_side("III")
    printed = published.table("table3_transformers").set_index("model")
    assert table.index.tolist() == [MAJORITY, *printed.index[:-1], OURS]
    for model in printed.index[:-1]:
        assert (
            table.loc[model, ("the paper", "Insects-1M, accuracy")]
            == f"{printed.loc[model, 'insects1m_accuracy']:.2f}"
        )
    assert table.loc["LeViT-128S", (EMBEDDED, IMAGE)] == "60.0 ± 0.7 (3)"  # of three seeds rather than of one
    assert table.loc["LeViT-128S", (EMBEDDED, BOTH)] == "70.0 ± 0.7 (3)"
    assert table.loc["LeViT-128S", (PHOTOGRAPHS, IMAGE)] == "40.0 (1)"
    assert table.loc["EfficientFormer", (EMBEDDED, IMAGE)] == f"{40 + EIGHT.index('EfficientFormer'):.1f} (1)"
    assert table.loc["CoAtNet-7", (PHOTOGRAPHS, IMAGE)] == NOT_RUN == table.loc["Tiny ViT", (EMBEDDED, BOTH)]
    assert (
        table.loc[OURS, (PHOTOGRAPHS, IMAGE)] == "41.0 ± 2.0 (3)"
        and table.loc[OURS, (EMBEDDED, BOTH)] == "55.5 ± 1.5 (3)"
    )
    assert table.loc[MAJORITY, (EMBEDDED, IMAGE)] == "30.0" == table.loc[MAJORITY, (PHOTOGRAPHS, IMAGE)]
    assert table.loc[MAJORITY, ("the paper", "BIOSCAN-5M, accuracy")] == "71.57 (always Diptera)"
    balanced = sota_tables.side_by_side("III", "balanced_accuracy")
    assert balanced.loc["LeViT-128S", (EMBEDDED, IMAGE)] == "50.0 ± 0.7 (3)" and balanced.shape == table.shape
    with pytest.raises(UnknownName, match="Did you mean 'accuracy'"):
        sota_tables.side_by_side("III", "acuracy")


def test_the_full_table_has_every_column_of_the_paper_and_ours(checkout):
    everything(checkout)
    spine = pd.read_csv(checkout.folder / "spine_field_orders.csv").assign(precision_weighted_mean=39.5)
    spine.to_csv(checkout.folder / "spine_field_orders.csv", index=False)
    table, printed = (
        sota_tables.full_table("II"),
        published.table("table2_transfer_learning").set_index("model"),
    )
    for dataset, prefix in sota_tables.DATASETS.items():
        for heading, column in (("precision", "precision"), ("recall", "recall"), ("F1", "f1")):
            theirs = table[f"the paper, {dataset}", heading].iloc[1:-1].astype(float)
            assert (theirs == printed[f"{prefix}_{column}"].iloc[:-1]).all()
    place = f"{PHOTOGRAPHS}: {IMAGE}"
    assert table.loc[OURS, (place, "precision")] == "39.5 ± 2.0 (3)"
    assert table.loc[OURS, (place, "recall")] == table.loc[OURS, (place, "accuracy")] == "41.0 ± 2.0 (3)"
    assert table.loc["MobileNetV2", (place, "precision")] == "not recorded"
    assert (
        table.loc["VGG16", (place, "precision")] == NOT_RUN and table.loc["VGG16", (place, "minutes")] == ""
    )
    assert table.loc["ResNet-18", (place, "MACs (M)")] == "20.0" and table.index[0] == MAJORITY


@pytest.mark.slow
def test_the_systems_of_table_5_stand_beside_ours_of_as_many_minutes(checkout):
    everything(checkout)
    table, column = sota_tables.side_by_side("V"), (EMBEDDED, f"{BOTH}, 10 minutes")
    assert table.loc["TPOT", column] == "33.0 (1)" and table.loc["NAO", column] == "39.0 (1)"
    assert table.loc[OURS, column] == "44.0 (1)" and "55.5 ± 1.5 (3)" not in set(
        table.loc[OURS]
    )  # of row E009's images
    assert sota_tables.side_by_side("II").loc[OURS, (EMBEDDED, BOTH)] == "55.5 ± 1.5 (3)"
    checkout(
        "automl_synthetic",
        [
            scored("tpot", 12.0, budget_minutes=10),
            {"model": "NAO", "n_seeds": 0, "budget_minutes": 10, "note": "failed: memory"},
        ],
    )
    table = sota_tables.side_by_side("V")
    assert table.loc["TPOT", column] == "12.0 (1)" and table.loc["NAO", column] == "failed"


def test_another_protocol_has_a_column_of_its_own(checkout):
    everything(checkout)
    own = {**BACKBONES_BY, "augment": "flips_and_shifts"}
    checkout("backbones_field_orders_flips", [scored("LeViT-128S", 48.0, 3, 1.0, **own, note="")])
    table = sota_tables.side_by_side("III")
    place = (PHOTOGRAPHS, "image, flips and shifts")
    assert table.columns[-1] == place and table.loc["LeViT-128S", place] == "48.0 ± 1.0 (3)"
    assert (
        table.loc[OURS, place] == "46.0 ± 2.0 (3)"
        and table.loc["LeViT-128S", (PHOTOGRAPHS, IMAGE)] == "40.0 (1)"
    )
    assert place not in sota_tables.side_by_side("II").columns[:-1]


@pytest.mark.slow
def test_unequal_budgets_are_said(checkout):
    everything(checkout)
    assert sota_tables.budgets()["equal"].all() and set(sota_tables.budgets()["images_seen"]) == {"4,096"}
    checkout("backbones_synthetic_long", [{**scored("VGG16", 50.0, **BACKBONES_BY), "images_seen": 9000}])
    told = sota_tables.budgets().set_index("collection")
    assert told.loc[EMBEDDED, "images_seen"] == "4,096; 9,000" and not told.loc[EMBEDDED, "equal"]
    assert told.loc[PHOTOGRAPHS, "equal"]


def test_what_metadata_add_is_the_difference_of_two_rows(checkout):
    everything(checkout)
    frame = sota_tables.with_and_without().set_index("model")
    assert frame.loc["LeViT-128S", ["image", "both", "gain"]].tolist() == [60.0, 70.0, 10.0]
    assert np.isnan(frame.loc["DenseNet-121", "both"]) and frame.loc["DenseNet-121", "both_seeds"] == 0
    assert frame.index[-1] == OURS and frame.loc[OURS, "gain"] == 0
    assert sota_tables.lines(EMBEDDED) == {MAJORITY: 30.0, "metadata alone": 52.0}
    assert sota_tables.lines(PHOTOGRAPHS, "balanced_accuracy") == {MAJORITY: 20.0} and not sota_tables.lines(
        "elsewhere"
    )


def test_scores_stand_beside_their_own_cost(checkout):
    everything(checkout)
    frame = sota_tables.scores_and_costs(EMBEDDED).set_index("model")
    rest = sota_tables.at_rest().set_index("model")
    assert len(frame) == 20 + 1 and frame.loc["LeViT-128S", ["accuracy", "macs", "seeds"]].tolist() == [
        60.0,
        20.0,
        3.0,
    ]
    assert frame.loc["CoAtNet-7", "macs"] == 1000 * rest.loc["CoAtNet-7", "gmacs_64"] and np.isnan(
        frame.loc["CoAtNet-7", "accuracy"]
    )
    assert (
        frame.loc[OURS, ["accuracy", "parameters"]].tolist() == [55.5, 1e6]
        and frame.loc["VGG16", "note"] == NOT_RUN
    )
    assert sota_tables.blanked(frame).loc["LeViT-128S", "parameters"] == "1,000,000"
    assert sota_tables.blanked(frame).loc["VGG16", "accuracy"] == ""


def test_the_committed_results_can_be_read():
    rows = sota_tables.measured()
    assert set(rows.columns) == set(COLUMNS) and not rows.duplicated(["model", *PROTOCOL]).any()
    spine = pd.read_csv(places.data("results/spine_field_orders.csv")).query(
        "model == 'derived' and augment == 'none'"
    )
    table = sota_tables.side_by_side("II")
    assert table.loc[OURS, (PHOTOGRAPHS, IMAGE)].startswith(f"{spine['accuracy_mean'].iloc[0]:.1f} ± ")


# --- the notebook ------------------------------------------------------------------------------------------------


def cells() -> tuple[list[str], list[str]]:
    """(code, prose) of the notebook."""
    notebook = json.loads((places.notebooks() / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8"))
    kinds = ([], [])
    for cell in notebook["cells"]:
        kinds[cell["cell_type"] == "markdown"].append("".join(cell["source"]))
    return kinds


def test_no_score_is_typed_into_the_notebook():
    """Tables and figures come from `sota_tables` and `published`: prose has no per cent, code no point."""
    code, prose = cells()
    for text in prose:
        assert not re.search(r"\d\s*(%|per cent|points)|\d\.\d", text), text
    for source in code:
        constants = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
        numbers = [
            v for v in constants if isinstance(v, float) and math.log10(v) % 1
        ]  # a power of ten is a unit
        assert not numbers, source
        strings = [v for v in constants if isinstance(v, str)]
        assert not any(re.search(r"\d\.\d", text) for text in strings), source


def test_published_figures_follow_their_files(checkout):
    """With every printed score moved by a number of its own, each shown score moves with it."""
    for name in sota_tables.TABLES.values():
        path = checkout.folder.parent / "paper" / f"{name}.csv"
        frame = pd.read_csv(path, dtype={"reference": str})
        scores = [c for c in frame if c.startswith(("bioscan5m", "insects1m"))]
        frame[scores] = np.arange(frame[scores].size).reshape(len(frame), -1) / 8
        frame.to_csv(path, index=False)
    for number, name in sota_tables.TABLES.items():
        moved = published.table(name)
        shown = sota_tables.side_by_side(number)[("the paper", "BIOSCAN-5M, accuracy")].iloc[1:]
        assert shown.tolist() == [f"{value:.2f}" for value in moved["bioscan5m_accuracy"]]
    models = sota_tables.published_models().set_index("model")
    assert (
        models.loc["VGG19", "insects1m_f1"] == published.table("table2_transfer_learning")["insects1m_f1"][1]
    )

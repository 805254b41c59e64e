"""What notebook 05 reads: results as they stand, `not run` with a command where they do not, nothing invented."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import readme_blocks
import results_made_up

from bionas.studies import published, results
from bionas.studies.table1.grid import table_one
from bionas.studies.table1.tables import fusions, gains, left, side_by_side
from bionas.studies.table1.tables import kept as grid
from bionas.system import places

ROWS = list(table_one())


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """data/results/ of an empty checkout, with the published tables as they are."""
    shutil.copytree(places.data("paper"), tmp_path / "data" / "paper")
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    folder = tmp_path / "data" / "results"
    folder.mkdir()
    return folder


def test_before_any_run_every_row_says_not_run_and_how(kept):
    table = grid("ablation_synthetic", ROWS)
    assert table["row"].tolist() == ROWS and (table["n"] == 0).all()
    assert (table["not_done"] == results.not_run("ablation_synthetic")).all()
    assert table["accuracy_mean"].isna().all() and table["paper_accuracy"].notna().all()
    shown = side_by_side(table)
    assert left(table) == f"{', '.join(ROWS)}: {results.not_run('ablation_synthetic')}"
    assert (shown["ours", "accuracy (%)"] == "not run").all() and shown.loc[
        "E009", ("the paper", "accuracy (%)")
    ] == "96.81"


def test_once_it_is_there_the_table_is_what_the_file_says(kept):
    results_made_up.grid().to_csv(kept / "ablation_synthetic.csv", index=False)
    table = grid("ablation_synthetic", ROWS)
    assert table["row"].tolist() == ["majority class", *ROWS]
    shown = side_by_side(table)
    assert (
        shown.loc["E009", ("ours", "accuracy (%)")] == "64.00 ± 1.50"
        and shown.loc["E009", ("ours", "n")] == "3"
    )
    assert shown.loc["E001", ("ours", "search + training (min)")] == ""
    assert shown.loc["E009", ("ours", "search + training (min)")] == "2.5 + 0.5"
    assert shown.loc["majority class", ("ours", "accuracy (%)")] == "42.50"
    assert (
        shown.loc["majority class", ("the paper", "accuracy (%)")]
        == ""
        == shown.loc["majority class", ("", "fusion")]
    )
    assert (
        shown.loc["E001", ("ours", "accuracy (%)")] == "not run" and shown.loc["E001", ("ours", "n")] == "0"
    )
    assert left(table).startswith("E001, E002, E003, E004, E005, E006, E008,")
    assert left(table).endswith("E015: seed 0 waiting; seed 1 waiting; seed 2 waiting")


def test_a_file_with_some_rows_is_filled_up_with_what_is_left(kept):
    part = results_made_up.grid()
    part = part[part["row"].isin(["majority class", "E007", "E009", "E003"])]
    part.to_csv(kept / "ablation_field_orders.csv", index=False)
    rows = [row.name for row in table_one().values() if not row.needs_metadata]
    table = grid("ablation_field_orders", rows).set_index("row")
    assert (
        table.index.tolist()
        == ["majority class", *rows]
        == ["majority class", *(f"E{i:03d}" for i in range(5, 13))]
    )
    assert (
        table.loc["E012", "not_done"] == results.not_run("ablation_field_orders")
        and table.loc["E009", "n"] == 3
    )
    assert table.loc["E012", "paper_accuracy"] == 85.29


def test_every_printed_figure_of_table_one_stands_beside_ours(kept):
    results_made_up.grid().to_csv(kept / "ablation_synthetic.csv", index=False)
    shown, short = (
        side_by_side(grid("ablation_synthetic"), full=True),
        side_by_side(grid("ablation_synthetic")),
    )
    printed = published.table("table1_ablation").set_index("exp_id")
    headings = {"precision (%)": "precision", "recall (%)": "recall", "F1 (%)": "f1", "GPU ms": "gpu_ms"}
    headings |= {"accuracy (%)": "accuracy", "GFLOPs": "gflops", "MB": "memory_mb", "CPU ms": "cpu_ms"}
    for heading, column in headings.items():
        theirs = shown["the paper", heading].loc[printed.index].astype(float)
        pd.testing.assert_series_equal(theirs, printed[column].astype(float), check_names=False)
    assert (shown["the paper", "hours"].loc[printed.index].astype(float) == printed["train_hours"]).all()
    assert shown.loc["E009", ("ours", "GFLOPs (2 x MACs)")] == "0.0400"  # 20 million MACs
    assert set(short) < set(shown)


def test_the_table_of_a_readme_has_both_collections_side_by_side(kept):
    part = results_made_up.grid()
    part.to_csv(kept / "ablation_synthetic.csv", index=False)
    one = part[part["row"] == "E007"].assign(n=1, accuracy_mean=41.5, accuracy_sd=float("nan"))
    one.to_csv(kept / "ablation_field_orders.csv", index=False)
    lines = readme_blocks.table_one().splitlines()
    assert len(lines) == 2 + 1 + 15 and len({line.count("|") for line in lines}) == 1
    origins = [line.split(" | ")[-1].rstrip(" |") for line in lines[2:]]
    lines = [line[: line.rindex(" | ")] for line in lines[2:]]
    assert lines[0] == "| majority class |  |  |  |  | 42.50 | "
    assert "| E009 | full | concatenation | gradient | 96.81 | 64.00 ± 1.50 (3) | not run" in lines
    assert any(line.startswith("| E007 ") and line.endswith(" | 41.50 (1)") for line in lines)
    assert any(
        line.startswith("| E001 | full | bilinear pooling |") and line.endswith(" | not run | ")
        for line in lines
    )
    assert all(
        "ablation_synthetic.csv), [command](#ablation_synthetic), 0123456" in origin for origin in origins
    )


def test_gains_by_hand(kept):
    results_made_up.grid().to_csv(kept / "ablation_synthetic.csv", index=False)
    found = gains(grid("ablation_synthetic", ROWS), ["E008", "E009", "E012"])
    assert found["label"].tolist() == ["E008 evolutionary", "E009 gradient", "E012 fixed"]
    assert found.loc["E009", "gain"] == 4.0 and found.loc["E009", "error"] == pytest.approx(
        (2 * 1.5**2 / 3) ** 0.5
    )
    assert np.isnan(found.loc["E008", "gain"]) and found.loc["E008", "paper_gain"] == pytest.approx(
        89.44 - 89.74
    )


def test_the_published_columns_are_not_touched(kept):
    results_made_up.grid().to_csv(kept / "ablation_synthetic.csv", index=False)
    table = grid("ablation_synthetic", ROWS).set_index("row").loc[ROWS]
    paper = published.table("table1_ablation").set_index("exp_id")
    pd.testing.assert_series_equal(table["paper_accuracy"], paper["accuracy"], check_names=False)


def test_fusions_stand_beside_image_and_metadata_alone(kept):
    assert (fusions()["n"] == 0).all() and fusions()["accuracy"].isna().all()
    runs = pd.DataFrame({"accuracy": [0.70, 0.72, 0.74], "balanced_accuracy": 0.5})
    runs.to_csv(kept / "metadata_alone_informative_runs.csv", index=False)
    grid = pd.concat(
        [runs.assign(row="E009"), runs.assign(row="E005", accuracy=0.1)]
    )  # E005 is no fusion of the gradient
    grid.to_csv(kept / "ablation_informative_runs.csv", index=False)
    table = fusions().set_index("inputs")
    assert table.index[:2].tolist() == ["metadata alone", "image alone"] and len(table) == 2 + 8
    alone = table.loc["metadata alone"]  # t(2) at 97.5 % is 4.303, the standard error 2 / sqrt(3) points
    assert alone["accuracy"] == 72.0 and alone["high"] - 72 == pytest.approx(4.303 * 2 / 3**0.5, abs=0.01)
    assert table.loc["concatenation", ["n", "accuracy", "paper_accuracy"]].tolist() == [3, 72.0, 96.81]
    assert table.loc["gating", "n"] == 0

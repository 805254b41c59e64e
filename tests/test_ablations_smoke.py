"""The whole of Table I in mode smoke: fifteen rows, as `bionas ablate` runs them on the embedded specimens."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.studies.table1.grid import FUSION_NAMES, table_one
from bionas.system import files, places
from bionas.training.runs import Run

pytestmark = pytest.mark.slow  # one grid of all rows serves every test


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """What the command leaves, its tables in results/."""
    folder = tmp_path_factory.mktemp("smoke")
    write = files.write_csv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_csv", lambda path, frame: write(_here(path, folder), frame))
        command = ["ablate", "--rows", "E001-E015", "--seeds", "1", "--mode", "smoke", "--out", "smoke"]
        assert main([*command, "-p", f"run_dir={folder / 'runs'}"]) == 0
    return folder


def _here(path: Path, folder: Path) -> Path:
    results = places.root() / "data" / "results"
    return folder / "results" / Path(path).name if Path(path).parent == results else Path(path)


def test_all_fifteen_rows_ran_under_one_budget(out):  # Table I
    runs = pd.read_csv(out / "results" / "smoke_runs.csv").set_index("row")
    assert runs.index.tolist() == [f"E{i:03d}" for i in range(1, 16)] and set(runs["status"]) == {"done"}
    assert runs["budget"].nunique() == 1 and (runs["search_images"] <= runs["budget"]).all()
    assert runs["accuracy"].between(0, 1).all() and (runs[["mmacs", "weights_mb", "cpu_ms"]] > 0).all(
        axis=None
    )
    assert set(runs["fusion"]) == set(FUSION_NAMES.values())
    assert set(runs["strategy"]) == {"gradient", "reinforce", "enas", "random", "evolutionary", "fixed"}
    assert (runs["candidates"] >= 1).all() and runs.loc["E012", "candidates"] == 1


def test_each_row_left_the_network_it_says(out):
    runs = pd.read_csv(out / "results" / "smoke_runs.csv").set_index("row")
    for name, row in table_one().items():
        run = Run(out / "runs" / runs.loc[name, "run"])
        assert run.complete and run.genotype.primitive_set == row.primitive_set
        (derived,) = run.path.glob("*/seed0/derived-*")
        assert Run(derived).config["fusion"] == row.fusion
        assert json.loads((derived / "genotype.json").read_text()) == json.loads(run.genotype.to_json())


def test_the_table_has_the_majority_class_first_and_the_paper_beside_us(out):
    table = pd.read_csv(out / "results" / "smoke.csv")
    assert table["row"].tolist() == ["majority class", *table_one()]
    assert table["paper_accuracy"].notna().sum() == 15 and (table["n"].iloc[1:] == 1).all()
    assert (
        table["command"].str.startswith("bionas ").all() and table["source"].str.startswith("synthetic").all()
    )

"""Transfer of a search: every network on every collection, under one budget, resumed row by row."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from bionas.__main__ import main
from bionas.errors import SearchError, SpecimenError
from bionas.studies import transfer

SETTINGS = ["mode=smoke", "search_epochs=1", "epochs=1"]


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs") / "ponds"
    for c, name in enumerate(("Odonata", "Trichoptera", "Plecoptera")):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16), (40 * c + i, 10 * i, 90)).save(folder / name / f"{i}.png")
    runs = tmp_path_factory.mktemp("runs")
    return transfer.plans(["synthetic", str(folder)], [*SETTINGS, f"run_dir={runs}", "limit=60"])


@pytest.fixture(scope="module")
def rows(plans):
    return transfer.measured(plans, [0, 1])


def test_each_collection_has_both_searches_and_two_kinds_of_random_ones(rows):
    kinds = ["searched on synthetic", "searched on ponds", "random genotypes", "one random genotype"]
    assert rows["collection"].tolist() == (["synthetic"] * 4 + ["ponds"] * 4) * 2
    assert rows["model"].tolist() == kinds * 4
    assert rows.groupby("collection")["images_seen"].nunique().tolist() == [1, 1]
    one = rows[rows["model"] == transfer.ONE_RANDOM]
    assert one.groupby("collection")["mmacs"].nunique().tolist() == [1, 1]


def test_finished_rows_are_only_read(rows, plans):
    pd.testing.assert_frame_equal(transfer.measured(plans, [0, 1]), rows)


def test_differences_are_to_the_search_on_the_same_collection(rows, plans):
    table = transfer.summary(rows, plans, "bionas transfer")
    for name, own in table.groupby("collection"):
        assert own["model"].iloc[0] == "majority class" and own["command"].eq("bionas transfer").all()
        scores = own.set_index("model")
        gap = scores["balanced_accuracy_mean"] - scores.loc[f"searched on {name}", "balanced_accuracy_mean"]
        for model in ("random genotypes", "one random genotype"):
            row = scores.loc[model]
            assert row["difference"] == pytest.approx(gap[model], abs=0.02)
            assert row["low"] <= row["difference"] <= row["high"]


def test_a_collection_that_cannot_be_read_is_refused_before_anything_is_searched(tmp_path):
    (tmp_path / "empty").mkdir()
    given = transfer.plans(
        ["synthetic", str(tmp_path / "empty")], [*SETTINGS, f"run_dir={tmp_path / 'runs'}"]
    )
    with pytest.raises(SpecimenError, match="no images in"):
        transfer.measured(given, [0])
    assert not (tmp_path / "runs").exists()


def test_a_transfer_needs_two_collections_of_different_names(capsys):
    assert main(["transfer", "--collections", "synthetic"]) == 2
    assert "two collections" in capsys.readouterr().err
    with pytest.raises(SearchError, match="called 'a'"):
        transfer.plans(["x/a", "y/a"], SETTINGS)

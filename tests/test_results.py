"""The kept tables: read as they stand, `not run` with a command where they do not, and each with the command that made it."""

from __future__ import annotations

import pandas as pd
import pytest

from bionas.__main__ import COMMANDS as TYPED
from bionas.errors import UnknownName
from bionas.studies import results
from bionas.system import places

KEPT = sorted(path.stem for path in (places.CHECKOUT / "data" / "results").glob("*.csv"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """data/results/ of an empty checkout."""
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    folder = tmp_path / "data" / "results"
    folder.mkdir(parents=True)
    return folder


def test_what_is_missing_is_empty_and_names_its_command(folder):
    assert results.table("seran_field_orders").empty and results.table("regret_table").empty
    assert results.told("seran_field_orders") == f"not run: {results.COMMANDS['seran_field_orders']}"
    assert results.told("eb_lnast_wdbc_runs").startswith("not run: bionas eb-lnast --task wdbc")


def test_what_is_there_is_what_the_file_says(folder):
    table = pd.DataFrame(
        {
            "model": ["a", "None"],
            "source": "folder",
            "budget": [4096, 4096],
            "code": "0012345",
            "sd": [1.5, None],
        }
    )
    table.to_csv(folder / "seran_field_orders.csv", index=False)
    pd.testing.assert_frame_equal(
        results.table("seran_field_orders"), table
    )  # a commit of digits, a model called None
    assert (
        results.told("seran_field_orders")
        == "seran_field_orders.csv: source folder | budget 4096 | code 0012345"
    )


def test_a_table_belongs_to_the_longest_name_it_goes_on_from():
    assert results.command("regret") == results.COMMANDS["regret"] != results.command("regret_table")
    assert results.command("regret_table") == results.COMMANDS["regret_table"]
    assert results.command("audit_inputs_permuted") == results.COMMANDS["audit_inputs"]
    with pytest.raises(UnknownName, match="eb_lnast_wdbc"):
        results.table("eb_lnast_wbdc")


def test_a_mean_and_its_spread():
    assert results.spread(13.238, 0.4) == "13.24 ± 0.40" and results.spread(5.0, float("nan"), 1) == "5.0"
    assert (
        results.spread(float("nan")) == results.spread(None) == "not run"
        and results.spread(None, missing="") == ""
    )


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_table_names_the_command_that_makes_it(name):
    table = results.table(name)
    assert len(table)
    if "command" in table:
        assert results.command(name) in set(table["command"].dropna())


def test_each_command_can_be_typed_and_makes_what_it_stands_for():
    for name, command in results.COMMANDS.items():
        words = command.split()
        if words[0] == "bionas":
            assert words[1] in TYPED
        else:
            assert words[0] == "python" and (places.CHECKOUT / words[1]).exists()
        if "--out" in words:
            out = words[words.index("--out") + 1]
            assert out in (name, f"data/results/{name}.csv", "data/results")


def test_the_readme_of_results_lists_every_kept_table():
    said = (places.CHECKOUT / "data" / "results" / "README.md").read_text()
    assert [name for name in KEPT if f"`{name}.csv`" not in said] == []

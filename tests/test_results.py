"""The kept tables: read as they stand, `not run` with a command where they do not exist, each with its command."""

from __future__ import annotations

import shlex

import pandas as pd
import pytest

from bionas.__main__ import app
from bionas.errors import BionasError, UnknownName
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


def test_a_missing_table_is_empty_and_names_its_command(folder):
    assert results.table("seran_field_orders").empty and results.table("regret_table").empty
    assert results.describe("seran_field_orders") == f"not run: {results.command('seran_field_orders')}"
    assert results.describe("eb_lnast_wdbc_runs").startswith("not run: bionas eb-lnast --task wdbc")


def test_a_table_is_read_as_the_file_says(folder):
    table = pd.DataFrame(
        {
            "model": ["a", "None"],  # a model called None
            "source": "folder",
            "budget": [4096, 4096],
            "code": "0012345",  # a commit of digits
            "sd": [1.5, None],
        }
    )
    table.to_csv(folder / "seran_field_orders.csv", index=False)
    pd.testing.assert_frame_equal(results.table("seran_field_orders"), table)
    described = "seran_field_orders.csv: source folder | budget 4096 | code 0012345"
    assert results.describe("seran_field_orders") == described


def test_a_table_belongs_to_the_longest_name_that_it_continues():
    assert results.entry_of("regret") == "regret" and results.entry_of("regret_table") == "regret_table"
    assert results.command("audit_inputs_permuted") == results.command("audit_inputs")
    with pytest.raises(UnknownName, match="eb_lnast_wdbc"):
        results.table("eb_lnast_wbdc")


def test_the_same_command_runs_other_backbones():
    command = results.command("backbones_field_orders", ["vgg16"], "backbones_field_orders_vgg16")
    assert "--names vgg16 -p source=folder" in command
    assert command.endswith("--seeds 0 --out backbones_field_orders_vgg16")


def test_an_entry_without_a_command_is_refused_by_name(folder):
    (folder / "commands.toml").write_text('[regret]\nholds = "regret"\n')
    with pytest.raises(BionasError, match=r"\[regret\] has no command"):
        results.table("regret")
    (folder / "commands.toml").write_text("[regret\n")
    results._entries.cache_clear()
    with pytest.raises(BionasError, match=r"commands\.toml cannot be read"):
        results.table("regret")


def test_every_kept_table_names_the_command_that_makes_it():
    for name in KEPT:
        table = results.table(name)
        assert len(table), name
        if "command" in table:
            assert results.command(name) in set(table["command"].dropna()), name


def test_each_command_exists_and_makes_the_table_it_stands_for():
    for name, entry in results.entries().items():
        words = results.command(name).split()
        if words[0] == "bionas":
            app.parse_args(shlex.split(results.command(name))[1:])
        else:
            assert words[0] == "python" and (places.CHECKOUT / words[1]).exists()
        if "--out" in words:
            out = words[words.index("--out") + 1]
            assert out in (name, f"data/results/{name}.csv", "data/results")
        assert entry["holds"] and "{" not in results.command(name)

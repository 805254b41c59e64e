"""Tables as JSON: standard output holds the table alone, whatever is printed while it is made."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.cli.app import app
from bionas.system.output import json_alone, show


def test_whatever_is_printed_meanwhile_goes_to_standard_error(capsys):
    table = pd.DataFrame({"model": ["ä", "b"], "n": [1, None]})
    with json_alone():
        print("epoch 1")
        show(table, True, columns=["n"])
        print("written: a.csv")
    told = capsys.readouterr()
    assert json.loads(told.out) == [{"model": "ä", "n": 1}, {"model": "b", "n": None}]
    assert told.err == "epoch 1\nwritten: a.csv\n"
    show(table, columns=["n", "missing"], na_rep="-")
    assert capsys.readouterr().out.split() == ["n", "1.0", "-"]


def test_every_command_that_can_write_a_table_can_print_it_as_json():
    page = app.generate_docs(output_format="markdown", include_hidden=False)
    commands = {part.split("\n")[0]: part for part in page.split("\n## ")[1:]}
    writing = [name for name, text in commands.items() if "data/results/NAME" in text]
    assert len(writing) >= 9
    assert [name for name in writing if "--json" not in commands[name]] == []


@pytest.mark.slow
def test_trainings_leave_a_table_that_can_be_piped(tmp_path, capsys):
    settings = ("-p", f"run_dir={tmp_path}", "-p", "search_epochs=1", "-p", "epochs=1")
    words = ["ablate", "--rows", "E012", "--seeds", "1", "--mode", "smoke", "--json", *settings]
    assert main(words) == 0
    told = capsys.readouterr()
    assert [row["row"] for row in json.loads(told.out)] == ["majority class", "E012"]
    assert "[1/1]" in told.err and "written: " in told.err
    words = ["metadata-alone", "--seeds", "0", "--json", "-p", "mode=smoke", *settings[:2], *settings[4:]]
    assert main(words) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)[1]["n_seeds"] == 1 and "1 epochs" in told.err

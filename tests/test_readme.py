"""What the README states is what the runs gave, and what it points to is there."""

from __future__ import annotations

import re

import pandas as pd

from bionas import comparison, places

README = (places.root() / "README.md").read_text(encoding="utf-8")


def test_the_table_of_real_photographs_is_the_committed_result():
    table = pd.read_csv(places.data("results/spine_field_orders.csv"), keep_default_na=False, na_values=[""])
    assert comparison.markdown(table) in README
    assert table["command"].nunique() == 1 and table["command"][0] in README


def test_the_committed_summary_is_the_mean_of_the_committed_runs():
    rows = pd.read_csv(places.data("results/spine_field_orders_runs.csv"))
    table = pd.read_csv(places.data("results/spine_field_orders.csv"))
    means = rows.groupby(["model", "augment"])["balanced_accuracy"].agg(["mean", "std", "size"])
    stated = table[table["n_seeds"] > 0].set_index(["model", "augment"])
    assert set(stated.index) == set(means.index)
    assert (100 * means["mean"] - stated["balanced_accuracy_mean"]).abs().max() < 0.006
    assert (100 * means["std"] - stated["balanced_accuracy_sd"]).abs().max() < 0.006
    assert table["model"][0] == "majority class"


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (places.root() / target).exists(), target


def test_the_first_two_commands_are_the_door():
    assert re.findall(r"^make \w+", README, re.MULTILINE)[:2] == ["make run", "make test"]

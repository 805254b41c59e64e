"""The documents: generated blocks are up to date, links lead somewhere, committed summaries are the means of their runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pandas as pd
import pytest

from bionas.studies import results
from bionas.system import places

README = (places.root() / "README.md").read_text(encoding="utf-8")


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], cwd=places.CHECKOUT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_page_of_results_is_made_from_the_tables():
    done = run("tools/results_page.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_generated_blocks_of_readme_and_front_page_are_up_to_date():
    done = run("-m", "cogapp", "--check", "-I", "tools", "README.md", "docs/index.md")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_summary_is_the_mean_of_the_committed_runs():
    rows = pd.read_csv(places.data("results/spine_field_orders_runs.csv"))
    table = pd.read_csv(places.data("results/spine_field_orders.csv"))
    means = rows.groupby(["model", "augment"])["balanced_accuracy"].agg(["mean", "std", "size"])
    stated = table[table["n_seeds"] > 0].set_index(["model", "augment"])
    assert set(stated.index) == set(means.index)
    assert (100 * means["mean"] - stated["balanced_accuracy_mean"]).abs().max() < 0.006
    assert (100 * means["std"] - stated["balanced_accuracy_sd"]).abs().max() < 0.006
    assert table["model"][0] == "majority class"


@pytest.mark.parametrize("name", ["ablation_synthetic", "ablation_field_orders"])
def test_a_committed_grid_is_the_mean_of_its_runs(name):
    table, runs = (
        results.table(name).set_index("row"),
        results.table(f"{name}_runs").query("status == 'done'"),
    )
    means = 100 * runs.groupby("row")[["accuracy", "balanced_accuracy"]].agg(["mean", "std"])
    stated = table.loc[means.index]
    assert (runs.groupby("row").size() == stated["n"]).all() and runs["budget"].nunique() == 1
    for metric in ("accuracy", "balanced_accuracy"):
        for part, ending in (("mean", "mean"), ("std", "sd")):
            assert (means[metric, part] - stated[f"{metric}_{ending}"]).abs().max() < 0.006
    assert table.index[0] == "majority class" and (runs["search_images"] <= runs["budget"]).all()


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (places.root() / target).exists(), target


def test_the_first_two_commands_are_the_door():
    assert re.findall(r"^make \w+", README, re.MULTILINE)[:2] == ["make run", "make test"]


def test_the_page_of_commands_is_what_the_commands_say():
    done = run("tools/commands_page.py", "--check")
    assert done.returncode == 0, done.stderr

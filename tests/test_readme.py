"""What the README states is what the runs gave, and what it points to is there."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from scipy.stats import f_oneway, spearmanr

from bionas.studies import comparison, published, results, sota_tables
from bionas.studies.audit import claims
from bionas.studies.table1.grid import table_one
from bionas.studies.table1.kept import gains, grid, markdown
from bionas.system import places

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


def test_table_one_is_the_committed_grids():
    rows = list(table_one())
    alone = [row.name for row in table_one().values() if not row.needs_metadata]
    synthetic, field = grid("ablation_synthetic", rows), grid("ablation_field_orders", alone)
    assert markdown(synthetic, field) in README
    for name in ("ablation_synthetic", "ablation_field_orders"):
        assert results.COMMANDS[name] in README
    text = " ".join(README[README.index("### Table I, run here") :].split())
    for table, of in ((synthetic, "on the synthetic specimens"), (field, "on photographs")):
        bought = gains(table, ["E009"]).iloc[0]
        assert f"{bought['gain']:+.1f} ± {bought['error']:.1f} points {of}" in text


def test_how_little_table_one_says_is_computed_from_its_runs():
    runs, printed = (
        results.table("ablation_synthetic_runs").query("status == 'done'"),
        results.table("ablation_synthetic"),
    )
    seeds = [group["accuracy"].to_numpy() for _, group in runs.groupby("row")]
    rows = printed[printed["row"] != "majority class"]
    between = rows["accuracy_mean"].std()
    within = (rows["accuracy_sd"] ** 2).mean() ** 0.5  # pooled: every row has three seeds
    p = f_oneway(*seeds).pvalue
    theirs = published.table("table1_ablation").set_index("exp_id")["accuracy"]
    ranks = spearmanr(rows["accuracy_mean"], theirs.loc[rows["row"]]).statistic
    text = " ".join(README[README.index("### Table I, run here") :].split())
    assert f"standard deviation is {between:.1f} points, between seeds of one row {within:.1f}" in text
    assert f"(analysis of variance: p = {p:.2f})" in text
    assert f"a rank correlation of {ranks:.2f} with the printed one" in text


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


def test_the_tables_of_other_networks_and_systems_are_the_committed_results():
    assert results.markdown(sota_tables.backbones_in_readme()) in README
    assert results.markdown(sota_tables.systems_in_readme()) in README
    kept = sota_tables.measured()["file"].unique()
    for name in ("backbones_synthetic", "backbones_field_orders", "automl_synthetic"):
        assert f"{name}.csv" in kept and results.COMMANDS[name] in README


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (places.root() / target).exists(), target


def test_the_first_two_commands_are_the_door():
    assert re.findall(r"^make \w+", README, re.MULTILINE)[:2] == ["make run", "make test"]


def test_what_the_image_adds_is_what_the_runs_gave():
    table = (
        pd.read_csv(places.data("results/audit_inputs.csv"))
        .query("split == 'paper'")
        .set_index(["model", "metadata"])
    )
    runs = pd.read_csv(places.data("results/audit_inputs_runs.csv")).query("split == 'paper'")
    shares = 100 * runs.groupby(["model", "metadata"])["accuracy"].agg(["mean", "std"])
    assert (shares["mean"] - table["accuracy_mean"]).abs().max() < 0.006

    def stated(model: str, metadata: str) -> str:
        return "{:.1f} ± {:.1f} %".format(*shares.loc[(model, metadata)])

    text = " ".join(README[README.index("### What the image adds") :].split())[:900]
    for model, metadata in (
        ("image + metadata", "no_target"),
        ("metadata", "no_target"),
        ("image + metadata", "leak_free"),
    ):
        assert stated(model, metadata) in text
    alone, majority = shares.loc[("metadata", "leak_free"), "mean"], table["accuracy_mean"].iloc[0]
    assert f"{alone:.1f} % without the image (majority class {majority:.1f} %)" in text
    drops = pd.read_csv(places.data("results/audit_inputs_permuted.csv")).query(
        "split == 'paper' and metadata == 'no_target'"
    )
    family, image = (
        100 * drops.loc[drops["shuffled"] == name, "drop"].mean() for name in ("family", "image")
    )
    assert f"shuffling the families costs it {family:.1f} points, shuffling the images {image:.1f}" in text
    assert table["command"].iloc[1] in README


def test_the_verdicts_are_those_of_the_claims_table():
    counts = claims()["verdict"].value_counts()
    stated = " ".join(README[README.index("### What the audit found") :].split())[:400]
    assert f"Of {counts.sum()} claims" in stated
    assert (
        f"{counts['holds']} hold, {counts['does not hold']} do not hold, {counts['ambiguous']} are ambiguous and "
        f"{counts['cannot be checked here']} cannot be checked here"
    ) in stated

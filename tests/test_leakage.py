"""What metadata give away before any network is trained: look-ups against plain counts, and the verdicts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import small
from sklearn.metrics import mutual_info_score

from bionas.specimens import SpecimenSet
from bionas.specimens.collection import Splits
from bionas.specimens.leakage import leakage_report, lookup_leakage, preset_leakage, warning
from bionas.specimens.metadata import METADATA_PRESETS, usable_presets
from bionas.system import files
from bionas.training import configuration as plans
from bionas.training import experiments


def records_of(orders, **columns):
    names = ("A", "B", "C")
    return SpecimenSet(
        pd.DataFrame({"order": orders, **columns}), np.array([names.index(o) for o in orders]), names
    )


def test_looking_a_value_up_is_compared_with_a_plain_count():
    generator = np.random.default_rng(0)
    orders = generator.choice(list("ABC"), 400, p=[0.6, 0.3, 0.1])
    genus = np.where(
        generator.random(400) < 0.8, np.char.add(orders, generator.choice(list("123"), 400)), "No Taxon"
    )
    whole = records_of(
        orders.tolist(), genus=genus.tolist(), country=generator.choice(["x", "y"], 400).tolist()
    )
    train, test = whole.subset(np.arange(250)), whole.subset(np.arange(250, 400))
    frame = lookup_leakage(train, test, ["genus", "country", "species"]).set_index("field")
    assert list(frame.index) == ["genus", "country"]  # there is no species

    right = 0
    for _, row in test.records.iterrows():
        same = train.records[(train.records["genus"] == row["genus"]) & (row["genus"] != "No Taxon")]
        answer = (
            same["order"].value_counts().index[0]
            if len(same)
            else train.records["order"].value_counts().index[0]
        )
        right += answer == row["order"]
    assert frame.loc["genus", "accuracy"] == pytest.approx(right / 150)
    assert frame.loc["genus", "coverage"] == pytest.approx((test.records["genus"] != "No Taxon").mean())
    assert frame.loc["genus", "majority"] == pytest.approx((test.records["order"] == "A").mean())
    assert frame.loc["genus", "accuracy"] > frame.loc["country", "accuracy"]


def test_values_never_seen_are_counted_and_get_the_majority_class():
    train = records_of(list("AAB"), genus=["g", "g", "h"])
    test = records_of(list("ABBA"), genus=["new", "h", "", "newer"])
    row = lookup_leakage(train, test, ["genus"]).iloc[0]
    assert row["coverage"] == 0.75 and row["unseen"] == pytest.approx(2 / 3) and row["accuracy"] == 0.75


def test_each_preset_is_judged_by_its_most_telling_field():
    orders = list("AAB") * 40
    country = ["x" if o == "A" and i % 4 else "y" for i, o in enumerate(orders)]
    whole = records_of(orders, genus=[f"g{o}" for o in orders], country=country)
    frame = preset_leakage(whole, whole).set_index("preset")
    assert frame["most_telling"].to_dict() == {
        "as_published": "order",
        "no_target": "genus",
        "leak_free": "country",
        "none": "-",
    }
    assert frame.loc["no_target", "balanced"] == 1 and frame.loc["as_published", "fields"] == 2
    assert frame.loc["none", "accuracy"] == pytest.approx(2 / 3) and frame.loc["none", "balanced"] == 0.5
    assert frame.loc["none", "balanced"] < frame.loc["leak_free", "balanced"] < 1
    assert usable_presets(whole) == tuple(METADATA_PRESETS)
    bare = SpecimenSet(pd.DataFrame({"file": ["a"]}), np.array([0]), ("A",))
    assert usable_presets(bare) == ("none",)


def test_a_number_is_looked_up_by_its_interval():
    latitude = np.arange(100.0)
    whole = records_of(["A" if v < 50 else "B" for v in latitude], **{"coord-lat": [*latitude[:99], np.nan]})
    row = lookup_leakage(whole, whole, ["coord-lat"]).iloc[0]
    assert (
        row["accuracy"] >= 0.95 and row["unseen"] == 0 and row["coverage"] == 0.99
    )  # one interval may straddle 50
    elsewhere = records_of(list("AB"), **{"coord-lat": [-400.0, 400.0]})
    assert lookup_leakage(whole, elsewhere, ["coord-lat"]).iloc[0]["accuracy"] == 1


def test_the_balanced_look_up_weighs_classes_alike():
    train = records_of(list("A" * 90 + "B" * 10), country=["x"] * 60 + ["y"] * 30 + ["y"] * 9 + ["x"])
    row = lookup_leakage(train, train, ["country"]).iloc[0]
    assert row["accuracy"] == row["majority"] == 0.9  # y: 30 A against 9 B
    assert row["balanced"] == pytest.approx(
        (60 / 90 + 9 / 10) / 2
    )  # y: a third of A against nine tenths of B


FIELDS = ("order", "genus", "family", "country", "dna_bin")


@pytest.fixture(scope="module")
def divided() -> Splits:
    """900 records of three orders: a genus lies in one order, and so does a family, known for a third; the country is
    drawn without a look at the order; every record has a BIN of its own."""
    generator = np.random.default_rng(0)
    orders = generator.choice(list("ABC"), 900, p=[0.6, 0.3, 0.1])
    whole = records_of(
        orders.tolist(),
        genus=[f"{order}{i}" for order, i in zip(orders, generator.integers(0, 4, 900), strict=True)],
        family=[f"f{order}" if i % 3 == 0 else None for i, order in enumerate(orders)],
        country=generator.choice(["Peru", "Chad", "Laos"], 900).tolist(),
        dna_bin=[f"BOLD:{i}" for i in range(900)],
    )
    return Splits(*(whole.subset(np.arange(*side)) for side in ((0, 600), (600, 800), (800, 900))))


def test_the_verdict_on_a_field_says_whether_it_determines_the_target(divided):
    report = leakage_report(divided, "order", FIELDS).set_index("field")
    assert report["verdict"].to_dict() == {
        "order": "is the target",
        "genus": "determines the target",
        "family": "determines the target",
        "country": "does not determine it",
        "dna_bin": "cannot be told",
    }
    assert report.index[report["determines_target"].astype(bool)].tolist() == ["order", "genus", "family"]
    val = divided.val
    largest = divided.train.records["order"].mode()[0]
    known = val.records["family"].notna()
    by_family = (known | (val.records["order"] == largest)).mean()  # without a family: the majority
    assert (
        report.loc["family", "accuracy"] == pytest.approx(by_family)
        and report.loc["family", "accuracy_seen"] == 1
    )
    of_known = (val.records["order"] == largest)[known].mean()
    assert report.loc["family", "majority_seen"] == pytest.approx(of_known)
    assert report.loc["dna_bin", "unseen"] == 1 and report.loc["dna_bin", "coverage"] == 1
    assert report.loc["dna_bin", "accuracy"] == report.loc["dna_bin", "majority"]
    assert math.isnan(report.loc["dna_bin", "accuracy_seen"])


def test_information_is_that_of_a_plain_count(divided):
    report = leakage_report(divided, "order", FIELDS).set_index("field")
    train = divided.train.records
    share = train["order"].value_counts(normalize=True)
    entropy = -sum(p * math.log2(p) for p in share)
    assert report["entropy"].tolist() == pytest.approx([entropy] * 5)
    assert report.loc[["order", "genus", "dna_bin"], "information"].tolist() == pytest.approx([entropy] * 3)
    for field in ("country", "family"):
        expected = mutual_info_score(train[field].fillna("no value"), train["order"]) / math.log(2)
        assert report.loc[field, "information"] == pytest.approx(expected)
    assert report.loc["country", "information"] < 0.02


def test_another_column_than_the_collections_own_can_be_the_target(divided):
    report = leakage_report(divided, "family", ("order", "genus", "family", "country")).set_index("field")
    assert report["verdict"].to_dict() == {
        "order": "determines the target",
        "genus": "determines the target",
        "family": "is the target",
        "country": "does not determine it",
    }
    assert (report["coverage"] == 1).all()  # those without a family are not asked


def test_nearly_always_right_because_nearly_all_are_alike_is_no_verdict_of_guilt():
    orders = (["A"] * 97 + ["B"] * 3) * 4
    whole = records_of(orders, country=["x", "y"] * 200)
    alike = leakage_report(Splits(whole, whole, whole), "order", ["country"]).iloc[0]
    assert alike["accuracy"] == 0.97 and alike["verdict"] == "does not determine it"
    only = records_of(["A"] * 50, country=["x"] * 50)
    assert (
        leakage_report(Splits(whole, only, only), "order", ["country"]).iloc[0]["verdict"] == "cannot be told"
    )


def test_the_warning_names_the_fields_and_what_they_give(divided):
    report = leakage_report(divided, "order", FIELDS)
    line = warning(report, "order")
    assert line.startswith("metadata: order, genus, family determine order:") and "100.0%" in line
    assert f"{report['majority'][0]:.1%}" in line and "\n" not in line
    assert warning(leakage_report(divided, "order", ["country", "dna_bin"]), "order") == ""
    assert warning(leakage_report(divided, "order", []), "order") == ""


@pytest.mark.parametrize("preset", ["as_published", "leak_free"])
def test_a_run_warns_where_its_metadata_hold_the_answer(preset, tmp_path, monkeypatch, capsys):
    specimens = small.specimens(90)
    monkeypatch.setattr(plans.Plan, "specimens", lambda self: specimens)
    plan = experiments.plan(
        "smoke",
        metadata=preset,
        search_epochs=1,
        epochs=1,
        image_size=16,
        limit=90,
        run_dir=tmp_path,
        seed=3,
    )
    runs = [experiments.search(plan), experiments.metadata_alone(plan)]
    printed = capsys.readouterr().out
    if preset == "leak_free":
        assert "determine" not in printed and not any((run.path / "leakage.json").exists() for run in runs)
        return
    assert printed.count("metadata: order determines order") == len(runs)
    for run in runs:
        content = files.read_json(run.path / "leakage.json")
        assert content["target"] == "order" and content["warning"] in printed
        assert [row["verdict"] for row in content["fields"]] == ["is the target"]
    experiments.search(plan)  # a finished run says nothing
    assert capsys.readouterr().out == ""

"""Metadata alone: counting with back-off against a plain loop, boosting, and both beside the majority class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from bionas.errors import SpecimenError
from bionas.specimens import SpecimenSet, load_specimens
from bionas.specimens.collection import Splits
from bionas.studies import metadata_baselines as alone

ORDERS = ("Coleoptera", "Diptera", "Hymenoptera")


@pytest.fixture(scope="module")
def splits() -> Splits:
    """600 records: a BIN lies in a genus, a genus in a family, a family in an order; a third has no genus, a third no BIN."""
    generator = np.random.default_rng(0)
    bins = generator.integers(0, 150, 600)
    genus, family = bins % 30, bins % 6
    labels = np.array([0, 1, 1, 1, 2, 2])[family]
    noisy = np.where(generator.random(600) < 0.05, generator.integers(0, 3, 600), labels)
    records = pd.DataFrame(
        {
            "order": np.array(ORDERS)[noisy],
            "family": [f"f{i}" for i in family],
            "genus": [
                f"g{i}" if known else None
                for i, known in zip(genus, generator.random(600) < 0.67, strict=True)
            ],
            "dna_bin": [
                f"BOLD:{i}" if known else ""
                for i, known in zip(bins, generator.random(600) < 0.67, strict=True)
            ],
            "country": generator.choice(["Peru", "Chad"], 600),
            "coord-lat": np.where(noisy == 0, 50.0, -20.0) + generator.normal(0, 1, 600),
        }
    )
    whole = SpecimenSet(records, noisy, ORDERS)
    return Splits(*(whole.subset(np.arange(*side)) for side in ((0, 360), (360, 420), (420, 600))))


def test_counting_is_a_plain_loop_from_fine_to_coarse(splits):
    train, test = splits.train, splits.test
    sizes = Counter(train.labels.tolist())
    expected = []
    for row in test.records.itertuples():
        for field in ("dna_bin", "genus", "family"):
            value = getattr(row, field)
            same = train.labels[(train.records[field] == value).to_numpy()] if value else []
            if len(same):
                votes = Counter(same.tolist())
                expected.append(max(votes, key=lambda label: (votes[label], sizes[label], -label)))
                break
        else:
            expected.append(max(sizes, key=sizes.get))
    assert alone.back_off(train, test, ("dna_bin", "genus", "family")).tolist() == expected
    by_default = alone.back_off(train, test)  # no species, no subfamily: passed over
    assert by_default.tolist() == expected
    nothing = alone.back_off(train, test, ("species",))
    assert (nothing == alone.majority(train, test)).all() and set(nothing) == {max(sizes, key=sizes.get)}


def test_boosting_learns_from_categories_and_numbers(splits):
    right = {
        fields: np.mean(alone.boosted(splits.train, splits.test, fields) == splits.test.labels)
        for fields in (("family",), ("coord-lat",), ("country",))
    }
    share = np.bincount(splits.test.labels).max() / len(splits.test)
    assert right["family",] > 0.9 and right["coord-lat",] > share + 0.1 and right["country",] < share + 0.05
    again = [alone.boosted(splits.train, splits.test, ("family", "coord-lat"), seed=1) for _ in range(2)]
    assert (again[0] == again[1]).all()
    with pytest.raises(SpecimenError, match="at least one field"):
        alone.boosted(splits.train, splits.test, ("species",))


def test_more_values_than_boosting_tells_apart_and_values_never_seen():
    names = [f"BOLD:{i}" for i in range(400)] * 2
    labels = np.array([i % 2 for i in range(800)])
    train = SpecimenSet(pd.DataFrame({"dna_bin": names}), labels, ORDERS[:2])
    test = SpecimenSet(
        pd.DataFrame({"dna_bin": ["BOLD:new", None, "BOLD:0"]}), np.array([0, 1, 0]), ORDERS[:2]
    )
    assert alone.boosted(train, test, ("dna_bin",)).shape == (3,)


def test_the_comparison_takes_one_field_away_at_a_time(splits):
    table = alone.compare(splits)
    assert table["model"].tolist() == [
        "majority class",
        *["counting"] * 5,
        "boosting, as_published",
        "boosting, no_target",
        "boosting, leak_free",
    ]
    assert table["fields"].tolist()[:6] == [
        "-",
        "dna_bin, genus, family",
        "genus, family",
        "family",
        "dna_bin, genus",
        "dna_bin",
    ]
    assert "order" in table["fields"][6].split(", ") and "order" not in table["fields"][7].split(", ")
    assert table["accuracy"][6] > 0.98 and table["balanced_accuracy"][0] == pytest.approx(1 / 3)
    shown = set(splits.train.records["dna_bin"])
    bins = splits.test.records["dna_bin"]
    assert table["n_seen"][0] == sum(b in shown for b in bins if b) and table["n_unseen"][0] == sum(
        b not in shown for b in bins if b
    )
    by_family = alone.back_off(splits.train, splits.test, ("family",)) == splits.test.labels
    seen = np.array([bool(b) and b in shown for b in bins])
    assert table["accuracy_seen"][3] == pytest.approx(by_family[seen].mean())
    assert table["accuracy"][3] == pytest.approx(by_family.mean())


def test_records_without_bins_have_neither_group(splits):
    bare = Splits(
        *(SpecimenSet(side.records[["order", "country"]], side.labels, side.class_names) for side in splits)
    )
    table = alone.compare(bare)
    assert table["model"].tolist() == ["majority class", "boosting, as_published", "boosting, leak_free"]
    assert table["accuracy_seen"].isna().all() and (table["n_unseen"] == 0).all()


def test_counting_on_real_records(shared_data, tmp_path):
    """Seen BINs name their order nearly always; the counting needs no network for it."""
    specimens = load_specimens("records", shared_data / "bold_records.tsv.gz", cache_dir=tmp_path, limit=4000)
    splits = specimens.split("paper")
    answer = alone.back_off(splits.train, splits.test)
    assert np.mean(answer == splits.test.labels) > 0.95
    assert np.mean(alone.majority(splits.train, splits.test) == splits.test.labels) < 0.75

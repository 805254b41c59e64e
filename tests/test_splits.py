"""The three ways to divide a collection: counts, disjointness and what each refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bionas import places
from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import SpecimenSet
from bionas.specimens.collection import compare_splits
from bionas.specimens.splits import SPLITS, paper_counts


def collection(orders, **columns):
    names = sorted(set(orders))
    records = pd.DataFrame({"order": orders, "row": range(len(orders)), **columns})
    return SpecimenSet(records, np.array([names.index(o) for o in orders]), tuple(names))


def mixed(n=1000, seed=3):
    generator = np.random.default_rng(seed)
    return generator.choice(list("ABC"), n, p=[0.75, 0.2, 0.05]).tolist()


def test_the_papers_printed_counts_follow_from_the_published_table():  # section IV; Diptera's do not fit any rounding
    counts = pd.read_csv(places.data("paper/bioscan5m_order_counts.csv")).set_index("order")["count"]
    assert paper_counts(counts["Hymenoptera"])[1] == 114_809
    assert paper_counts(counts["Mesostigmata"])[1] == 937
    assert paper_counts(counts["Anomopoda"])[0] == 164


@pytest.mark.parametrize("n", [*range(1, 200), 3_675_317])
def test_seventy_twenty_ten_to_within_rounding(n):
    sides = paper_counts(n)
    assert sum(sides) == n
    if n >= 3:
        assert min(sides) >= 1
        assert all(abs(count - share * n) < 2 for count, share in zip(sides, (0.7, 0.2, 0.1), strict=True))
        assert sides[0] >= max(sides[1:])


def test_paper_divides_every_class_alike_and_loses_nobody():
    specimens = collection(mixed())
    splits = specimens.split("paper", seed=1)
    rows = [set(side.records["row"]) for side in splits]
    assert set.union(*rows) == set(range(1000)) and sum(map(len, rows)) == 1000
    for name, n in specimens.counts().items():
        assert tuple(side.counts()[name] for side in splits) == paper_counts(n)
    assert all(side.records["row"].is_monotonic_increasing for side in splits)  # records keep their order
    assert splits.table()["train"].sum() == len(splits.train)


@pytest.mark.parametrize("scheme", ["paper", "bin_disjoint"])
def test_a_split_depends_on_records_and_seed_only(scheme):
    specimens = collection(mixed(), dna_bin=[f"BOLD:{i % 170}" for i in range(1000)])
    rows = [side.records["row"].tolist() for side in specimens.split(scheme, seed=5)]
    np.random.seed(99)
    assert rows == [side.records["row"].tolist() for side in specimens.split(scheme, seed=5)]
    assert rows != [side.records["row"].tolist() for side in specimens.split(scheme, seed=6)]


def test_official_is_the_records_own_word():
    specimens = collection(list("ABABAB"), split=["train", "train", "val", "Validation ", "test", "pretrain"])
    splits = specimens.split("official")
    assert [side.records["row"].tolist() for side in splits] == [[0, 1], [2, 3], [4]]


def test_official_says_what_it_found():
    with pytest.raises(SpecimenError, match=r"column `split`.*order, row"):
        collection(list("AB")).split("official")
    with pytest.raises(SpecimenError, match=r"'val'.*holds: test \(1\), train \(1\)"):
        collection(list("AB"), split=["train", "test"]).split("official")


def test_no_bin_lies_on_two_sides_and_shares_are_near():
    generator = np.random.default_rng(0)
    orders = np.array(mixed(3000))
    sizes = np.minimum(generator.zipf(1.6, 3000), 60)  # a few large BINs, many small
    bins = np.array([f"{order}{i}" for order, i in zip(orders, np.repeat(np.arange(3000), sizes)[:3000], strict=True)])
    unknown = generator.random(3000) < 0.1
    specimens = collection(orders.tolist(), dna_bin=np.where(unknown, "No Taxon", bins).tolist())
    splits = specimens.split("bin_disjoint")
    sides = [set(side.records["dna_bin"]) - {"No Taxon"} for side in splits]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, splits)) == 3000
    for name, n in specimens.counts().items():
        shares = [side.counts()[name] / n for side in splits]
        assert np.abs(np.array(shares) - [0.7, 0.2, 0.1]).max() < 0.03
    assert sum((side.records["dna_bin"] == "No Taxon").any() for side in splits) == 3  # each stands for itself


def test_three_bins_of_a_class_reach_all_three_sides():
    specimens = collection(["A"] * 100 + ["B"] * 30, dna_bin=["a"] * 50 + ["b"] * 30 + ["c"] * 20 + list("uvwxyz") * 5)
    assert all((side.counts() > 0).all() for side in specimens.split("bin_disjoint"))


def test_a_bin_of_two_classes_stays_whole():
    specimens = collection(list("AAAB") * 10, dna_bin=[f"bin{i // 4}" for i in range(40)])
    for side in specimens.split("bin_disjoint"):
        assert (side.records["dna_bin"].value_counts() == 4).all()


def test_without_bins_there_is_nothing_to_keep_apart():
    with pytest.raises(SpecimenError, match="dna_bin"):
        collection(list("AB"), dna_bin=["", None]).split("bin_disjoint")
    with pytest.raises(UnknownName, match="bin_disjoint"):
        collection(list("AB")).split("bins_disjoint")


def test_schemes_side_by_side():
    specimens = collection(mixed(), dna_bin=[f"BOLD:{i % 170}" for i in range(1000)])
    frame = compare_splits(specimens).set_index("scheme")
    assert list(frame.index) == list(SPLITS)
    splits = specimens.split("paper")
    seen = [bin in set(splits.train.records["dna_bin"]) for bin in splits.test.records["dna_bin"]]
    assert (
        frame.loc["paper", "bins_seen"] == pytest.approx(np.mean(seen)) and frame.loc["bin_disjoint", "bins_seen"] == 0
    )
    assert "needs a column `split`" in frame.loc["official", "refused"] and frame.loc["paper", "refused"] == ""
    assert frame.loc["paper", ["train", "val", "test"]].sum() == 1000
    worst = max(
        abs(side.counts()[c] / n - s)
        for c, n in specimens.counts().items()
        for side, s in zip(splits, (0.7, 0.2, 0.1), strict=True)
    )
    assert frame.loc["paper", "drift"] == pytest.approx(100 * worst)

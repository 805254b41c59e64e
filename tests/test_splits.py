"""The ways to divide a collection: counts, disjointness and what each refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import SpecimenSet
from bionas.specimens.barcodes import barcode_keys
from bionas.specimens.collection import compare_splits
from bionas.specimens.grouping import SHARES, balanced_sides, linked
from bionas.specimens.splits import NOT_COMPARED, SPLITS, divide, paper_counts, seran_counts
from bionas.system import places


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


def test_paper_divides_all_of_bioscan_5m_as_printed():
    """5,134,987 labels in the published numbers. Diptera's printed counts fit no rule: 325 and 58 more than 70 and 20 %."""
    counts = pd.read_csv(places.data("paper/bioscan5m_order_counts.csv")).set_index("order")["count"]
    labels = np.repeat(np.arange(len(counts)), counts)
    train, val, test = (
        np.bincount(labels[side], minlength=len(counts)) for side in SPLITS["paper"](None, labels, 0)
    )
    train, val = pd.Series(train, counts.index), pd.Series(val, counts.index)
    assert len(labels) == 5_134_987 == train.sum() + val.sum() + test.sum()
    assert val["Hymenoptera"] == 114_809 and val["Mesostigmata"] == 937 and train["Anomopoda"] == 164
    diptera = counts["Diptera"]
    assert (round(2_573_047 - 0.7 * diptera), round(735_121 - 0.2 * diptera)) == (325, 58)
    assert (2_573_047 - train["Diptera"], 735_121 - val["Diptera"]) == (
        326,
        58,
    )  # both shares are rounded down


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


def test_serans_printed_counts_follow_from_rounding_its_equal_sides_down():  # its section 4.1: 123 species
    held_out, species, images = 5_119, 123, 34_525
    assert 24_287 + 2 * held_out == images
    assert (
        0.4 < (0.15 * images - held_out) / species < 0.6
    )  # half a specimen a class is what rounding down takes
    sizes = np.random.default_rng(0).multinomial(images - 3 * species, np.ones(species) / species) + 3
    labels = np.repeat(np.arange(species), sizes)
    train, val, test = SPLITS["seran"](None, labels, 0)
    assert len(val) == len(test) == sum(int(0.15 * n + 1e-9) for n in sizes)
    assert sorted(np.concatenate([train, val, test])) == list(range(images))
    assert (np.bincount(labels[val]) == np.bincount(labels[test])).all()


@pytest.mark.parametrize(
    ("n", "sides"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (6, (4, 1, 1)), (20, (14, 3, 3))]
)
def test_small_classes_under_seran(n, sides):
    assert seran_counts(n) == sides


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
    bins = np.array(
        [f"{order}{i}" for order, i in zip(orders, np.repeat(np.arange(3000), sizes)[:3000], strict=True)]
    )
    unknown = generator.random(3000) < 0.1
    specimens = collection(orders.tolist(), dna_bin=np.where(unknown, "No Taxon", bins).tolist())
    splits = specimens.split("bin_disjoint")
    sides = [set(side.records["dna_bin"]) - {"No Taxon"} for side in splits]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, splits)) == 3000
    for name, n in specimens.counts().items():
        shares = [side.counts()[name] / n for side in splits]
        assert np.abs(np.array(shares) - [0.7, 0.2, 0.1]).max() < 0.03
    assert (
        sum((side.records["dna_bin"] == "No Taxon").any() for side in splits) == 3
    )  # each stands for itself


def test_three_bins_of_a_class_reach_all_three_sides():
    specimens = collection(
        ["A"] * 100 + ["B"] * 30, dna_bin=["a"] * 50 + ["b"] * 30 + ["c"] * 20 + list("uvwxyz") * 5
    )
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


SPLIT_COLUMN = (
    ["pretrain"] * 5
    + ["train"] * 3
    + ["val", "test", "test", "test_unseen", "other_heldout", "key_unseen", None]
)


def official(told, dtype="category", names=SPLIT_COLUMN):
    column = pd.Series(names, dtype=object).astype(dtype)
    return [side.records["row"].tolist() for side in collection(["A"] * len(names), split=column).split(told)]


@pytest.mark.parametrize("dtype", [object, "str", "category", pd.ArrowDtype(pa.string())])
def test_official_takes_bioscans_names_joined_by_plus(dtype):
    assert official("official", dtype) == [[5, 6, 7], [8], [9, 10]]
    assert official("official:train/validation/test", dtype) == [[5, 6, 7], [8], [9, 10]]
    everything = official("official:pretrain+train/val/test + Test_Unseen", dtype)
    assert everything == [[0, 1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    unseen = [*SPLIT_COLUMN[:-1], "val_unseen"]
    assert official("official:pretrain/seen/unseen", dtype, unseen) == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9, 10],
        [11, 13, 14],
    ]
    assert official("official:own+train/val/test", dtype, [*SPLIT_COLUMN, "Own "])[0] == [5, 6, 7, 15]


@pytest.mark.parametrize(
    ("told", "error", "says"),
    [
        ("official:pretain+train/val/test", UnknownName, r"'pretain'\. Did you mean 'pretrain'"),
        ("official:train/val", SpecimenError, "training, validation and test, in this order"),
        ("official:train/val/", SpecimenError, "in this order"),
        ("official:train/val+/test", SpecimenError, "in this order"),
        ("official:train/val/test+train", SpecimenError, "'train' would be named twice"),
        ("official:pretrain/val/seen", SpecimenError, "'val' would be named twice"),
        (
            "official:train/val/test+val_unseen",
            SpecimenError,
            r"marked 'val_unseen'\. .*key_unseen \(1\), no value \(1\)",
        ),
        ("offical:train/val/test", UnknownName, "'official'"),
        ("paper:train/val/test", SpecimenError, "'paper' takes nothing after a colon"),
    ],
)
def test_what_official_is_told_wrongly_is_said(told, error, says):
    with pytest.raises(error, match=says):
        official(told)


def components(*columns):
    """The groups of rows that are tied by any column, found by walking from row to row."""
    n, groups, left = len(columns[0]), [], set(range(len(columns[0])))
    while left:
        group, walk = set(), [min(left)]
        while walk:
            row = walk.pop()
            if row in group:
                continue
            group.add(row)
            walk += [r for r in range(n) for c in columns if c[r] == c[row] >= 0]
        groups.append(group)
        left -= group
    return groups


def test_what_hangs_together_over_bins_and_barcodes():
    generator = np.random.default_rng(1)
    for n_bins, n_barcodes in itertools.product((1, 12, 40), (1, 25, 60)):
        bins, barcodes = generator.integers(-1, n_bins, 60), generator.integers(-1, n_barcodes, 60)
        group = linked(bins, barcodes)
        found = [set(np.flatnonzero(group == g)) for g in range(group.max() + 1)]
        assert sorted(map(sorted, found)) == sorted(map(sorted, components(bins.tolist(), barcodes.tolist())))
    assert linked(np.array([3, -1, 0, 3, -1])).tolist() == [
        0,
        2,
        1,
        0,
        3,
    ]  # BINs as they appear, then those without


def test_neither_a_bin_nor_a_barcode_lies_on_two_sides():
    generator = np.random.default_rng(2)
    number = generator.integers(0, 300, 3000)
    barcode = np.array([f"ACGT{b}" for b in number * 4 + generator.integers(0, 4, 3000)])
    barcode[generator.random(3000) < 0.01] = "ACGT7"  # one barcode in many BINs
    bins = np.where(generator.random(3000) < 0.05, "", [f"BOLD:{b}" for b in number])
    splits = collection(mixed(3000), dna_bin=bins.tolist(), dna_barcode=barcode.tolist()).split(
        "bin_disjoint"
    )
    assert sum(map(len, splits)) == 3000
    for column in ("dna_bin", "dna_barcode"):
        sides = [set(side.records[column]) - {""} for side in splits]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@pytest.mark.parametrize(
    "dtype", [object, "str", "category", pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.large_string())]
)
def test_a_barcode_has_one_key_however_it_is_written_and_stored(dtype):
    barcodes = pd.Series(["ACGT", " acgtNNN", None, "ACGTA", "NNN", "NA", "", "ACGTNA"], dtype=object).astype(
        dtype
    )
    keys = barcode_keys(barcodes)
    assert keys.dtype == np.uint64 and (keys == 0).tolist() == [
        False,
        False,
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 4
    assert (barcode_keys(pd.Series(keys)) == keys).all()  # keys are their own keys
    assert (barcode_keys(pa.array(barcodes.astype(object), from_pandas=True)) == keys).all()


def test_a_barcode_may_be_given_by_its_key():
    bins, barcodes = ["", "b1", "b2", "b3"] * 5, [f"ACG{i % 7}" for i in range(20)]
    letters = collection(["A"] * 20, dna_bin=bins, dna_barcode=barcodes)
    keys = collection(["A"] * 20, dna_bin=bins, dna_barcode=barcode_keys(pd.Series(barcodes)))
    for one, other in zip(letters.split("bin_disjoint"), keys.split("bin_disjoint"), strict=True):
        assert one.records["row"].tolist() == other.records["row"].tolist()


def test_a_barcode_of_its_own_changes_nothing():  # positions stay what they were when only BINs were kept apart
    bins = [f"BOLD:{i % 170}" if i % 9 else None for i in range(1000)]
    without = collection(mixed(), dna_bin=bins).split("bin_disjoint", seed=4)
    own = collection(mixed(), dna_bin=bins, dna_barcode=[f"ACGT{i}" for i in range(1000)]).split(
        "bin_disjoint", seed=4
    )
    assert all(a.records["row"].equals(b.records["row"]) for a, b in zip(without, own, strict=True))


@pytest.mark.parametrize("scheme", ["bin_disjoint", "geography_disjoint", "official"])
def test_a_split_does_not_depend_on_how_columns_are_stored(scheme):
    generator = np.random.default_rng(5)
    columns = {
        "dna_bin": generator.choice(["a", "b", "c", None, "", " c"], 300),
        "country": generator.choice(["Peru", "Chad", "Fiji", None, "Cuba"], 300),
        "split": generator.choice(["train", "val", "test", None], 300),
    }
    texts = collection(mixed(300), **columns)
    stored = collection(mixed(300), **{name: pd.Categorical(column) for name, column in columns.items()})
    for one, other in zip(texts.split(scheme, seed=2), stored.split(scheme, seed=2), strict=True):
        assert one.records["row"].tolist() == other.records["row"].tolist()


def places_of(n=3000, countries=12, unknown=0.05, seed=0):
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, countries + 1)
    names = generator.choice([f"country {i}" for i in range(countries)], n, p=weights / weights.sum())
    return np.where(generator.random(n) < unknown, None, names)


def test_no_country_lies_on_two_sides_and_the_unknown_ones_are_in_training():
    specimens = collection(mixed(3000), country=places_of())
    splits = specimens.split("geography_disjoint", seed=1)
    sides = [set(side.records["country"].dropna()) for side in splits]
    assert all(sides) and len(set.union(*sides)) == sum(map(len, sides)) == 12
    assert (
        sum(map(len, splits)) == 3000
        and splits.train.records["country"].isna().sum() == specimens.records["country"].isna().sum()
    )
    for name, n in specimens.counts().items():
        assert np.abs(np.array([side.counts()[name] / n for side in splits]) - [0.7, 0.2, 0.1]).max() < 0.08
    again = specimens.split("geography_disjoint", seed=1)
    assert all(a.records["row"].equals(b.records["row"]) for a, b in zip(splits, again, strict=True))


def test_whole_countries_come_close_to_the_best_there_is():
    """Against all 3^7 ways to put seven countries on three sides."""
    generator = np.random.default_rng(8)
    ratios = []
    for trial in range(6):
        groups, labels = (
            generator.choice(7, 400, p=generator.dirichlet(np.ones(7))),
            generator.integers(0, 3, 400),
        )
        groups[:7] = range(7)

        def distance(side_of, groups=groups, labels=labels):
            of_all = [
                np.bincount(side_of[groups[labels == c]], minlength=3) / (labels == c).sum() for c in range(3)
            ]
            whole = np.bincount(side_of[groups], minlength=3) / 400
            squares = [(((shares - SHARES) ** 2) / SHARES).sum() for shares in of_all]
            return (((whole - SHARES) ** 2) / SHARES).sum() + np.mean(squares)

        best = min(
            distance(np.array(p)) for p in itertools.product(range(3), repeat=7) if set(p) == {0, 1, 2}
        )
        ratios.append((distance(balanced_sides(groups, labels, 7, trial)) + 1e-3) / (best + 1e-3))
    assert min(ratios) > 0.999 and np.median(ratios) < 1.05 and max(ratios) < 1.5


@pytest.mark.parametrize(
    ("country", "says"),
    [
        (["Peru"] * 9, "found: Peru"),
        (["Peru", "Chad", None] * 3, "found: Chad, Peru"),
        ([None] * 9, "found: none"),
    ],
)
def test_too_few_countries_are_named(country, says):
    with pytest.raises(SpecimenError, match=f"at least three countries .* {says}"):
        collection(["A"] * 9, country=country).split("geography_disjoint")
    with pytest.raises(SpecimenError, match="found: none"):
        collection(["A"] * 9).split("geography_disjoint")


def test_three_countries_are_a_side_each():
    splits = collection(["A"] * 60, country=["Peru"] * 40 + ["Chad"] * 15 + ["Fiji"] * 5).split(
        "geography_disjoint"
    )
    assert [side.records["country"].unique().tolist() for side in splits] == [["Peru"], ["Chad"], ["Fiji"]]


@pytest.mark.parametrize("scheme", ["paper", "bin_disjoint", "geography_disjoint"])
def test_a_class_of_one_specimen_is_in_one_side_only(scheme):
    specimens = collection(
        ["A"] * 30 + ["B"], dna_bin=[f"b{i}" for i in range(31)], country=[*list("xyzuvw" * 5), "x"]
    )
    assert sorted(int(side.counts()["B"]) for side in specimens.split(scheme)) == [0, 0, 1]
    if scheme != "geography_disjoint":
        assert specimens.split(scheme).train.counts()["B"] == 1


def test_schemes_side_by_side():
    specimens = collection(mixed(), dna_bin=[f"BOLD:{i % 170}" for i in range(1000)])
    frame = compare_splits(specimens).set_index("scheme")
    assert [*frame.index, *NOT_COMPARED] == sorted(SPLITS, key=lambda name: name in NOT_COMPARED)
    splits = specimens.split("paper")
    seen = [bin in set(splits.train.records["dna_bin"]) for bin in splits.test.records["dna_bin"]]
    assert (
        frame.loc["paper", "bins_seen"] == pytest.approx(np.mean(seen))
        and frame.loc["bin_disjoint", "bins_seen"] == 0
    )
    assert (
        "needs a column `split`" in frame.loc["official", "refused"] and frame.loc["paper", "refused"] == ""
    )
    assert frame.loc["paper", ["train", "val", "test"]].sum() == 1000
    worst = max(
        abs(side.counts()[c] / n - s)
        for c, n in specimens.counts().items()
        for side, s in zip(splits, (0.7, 0.2, 0.1), strict=True)
    )
    assert frame.loc["paper", "drift"] == pytest.approx(100 * worst)


def test_what_crosses_from_side_to_side_is_counted():
    columns = {
        "dna_bin": [f"BOLD:{i % 170}" if i % 5 else " " for i in range(1000)],
        "country": places_of(1000),
    }
    specimens = collection(mixed(), **columns)
    frame = compare_splits(specimens, seed=2).set_index("scheme")
    for scheme, row in frame.drop(index="official").iterrows():
        splits = specimens.split(scheme, seed=2)
        for column, field in (("dna_bin", "bins_crossing"), ("country", "countries_crossing")):
            sides = [set(side.records[column].dropna()) - {" "} for side in splits]
            assert row[field] == sum(sum(value in side for side in sides) > 1 for value in set.union(*sides))
    assert (
        frame.loc["bin_disjoint", "bins_crossing"]
        == 0
        == frame.loc["geography_disjoint", "countries_crossing"]
    )
    assert frame.loc["paper", "bins_crossing"] > 100 and frame.loc["paper", "countries_crossing"] == 12


def test_without_bins_and_countries_nothing_crosses():
    frame = compare_splits(collection(mixed())).set_index("scheme")
    assert frame[["bins_seen", "bins_crossing", "countries_crossing"]].isna().all(axis=None)
    assert (
        frame.loc["geography_disjoint", "refused"]
        and frame.loc["bin_disjoint", "refused"]
        and not frame.loc["paper", "refused"]
    )


# Groups, and what holds for any collection


def test_a_group_stays_on_one_side_and_shares_are_near():
    generator = np.random.default_rng(5)
    animal = generator.integers(0, 20, 800)  # few animals, photographed many times
    trap = generator.integers(0, 200, 800)
    orders = np.array(list("AABC"))[trap % 4]
    specimens = collection(orders.tolist(), animal=[f"a{i}" for i in animal], trap=[f"t{i}" for i in trap])
    for column, split in (
        ("animal", specimens.split("grouped:animal")),
        ("trap", specimens.split(group="trap")),
    ):
        assert sum(map(len, split)) == 800
        assert [len(side) / 800 for side in split] == pytest.approx([0.7, 0.2, 0.1], abs=0.04)
        sides = [set(side.records[column]) for side in split]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    with pytest.raises(UnknownName, match="column to group by 'trp'. Did you mean 'trap'"):
        specimens.split(group="trp")
    with pytest.raises(SpecimenError, match="needs at least three groups"):
        collection(list("AABB"), trap=list("xxyy")).split(group="trap")
    with pytest.raises(SpecimenError, match="cannot be combined"):
        specimens.split("seran", group="trap")


def test_groups_under_the_other_schemes():
    specimens = collection(
        ["A", "B"] * 60, dna_bin=[f"B{i // 2}" for i in range(120)], trap=[f"t{i % 40}" for i in range(120)]
    )
    split = specimens.split("bin_disjoint", group="trap")
    for column in ("trap", "dna_bin"):
        sides = [set(side.records[column]) for side in split]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    told = collection(["A", "B"] * 3, split=["train"] * 4 + ["val", "test"], trap=list("aabbbc"))
    with pytest.raises(SpecimenError, match="1 values of 'trap' on more than one side"):
        told.split("official", group="trap")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_collection_is_divided_without_loss_and_groups_stay_whole(data):
    n = data.draw(st.integers(6, 80))
    codes = st.lists(st.integers(0, 6), min_size=n, max_size=n)
    orders = [f"o{c}" for c in data.draw(codes)]
    groups = data.draw(st.lists(st.integers(-1, 30), min_size=n, max_size=n))
    named = [f"g{g}" if g >= 0 else None for g in groups]
    specimens = collection(orders, dna_bin=named, trap=named)
    seed = data.draw(st.integers(0, 2**31))
    scheme = data.draw(st.sampled_from(["paper", "seran", "bin_disjoint", "grouped:trap"]))
    try:
        sides = divide(scheme, specimens.records, specimens.labels, seed)
    except SpecimenError:
        known = {g for g in groups if g >= 0}
        assert (scheme == "bin_disjoint" and not known) or len(known) + groups.count(-1) < 3
        return
    assert sorted(np.concatenate(sides).tolist()) == list(range(n))  # everyone once
    assert all((np.diff(side) > 0).all() for side in sides)
    again = divide(scheme, specimens.records, specimens.labels, seed)
    assert all((one == other).all() for one, other in zip(sides, again, strict=True))
    side_of = np.empty(n, int)
    for number, side in enumerate(sides):
        side_of[side] = number
    if scheme in ("bin_disjoint", "grouped:trap"):
        for group in {g for g in groups if g >= 0}:
            assert len(set(side_of[np.array(groups) == group])) == 1
    else:
        counts = {"paper": paper_counts, "seran": seran_counts}[scheme]
        for label in range(specimens.labels.max() + 1):
            own = side_of[specimens.labels == label]
            assert np.bincount(own, minlength=3).tolist() == list(counts(len(own)))

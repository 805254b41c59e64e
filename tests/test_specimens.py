"""Collections: what a specimen set keeps aligned, the rule for rare classes, and how a source becomes a set."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import SOURCES, Collected, ImageStore, SpecimenSet, fold_rare, load_specimens
from bionas.specimens.labels import SHOWN
from bionas.specimens.schema import COLUMNS, NUMERIC, RANKS, SPLIT_NAMES, coded, missing
from bionas.specimens.splits import METASPLITS
from bionas.system import places


def made(orders, size=8, seed=0, **columns):
    """Specimens whose image i is filled with i, so that a mix-up of rows shows."""
    names = sorted(set(orders))
    records = pd.DataFrame({"order": orders, **columns})
    pixels = (
        np.zeros((len(orders), size, size, 3), np.uint8)
        + np.arange(len(orders), dtype=np.uint8)[:, None, None, None]
    )
    return SpecimenSet(records, np.array([names.index(o) for o in orders]), tuple(names), ImageStore(pixels))


@pytest.fixture
def source(monkeypatch):
    """Registers `made` with the given records for one test."""

    def register(records, images=None, **facts):
        def collect(data_dir, *, image_size, cache_dir, seed, target, shape="round"):
            return Collected(records, images, **facts)

        monkeypatch.setitem(SOURCES._things, "made", collect)

    return register


def test_the_schema_is_bioscan_5m():  # 23 columns, as bioscan-dataset reads them
    assert len(COLUMNS) == len(set(COLUMNS)) == 23
    assert set(RANKS) < set(COLUMNS) and set(NUMERIC) < set(COLUMNS)


def test_the_splits_are_those_of_bioscan_dataset():
    published = pytest.importorskip("bioscan_dataset.bioscan5m")
    assert list(SPLIT_NAMES) == published.VALID_SPLITS
    assert all(published.explode_metasplit(name) == set(names) for name, names in METASPLITS.items())


def test_all_spellings_of_missing_are_missing():
    column = pd.Series(
        ["Apis", None, np.nan, "", "  ", "No Taxon", "no taxon", "NaN", "None", "Nona"], dtype=object
    )
    assert missing(column).tolist() == [False] + [True] * 8 + [False]
    assert missing(pd.Series([1.0, np.nan])).tolist() == [False, True]


STORED_AS = [
    object,
    "str",
    "category",
    "string[python]",
    pd.ArrowDtype(pa.string()),
    pd.ArrowDtype(pa.large_string()),
]
"""The ways in which a column of text may lie in memory."""


@pytest.mark.parametrize("dtype", STORED_AS)
def test_a_column_means_the_same_however_it_is_stored(dtype):
    texts = pd.Series(["Apis", None, " Apis ", "", "no taxon", "Bombus", "NONE", "Nona"] * 3, dtype=object)
    column = texts.astype(dtype)[::-1].reset_index(drop=True)
    assert missing(column).tolist() == [False, True, False, True, True, False, True, False] * 3
    codes, names = coded(column)
    assert names == ["Nona", "Bombus", "Apis"] and codes[:8].tolist() == [0, -1, 1, -1, -1, 2, -1, 2]
    assert len(missing(column[:0])) == len(coded(column[:0]).codes) == 0


def test_a_category_without_a_specimen_is_not_there():
    column = pd.Series(pd.Categorical(["B", "C", None, "C"], categories=["", "A", "B", "C"]))
    assert coded(column).texts == ["B", "C"] and missing(column).tolist() == [False, False, True, False]


def test_a_subset_keeps_records_labels_and_images_together():
    specimens = made(list("ABCABC"), processid=list("uvwxyz"))
    part = specimens.subset([4, 0]).subset([1, 0])
    assert part.records["processid"].tolist() == ["u", "y"]
    assert part.label_names.tolist() == ["A", "B"]
    assert part.images.pixels([0, 1])[:, 0, 0, 0].tolist() == [0, 4]
    assert part.class_names == ("A", "B", "C") and part.counts()["C"] == 0
    assert isinstance(part.records.index, pd.RangeIndex)


def test_counts_run_from_the_largest_and_break_ties_by_name():
    assert list(made(list("CBBAC")).counts().items()) == [("B", 2), ("C", 2), ("A", 1)]


def test_parts_of_unequal_length_are_refused():
    with pytest.raises(SpecimenError, match="not one each"):
        SpecimenSet(pd.DataFrame({"order": ["A"]}), np.array([0, 0]), ("A",))
    with pytest.raises(SpecimenError, match="class names"):
        SpecimenSet(pd.DataFrame({"order": ["A"]}), np.array([1]), ("A",))


def test_the_fingerprint_sees_every_part_and_nothing_else():
    first = made(list("AABB"), genus=["g", None, "h", "h"])
    again = made(list("AABB"), genus=["g", np.nan, "h", "h"])
    assert first.fingerprint == again.fingerprint and len(first.fingerprint) == 64
    others = [
        made(list("AABB"), genus=["g", None, "h", "g"]),
        made(list("ABAB"), genus=["g", None, "h", "h"]),
        first.subset([1, 0, 2, 3]),
        SpecimenSet(
            first.records,
            first.labels,
            first.class_names,
            ImageStore(first.images.pixels(range(4)) + np.uint8(1)),
        ),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("dtype", STORED_AS)
def test_the_fingerprint_is_of_what_a_column_says_not_of_how_it_is_stored(dtype):
    records = pd.DataFrame(
        {"order": list("ABAB"), "genus": ["g", None, "ü \n", "h"], "coord-lat": [1.5, np.nan, 2.0, 1.5]}
    )
    plain = SpecimenSet(records.astype({"genus": object}), np.array([0, 1, 0, 1]), ("A", "B"))
    digest = hashlib.sha256()
    for name, codes, values in (
        ("order", [0, 1, 0, 1], "AB"),
        ("genus", [0, -1, 1, 2], ["g", "ü \n", "h"]),
        ("coord-lat", [0, -1, 1, 0], [1.5, 2.0]),
    ):
        digest.update("\0".join([name, *map(str, values)]).encode() + np.array(codes, "<i8").tobytes())
    digest.update(b"A\0B" + np.array([0, 1, 0, 1], "<i8").tobytes())
    stored = SpecimenSet(
        records.astype({"genus": dtype, "order": "category"}), plain.labels, plain.class_names
    )
    assert plain.fingerprint == stored.fingerprint == digest.hexdigest()


def test_rare_orders_become_other():  # section IV: fewer than 500 instances; 500 itself stays
    labels = ["Diptera"] * 600 + ["Trichoptera"] * 500 + ["Odonata"] * 499 + ["Mantodea"] * 3
    folded = fold_rare(labels, 500)
    assert pd.Series(folded).value_counts().to_dict() == {"Diptera": 600, "Trichoptera": 500, "Other": 502}
    assert fold_rare(labels, 0).tolist() == labels


def test_the_published_counts_fold_into_nineteen_orders_and_other():  # the paper says 21 classes
    counts = pd.read_csv(places.data("paper/bioscan5m_order_counts.csv"))
    kept = counts[counts["count"] >= 500]
    assert len(kept) == 19 and kept["order"].iloc[0] == "Diptera"


def test_labels_come_from_the_target_and_what_was_done_is_said(source):
    source(pd.DataFrame({"order": ["B", "A", "A", " A ", "", "No Taxon"]}), origin="Six records")
    specimens = load_specimens("made", min_records=2)
    assert specimens.class_names == ("A", "Other") and specimens.labels.tolist() == [1, 0, 0, 0]
    assert specimens.caption == "Six records" and not specimens.synthetic
    assert "2 of 6 records have no order" in specimens.notes[0]
    assert "'Other': B (1)" in specimens.notes[1]


@pytest.mark.parametrize("dtype", STORED_AS)
def test_labels_do_not_depend_on_how_the_column_is_stored(source, dtype):
    orders = ["B", "A", None, " A ", "", "No Taxon", "C", "C", "A"]
    source(
        pd.DataFrame({"order": pd.Series(orders, dtype=object).astype(dtype), "row": range(9)}),
        made(["A"] * 9).images,
    )
    specimens = load_specimens("made", min_records=2)
    assert specimens.class_names == ("A", "C", "Other")
    assert specimens.label_names.tolist() == ["Other", "A", "A", "C", "C", "A"]
    assert (
        specimens.records["row"].tolist()
        == specimens.images.pixels(range(6))[:, 0, 0, 0].tolist()
        == [0, 1, 3, 6, 7, 8]
    )
    assert specimens.notes == (
        "3 of 9 records have no order and were left out.",
        "1 order classes of fewer than 2 records (1 in all) are 'Other': B (1).",
    )


def test_unlabelled_records_can_be_a_class_of_their_own(source):
    source(pd.DataFrame({"order": ["B", "A", "A", None, "", "No Taxon"], "family": ["f"] * 6}))
    specimens = load_specimens("made", min_records=2, unlabelled="class")
    assert specimens.class_names == ("A", "Other", "Unlabelled") and len(specimens) == 6
    assert specimens.labels.tolist() == [1, 0, 0, 2, 2, 2]
    assert "3 of 6 records have no order and are a class of their own, 'Unlabelled'" in specimens.notes[0]
    assert load_specimens("made", min_records=4, unlabelled="class").class_names == ("Other", "Unlabelled")
    assert load_specimens("made", target="family", unlabelled="class").class_names == (
        "f",
    )  # nothing lacks a family
    with pytest.raises(UnknownName, match="'class'"):
        load_specimens("made", unlabelled="clas")


def test_a_note_lists_the_largest_of_many_rare_classes(source):
    genera = [f"g{i:03d}" for i in range(100) for _ in range(1 + (i == 70))] + ["common"] * 9
    source(pd.DataFrame({"genus": genera}))
    (note,) = load_specimens("made", target="genus", min_records=5).notes
    assert (
        "100 genus classes of fewer than 5 records (101 in all)" in note and ": g070 (2), g000 (1)," in note
    )
    assert note.endswith(f" and {100 - SHOWN} more.")


def test_the_names_before_the_rule_can_still_be_counted(source):
    source(pd.DataFrame({"order": ["Diptera"] * 5 + ["Mantodea"] * 2 + ["Thysanoptera"] * 2 + [None]}))
    specimens = load_specimens("made", min_records=3)
    assert specimens.min_records == 3 and specimens.counts().to_dict() == {"Diptera": 5, "Other": 4}
    assert list(specimens.counts_as_recorded().items()) == [
        ("Diptera", 5),
        ("Mantodea", 2),
        ("Thysanoptera", 2),
    ]
    assert specimens.subset([0, 5]).min_records == 3


def test_a_source_folds_by_its_own_rule_unless_told(source):
    source(pd.DataFrame({"order": list("AAAB")}), default_min_records=2, synthetic=True)
    assert load_specimens("made").class_names == ("A", "Other")
    assert load_specimens("made", min_records=0).class_names == ("A", "B")
    assert "ynthetic" in load_specimens("made").caption


def test_other_targets_follow_the_same_rule(source):
    source(pd.DataFrame({"order": list("AABB"), "family": ["f", "g", "g", ""]}))
    specimens = load_specimens("made", target="family")
    assert specimens.class_names == ("f", "g") and specimens.target == "family"


def test_names_that_do_not_exist_are_answered_with_the_nearest(source):
    source(pd.DataFrame({"order": list("AB")}))
    with pytest.raises(UnknownName, match="folder"):
        load_specimens("foldr")
    with pytest.raises(UnknownName, match="'order'"):
        load_specimens("made", target="ordre")
    with pytest.raises(UnknownName, match="shape"):
        load_specimens("made", shap="square")
    with pytest.raises(UnknownName, match="skip"):
        load_specimens("made", missing_images="skp")


@pytest.mark.parametrize("dtype", STORED_AS)
def test_one_class_in_two_spellings_is_refused(source, dtype):
    source(pd.DataFrame({"order": pd.Series(["Diptera", "diptera", "Diptera ", "Odonata"]).astype(dtype)}))
    with pytest.raises(SpecimenError, match=r"'Diptera' \(2\) and 'diptera' \(1\)"):
        load_specimens("made")


def test_no_label_at_all_is_refused(source):
    source(pd.DataFrame({"order": ["", None]}))
    with pytest.raises(SpecimenError, match="nothing to learn"):
        load_specimens("made")


def test_one_class_only_cannot_be_trained():
    with pytest.raises(SpecimenError, match="one class only"):
        made(list("AAAAA")).require_trainable()


def test_classes_too_small_to_split_are_named_with_a_remedy():
    with pytest.raises(SpecimenError, match=r"2 of 3 classes .* B \(1\), C \(2\).*min_records 3"):
        made(list("AAAABCC")).require_trainable()
    with pytest.raises(SpecimenError, match="add photographs"):
        made(list("AB")).require_trainable()
    made(list("AAABBB")).require_trainable()


def test_a_limit_keeps_the_shares_and_every_class(source):
    orders = ["A"] * 700 + ["B"] * 290 + ["C"] * 10
    source(pd.DataFrame({"order": orders, "row": range(1000)}))
    part = load_specimens("made", limit=100)
    assert len(part) == 100 and part.counts()["C"] == 3  # 1 in proportion, 3 to be on every side
    assert abs(part.counts()["A"] - 70) <= 2
    assert part.records["row"].is_monotonic_increasing
    assert part.records.equals(load_specimens("made", limit=100).records)
    assert not part.records.equals(load_specimens("made", limit=100, seed=1).records)
    assert len(load_specimens("made", limit=5000)) == 1000
    with pytest.raises(SpecimenError, match="limit=8"):
        load_specimens("made", limit=8)


def test_a_limit_keeps_the_sides_of_a_split_column(source):
    orders = ["A", "B"] * 50
    source(pd.DataFrame({"order": orders, "split": ["train"] * 70 + ["val"] * 20 + ["test"] * 10}))
    sides = load_specimens("made", limit=20).split("official")
    assert [len(side) for side in sides] == [14, 4, 2]
    assert all((side.counts() > 0).all() for side in sides)


def test_a_limit_draws_alike_from_text_and_from_categories(source):
    records = pd.DataFrame(
        {"order": ["A", "B"] * 50, "split": ["val"] * 30 + ["train"] * 60 + ["test"] * 10, "row": range(100)}
    )
    drawn = []
    for categories in (None, ["train", "val", "test"], ["val", "test", "train"]):
        kept = (
            records
            if categories is None
            else records.assign(split=pd.Categorical(records["split"], categories))
        )
        source(kept)
        drawn.append(load_specimens("made", limit=20).records["row"].tolist())
    assert drawn[0] == drawn[1] == drawn[2]


def test_records_alone_become_a_collection(source):
    source(pd.DataFrame({"order": list("AABB") * 5, "country": list("xyz?") * 5}))
    specimens = load_specimens("made", limit=12)
    assert specimens.images is None and all(side.images is None for side in specimens.split("paper"))
    assert len(specimens.fingerprint) == 64


def test_images_come_channels_last_and_in_the_order_asked():
    images = made(list("AB") * 5).images
    batch = images.take(torch.tensor([7, 2]))
    assert batch.shape == (2, 3, 8, 8) and batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch[:, 1, 3, 3].tolist() == [7, 2]


def test_images_can_live_in_a_file(tmp_path):
    store = made(list("AB") * 5).images
    np.save(tmp_path / "images.npy", store.pixels(range(10)))
    opened = ImageStore.open(tmp_path / "images.npy")
    assert (
        isinstance(opened._pixels, np.memmap) and opened.fingerprint == store.fingerprint and opened.size == 8
    )
    (tmp_path / "images.npy").write_bytes((tmp_path / "images.npy").read_bytes()[:300])
    with pytest.raises(SpecimenError, match="Delete it"):
        ImageStore.open(tmp_path / "images.npy")
    with pytest.raises(SpecimenError, match="uint8"):
        ImageStore(np.zeros((2, 8, 8, 3)))


def test_examples_show_every_class_largest_first():
    specimens = made(list("ABBCBCBC"))
    shown = specimens.examples(per_class=2)
    assert specimens.label_names[shown].tolist() == ["B", "B", "C", "C", "A"] and len(set(shown)) == 5

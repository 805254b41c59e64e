"""Folders and tables as people have them (issue reports of neighbouring tools): the right records, or a word about it."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bionas.errors import SpecimenError
from bionas.specimens import ImageStore, SpecimenSet, load_specimens
from bionas.specimens.copies import identical_images
from bionas.specimens.measurements import numbers
from bionas.specimens.notes import left_out


def photographs(root, *files):
    """One small photograph per file, each of its own two colours."""
    for number, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (8, 8), (number * 5 % 256, number * 37 % 256, 99))
        image.putpixel((0, 0), (255, 255, 255))
        image.save(root / file, format="PNG")
    return root


@pytest.fixture
def load(tmp_path):
    def opened(root, **options):
        return load_specimens("folder", root, image_size=8, cache_dir=tmp_path / "cache", **options)

    return opened


def table(root, *lines, name="labels.csv", newline="\n", encoding="utf-8"):
    (root / name).write_bytes(newline.join([*lines, ""]).encode(encoding))
    return root


# Folders


@pytest.mark.parametrize(
    "sides", [("train", "valid", "test"), ("Training", "Validation", "Testing"), ("train", "dev", "test")]
)
def test_sides_above_classes_are_no_classes_whatever_lies_beside_them(tmp_path, load, sides):
    files = [f"{side}/{order}/{i}.png" for side in sides for order in "AB" for i in range(3)]
    root = photographs(tmp_path / "d", *files, "predict/x.png", "predict/y.png")
    specimens = load(root)
    assert specimens.class_names == ("A", "B") and len(specimens) == 18
    assert specimens.records["split"].value_counts().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert left_out(specimens.notes) == 2 and any("predict" in note for note in specimens.notes)


def test_sides_without_classes_below_them_are_refused(tmp_path, load):
    with pytest.raises(SpecimenError, match="sides of a split"):
        load(photographs(tmp_path / "d", "train/a.png", "test/b.png"))


def test_links_in_circles_and_thumbnails_add_no_specimens(tmp_path, load):
    root = photographs(tmp_path / "d", "A/1.png", "A/2.png", "B/3.png", "B/4.png", "A/@eaDir/1.png")
    away = photographs(tmp_path / "away", "5.png")
    (root / "all").symlink_to(root)
    (root / "B" / "up").symlink_to(root / "A")
    (root / "C").symlink_to(away)
    specimens = load(root)
    assert specimens.counts().to_dict() == {"A": 2, "B": 2, "C": 1}
    assert any("links" in note and "all" in note and "B/up" in note for note in specimens.notes)


def test_a_class_of_photographs_that_cannot_be_read_does_not_vanish(tmp_path, load):
    root = photographs(tmp_path / "d", "A/1.png", "B/2.png", "C/3.HEIC", "A/4.HEIC")
    with pytest.raises(SpecimenError, match=r"\.heic.*JPEG.*No other photographs are there of: C"):
        load(root)
    specimens = load(root, missing_images="skip")
    assert specimens.class_names == ("A", "B") and left_out(specimens.notes) == 2
    (root / "C" / "3.HEIC").unlink()
    assert any("1 photographs are .heic" in note for note in load(root).notes)


def test_folders_named_by_numbers_are_classes(tmp_path, load):
    root = photographs(tmp_path / "d", *[f"{name}/{i}.png" for name in ("1", "2", "03") for i in range(2)])
    assert load(root, target=2024).class_names == ("03", "1", "2")


# Labels


def test_one_text_of_several_code_points_is_one_class(tmp_path, load):
    root = photographs(tmp_path / "d", *"abcde")
    for file in "abcde":
        (root / file).rename(root / f"{file}.png")
    name = "Coléoptère"
    spelt = [name, unicodedata.normalize("NFD", name), "Col\u200béoptère", "Diptera", "#N/A"]
    specimens = load(
        table(root, "file,order", *(f"{f}.png,{label}" for f, label in zip("abcde", spelt, strict=True)))
    )
    assert specimens.counts().to_dict() == {"Coléoptère": 3, "Diptera": 1} and left_out(specimens.notes) == 1


def test_words_that_may_mean_not_known_are_noted(tmp_path, load):
    root = photographs(tmp_path / "d", "a.png", "b.png", "c.png")
    specimens = load(table(root, "file,order", "a.png,?", "b.png,unknown", "c.png,Diptera"))
    assert len(specimens.class_names) == 3
    assert any("'?' (1), 'unknown' (1) count as classes" in note for note in specimens.notes)


def test_namibia_is_a_country(tmp_path, load):
    root = photographs(tmp_path / "d", "a.png", "b.png", "c.png")
    table(root, "file,order,country", "a.png,A,NA", "b.png,B,ZA", "c.png,A,")
    for specimens in (
        load(root),
        load_specimens("records", root / "labels.csv", cache_dir=tmp_path / "cache"),
    ):
        assert specimens.records["country"].astype(object).fillna("-").tolist() == ["NA (Namibia)", "ZA", "-"]
        assert any("Namibia" in note for note in specimens.notes)
    table(root, "file,order,country", "a.png,A,NA", "b.png,B,Peru", "c.png,A,")
    assert load(root).records["country"].isna().tolist() == [True, False, True]


# Numbers


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1,250", "987"], [1250, 987]),
        (["1,250", "3,400,000"], [1250, 3_400_000]),
        (["1,250", "9,5"], [1.25, 9.5]),
        (["0,250", "1,125"], [0.25, 1.125]),
        (["1,250.5", "2.5"], [1250.5, 2.5]),
        (["1.250,5", "12"], [1250.5, 12]),
        (["1 250", "1\u202f250,5", "1'250"], [1250, 1250.5, 1250]),
        (["-3,5", "+4", "1e3", ".5", "12."], [-3.5, 4, 1000, 0.5, 12]),
    ],
)
def test_commas_are_read_for_the_whole_column(texts, values):
    assert numbers(pd.Series(texts, dtype=object)).values.tolist() == values


def test_a_latitude_has_no_thousands_and_what_is_no_number_is_named():
    read = numbers(pd.Series(["45,123", "12", "9.5 N", "1_000", "0x1f", ""], dtype=object), "coord-lat")
    assert read.values[:2].tolist() == [45.123, 12] and read.values[2:].isna().all()
    assert read.wrong == ["0x1f", "1_000", "9.5 N"] and "decimal comma" in read.notes[0]


def test_impossible_numbers_are_missing_and_said(tmp_path, load):
    root = photographs(tmp_path / "d", "a.png", "b.png", "c.png")
    table(root, "file,order,lat,area_fraction", "a.png,A,-9999,0.5", "b.png,B,59,45", "c.png,A,600,inf")
    for specimens in (
        load(root),
        load_specimens("records", root / "labels.csv", cache_dir=tmp_path / "cache"),
    ):
        assert specimens.records["coord-lat"].isna().tolist() == [True, False, True]
        assert specimens.records["area_fraction"].isna().tolist() == [False, True, True]
        assert any("outside -90 to 90" in note and "-9999, 600" in note for note in specimens.notes)


# Tables


@pytest.mark.parametrize(
    "lines",
    [
        ["file,order", "a.png,A", "b.png,B"],
        ["sep=;", "file;order", "a.png;A", "b.png;B"],
        ["Survey of moths, 2023", "", "file,order", "a.png,A", "b.png,B"],
        ['file;order;"size, weight, length, width"', "a.png;A;1,2", "b.png;B;3,4"],
        ["file|order", "a.png|A", "b.png|B"],
        ["file,order,,", "a.png,A,,", "b.png,B,,"],
        ["file,order", "a.png,A,,", "b.png,B,,"],
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_tables_as_programs_save_them(tmp_path, load, lines, newline):
    root = table(photographs(tmp_path / "d", "a.png", "b.png"), *lines, newline=newline)
    assert load(root).label_names.tolist() == ["A", "B"]
    if lines[1].count(",") == lines[0].count(",") or ";" in lines[1]:
        records = load_specimens("records", root / "labels.csv", cache_dir=tmp_path / "cache")
        assert records.label_names.tolist() == ["A", "B"]


def test_rows_on_no_side_are_counted_and_a_misspelt_side_is_refused(tmp_path, load):
    root = photographs(tmp_path / "d", *[f"{i}.png" for i in range(12)])
    sides = ["train"] * 4 + ["val"] * 3 + ["test"] * 3 + ["", "unused"]
    rows = [f"{i}.png,{'AB'[i % 2]},{side}" for i, side in enumerate(sides)]
    specimens = load(table(root, "file,order,split", *rows))
    split = specimens.split("official")
    assert sum(map(len, split)) == 10 and any(
        "2 of 12 specimens are on no side" in note for note in split.notes
    )
    rows[0] = rows[0].replace("train", "tarin")
    with pytest.raises(SpecimenError, match="1 records are marked 'tarin'.*Is it 'train'"):
        load(table(root, "file,order,split", *rows)).split("official")


# File names


@pytest.mark.parametrize(
    "written",
    [
        "d/images/IMG_0.png",
        "D:\\survey 2023\\images\\IMG_0.png",
        "C:\\IMG_0.png",
        "images/IMG_0",
        "IMG_0",
        "./images//IMG_0.png",
    ],
)
def test_paths_of_other_machines_find_their_photograph(tmp_path, load, written):
    root = photographs(tmp_path / "d", "images/IMG_0.png", "images/IMG_1.png")
    specimens = load(table(root, "file,order", f"{written},A", "images/IMG_1.png,B"))
    assert specimens.records["file"].tolist() == ["images/IMG_0.png", "images/IMG_1.png"]


def test_names_composed_differently_are_the_same_name(tmp_path, load):
    name = "Größe é.png"
    root = photographs(tmp_path / "d", unicodedata.normalize("NFD", name), "b.png")
    specimens = load(table(root, "file,order", f"{name},A", "b.png,B"))
    assert len(specimens) == 2 and specimens.label_names.tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("c.heic", "is there as 'c.HEIC', but .HEIC photographs cannot be read: convert it to JPEG"),
        ("c.jpg", "is there as 'c.HEIC'"),
        ("a.jpg", "is not there, but 'a.png' is: the suffix differs"),
        ("zz.png", "is not there."),
    ],
)
def test_what_is_the_matter_with_a_name_is_said(tmp_path, load, written, says):
    root = photographs(tmp_path / "d", "a.png", "b.png", "c.HEIC")
    table(root, "file,order", f"{written},A", "b.png,B")
    with pytest.raises(SpecimenError) as error:
        load(root)
    assert says in str(error.value) and 'source_options="missing_images=skip"' in str(error.value)


def test_a_guess_is_no_guess_where_another_row_names_the_photograph(tmp_path, load):
    root = photographs(tmp_path / "d", "set1/a.png", "set1/b.png")
    table(root, "file,order", "set1/a.png,A", "set2/a.png,B", "set1/b.png,B")
    with pytest.raises(
        SpecimenError, match=r"'set2/a.png' is not there; 'set1/a.png' is, but it is named by another row"
    ):
        load(root)


# Choices out of range


@pytest.mark.parametrize(
    "choice",
    [
        {"image_size": -5},
        {"workers": -1},
        {"max_unreadable": "0,5"},
        {"max_unreadable": 5},
        {"limit": 0},
        {"limit": 1.5},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(tmp_path, choice):
    with pytest.raises(SpecimenError, match=next(iter(choice))):
        load_specimens("folder", tmp_path, **({"image_size": 8} | choice))


# Identical photographs


def drawn(n, same=(), labels=None, **columns):
    """n specimens whose images differ, but for the pairs in `same`."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    for one, other in same:
        pixels[other] = pixels[one]
    labels = np.arange(n) % 2 if labels is None else np.asarray(labels)
    records = pd.DataFrame(
        {"file": [f"{i}.png" for i in range(n)], "order": np.array(["A", "B"])[labels], **columns}
    )
    return SpecimenSet(records, labels, ("A", "B"), ImageStore(pixels))


def test_identical_images_are_found_and_plain_ones_are_not_compared():
    specimens = drawn(6, same=[(0, 4), (1, 5)])
    assert identical_images(specimens.images).tolist() == [0, 1, -1, -1, 0, 1]
    black = ImageStore(np.zeros((3, 4, 4, 3), np.uint8))
    assert (identical_images(black) == -1).all() and identical_images(None) is None


@pytest.mark.parametrize("scheme", ["paper", "seran", "bin_disjoint", "grouped:trap"])
def test_identical_photographs_stay_on_one_side(scheme):
    same = [(i, 100 + i) for i in range(60)]
    specimens = drawn(
        200, same, dna_bin=[f"B{i}" for i in range(200)], trap=[f"t{i % 70}" for i in range(200)]
    )
    split = specimens.split(scheme, seed=3)
    assert sum(map(len, split)) == 200
    side = {file: number for number, part in enumerate(split) for file in part.records["file"]}
    assert all(side[f"{one}.png"] == side[f"{other}.png"] for one, other in same)


def test_contradicting_labels_of_one_photograph_are_listed(tmp_path, load):
    root = photographs(tmp_path / "d", "a.png", "b.png", "c.png", "d.png")
    (root / "b.png").write_bytes((root / "a.png").read_bytes())
    notes = load(table(root, "file,order", "a.png,A", "b.png,B", "c.png,A", "d.png,B")).notes
    assert any(
        "2 photographs have the same pixels" in note and "a.png (A) and b.png (B)" in note for note in notes
    )


def test_a_split_of_the_records_own_says_what_it_leaks_and_what_it_cannot_measure():
    sides = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    specimens = drawn(10, same=[(0, 8)], labels=[0] * 6 + [1, 0, 0, 1], split=sides)
    notes = " ".join(specimens.split("official").notes)
    assert "1 of 2 test photographs are also in training" in notes
    assert "classes in test but not in training: B (1). No model can name more than 50.0%" in notes
    one_class = drawn(10, labels=[0, 1] * 4 + [0, 0], split=sides).split("official").notes
    assert any("all test specimens are 'A'" in note for note in one_class)

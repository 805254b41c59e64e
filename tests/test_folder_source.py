"""A folder of photographs with a table: what is read, what is skipped and said, what is refused in which words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import load_specimens
from bionas.specimens.decoding import decode
from bionas.specimens.tables import read_table

COLORS = {"Diptera": (200, 30, 30), "Odonata": (30, 200, 30), "Mantodea": (30, 30, 200)}


class Folder:
    """A folder of twelve photographs, four of each order, and a table that a test can spoil."""

    def __init__(self, path):
        self.path = path / "moths"
        (self.path / "images").mkdir(parents=True)
        self.rows = []
        for i in range(12):
            order = list(COLORS)[i % 3]
            Image.new("RGB", (20, 12), COLORS[order]).save(self.path / f"images/p{i:02}.png")
            self.rows.append([f"images/p{i:02}.png", order, ["train", "val", "test"][i // 3 % 3]])
        self.header = ["file", "order", "split"]
        self.cache = path / "cache"

    def write(self, text=None, name="labels.csv", encoding="utf-8"):
        lines = [",".join(map(str, row)) for row in [self.header, *self.rows]]
        (self.path / name).write_bytes(("\n".join(lines) + "\n" if text is None else text).encode(encoding))
        return self

    def load(self, **options):
        return load_specimens("folder", self.path, cache_dir=self.cache, image_size=8, **options)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_photographs_and_rows_meet(folder):
    specimens = folder.write().load()
    assert len(specimens) == 12 and specimens.class_names == ("Diptera", "Mantodea", "Odonata")
    assert specimens.notes == () and specimens.caption == "Photographs in moths" and not specimens.synthetic
    for i, name in enumerate(specimens.label_names):
        assert tuple(specimens.images.pixels([i])[0, 4, 4]) == COLORS[name]
    assert [len(side) for side in specimens.split("official")] == [6, 3, 3]


def test_the_second_opening_comes_from_the_cache_and_a_changed_photograph_does_not(folder):
    first = folder.write().load()
    files = sorted(file for file in folder.cache.iterdir() if file.suffix != ".lock")
    times = [file.stat().st_mtime_ns for file in files]
    again = folder.load()
    assert again.fingerprint == first.fingerprint and [file.stat().st_mtime_ns for file in files] == times
    assert {file.suffix for file in files} == {".npy", ".json"}
    Image.new("RGB", (21, 12), (1, 2, 3)).save(folder.path / "images/p00.png")
    changed = folder.load()
    assert (
        tuple(changed.images.pixels([0])[0, 4, 4]) == (1, 2, 3) and changed.fingerprint != first.fingerprint
    )


def test_a_cache_cut_short_is_built_again(folder):
    first = folder.write().load()
    for file in folder.cache.glob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])
    assert folder.load().fingerprint == first.fingerprint
    for file in folder.cache.glob("*.json"):
        file.write_text('{"key": ')
    assert folder.load().fingerprint == first.fingerprint


def test_threads_change_nothing(folder):
    one = folder.write().load(workers=1)
    folder.cache = folder.path / "elsewhere"
    assert folder.load(workers=4).fingerprint == one.fingerprint


# The folder


def test_no_folder(folder, tmp_path):
    with pytest.raises(SpecimenError, match="Did you mean .*moths"):
        load_specimens("folder", tmp_path / "mohts")
    with pytest.raises(SpecimenError, match="data_dir"):
        load_specimens("folder")
    folder.write()
    with pytest.raises(SpecimenError, match="is a file"):
        load_specimens("folder", folder.path / "labels.csv")


def test_no_images(tmp_path):
    (tmp_path / "labels.csv").write_text("file,order\na.jpg,Diptera\n")
    with pytest.raises(SpecimenError, match=r"no images in .*1 other files.*\.jpg"):
        load_specimens("folder", tmp_path)


def test_several_tables_need_a_choice(folder):
    folder.write(name="a.csv").write(name="b.csv")
    with pytest.raises(SpecimenError, match=r"a.csv, b.csv.*labels='a.csv'"):
        folder.load()
    assert len(folder.load(labels="b.csv")) == 12
    with pytest.raises(SpecimenError, match="labels='c.csv'.*a.csv, b.csv"):
        folder.load(labels="c.csv")


def test_sub_folders_are_labels_where_there_is_no_table(folder):
    for file, order, _ in folder.rows:
        (folder.path / order).mkdir(exist_ok=True)
        (folder.path / file).rename(folder.path / order / file.removeprefix("images/"))
    Image.new("RGB", (9, 9)).save(folder.path / "loose.png")
    specimens = folder.load()
    assert specimens.counts().to_dict() == {"Diptera": 4, "Mantodea": 4, "Odonata": 4}
    assert "sub-folders" in specimens.notes[0] and "loose.png" in specimens.notes[1]


def test_sides_above_the_labels_are_the_official_split(folder):
    for file, order, side in folder.rows:
        (folder.path / side / order).mkdir(exist_ok=True, parents=True)
        (folder.path / file).rename(folder.path / side / order / file.removeprefix("images/"))
    specimens = folder.load()
    assert specimens.class_names == ("Diptera", "Mantodea", "Odonata")
    assert [len(side) for side in specimens.split("official")] == [6, 3, 3]


def test_one_folder_without_a_table_is_no_collection(folder):
    with pytest.raises(SpecimenError, match=r"no table of labels.*'images'.*labels.csv"):
        folder.load()


# The table


def test_no_label_column(folder):
    folder.header = ["file", "Ordre", "split"]
    with pytest.raises(
        SpecimenError, match=r"labels.csv has no column 'order'. Columns: file, Ordre, split. Rename 'Ordre'"
    ):
        folder.write().load()
    with pytest.raises(SpecimenError, match="no column 'family'"):
        folder.load(target="family")


def test_no_file_column(folder):
    folder.header = ["photo", "order", "split"]
    with pytest.raises(SpecimenError, match=r"names the images \(`file`\). Columns: photo, order, split"):
        folder.write().load()


@pytest.mark.parametrize(
    "header",
    [["Filename", "ORDER", "Split"], ["path", " order ", "split"], ["\ufeffImage", "Order", "SPLIT"]],
)
def test_headers_are_read_in_any_case(folder, header):
    folder.header = header
    assert folder.write().load().split("official").train.records["file"].iloc[0] == "images/p00.png"


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), ("\n\n", "is empty"), ("file,order\n", "no rows")]
)
def test_an_empty_table(folder, text, words):
    with pytest.raises(SpecimenError, match=words):
        folder.write(text).load()


def test_a_table_cut_in_the_middle_of_a_row(folder):
    folder.rows[-1] = ["images/p1"]
    with pytest.raises(SpecimenError, match=r"labels.csv, row 13: 1 fields where the header has 3"):
        folder.write().load()


def test_a_workbook_is_not_a_csv(folder):
    folder.write("PK\x03\x04 and so on", encoding="latin-1")
    with pytest.raises(SpecimenError, match="Excel workbook"):
        folder.load()


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_and_decimal_commas(folder, delimiter):
    folder.header = ["file", "order", "lat"]
    folder.rows = [[file, order, f"{i},5"] for i, (file, order, _) in enumerate(folder.rows)]
    text = "\n".join(delimiter.join(row) for row in [folder.header, *folder.rows])
    specimens = folder.write(text, name="labels.csv" if delimiter == ";" else "labels.tsv").load()
    assert specimens.records["coord-lat"].tolist() == [i + 0.5 for i in range(12)]


def test_lines_in_two_encodings_are_read_and_said(folder):
    folder.header.append("country")
    folder.rows = [[*row, "Peru"] for row in folder.rows]
    folder.write()
    lines = (folder.path / "labels.csv").read_bytes().splitlines()
    lines[2] = lines[2].replace(b"Peru", "Curaçao".encode("cp1252"))
    lines[3] = lines[3].replace(b"Peru", "Côte d’Ivoire".encode())
    (folder.path / "labels.csv").write_bytes(b"\n".join(lines))
    specimens = folder.load()
    assert specimens.records["country"].iloc[1:3].tolist() == ["Curaçao", "Côte d’Ivoire"]
    assert "1 of 13 lines are not UTF-8 (lines 3)" in specimens.notes[0]


def test_empty_cells_are_missing_values(folder):
    folder.header.append("genus")
    folder.rows = [
        [*row, "" if i < 3 else "No Taxon" if i == 3 else "Apis"] for i, row in enumerate(folder.rows)
    ]
    assert folder.write().load().records["genus"].isna().tolist() == [True] * 4 + [False] * 8


def test_two_columns_of_one_name(folder):
    folder.header = ["file", "order", "Order"]
    with pytest.raises(SpecimenError, match="more than one column is called 'order'"):
        folder.write().load()


def test_measurements_that_are_no_numbers_count_as_missing(folder):
    folder.header.append("area_fraction")
    folder.rows = [
        [*row, "big" if i == 3 else "NA" if i == 4 else i / 100] for i, row in enumerate(folder.rows)
    ]
    specimens = folder.write().load()
    assert (
        np.isnan(specimens.records["area_fraction"][[3, 4]]).all()
        and specimens.records["area_fraction"][2] == 0.02
    )
    assert "1 values are no numbers and count as missing: big" in specimens.notes[0]


def test_equal_rows_count_once_and_quarrelling_rows_are_refused(folder):
    folder.rows.append(folder.rows[2])
    specimens = folder.write().load()
    assert (
        len(specimens) == 12
        and "1 rows of labels.csv repeat an image" in specimens.notes[0]
        and "row 14" in specimens.notes[0]
    )
    folder.rows[-1] = [folder.rows[2][0], "Diptera", "train"]
    with pytest.raises(SpecimenError, match=r"rows 4 and 14: 'images/p02.png' is 'Mantodea' and 'Diptera'"):
        folder.write().load()


def test_one_class_only(folder):
    folder.rows = [[file, "Diptera", side] for file, _, side in folder.rows]
    with pytest.raises(SpecimenError, match="one class only"):
        folder.write().load().require_trainable()


# Rows and photographs that do not meet


def test_a_name_in_another_case_is_pointed_out(folder):
    folder.rows[4][0] = "images/P04.PNG"
    with pytest.raises(SpecimenError) as error:
        folder.write().load()
    assert str(error.value) == (
        "labels.csv, row 6: 'images/P04.PNG' is not there, but 'images/p04.png' is.\n"
        '1 of 12 files are missing (8.3%). Fix the names, or pass `missing_images="skip"` '
        '(on the command line: -p source_options="missing_images=skip") to go on without them.'
    )


def test_labels_without_images_can_be_skipped_and_are_counted(folder):
    for file in ("p00", "p05"):
        (folder.path / f"images/{file}.png").unlink()
    with pytest.raises(
        SpecimenError, match=r"row 2: 'images/p00.png' is not there.\nlabels.csv, row 7.*\n2 of 12"
    ):
        folder.write().load()
    specimens = folder.load(missing_images="skip")
    assert len(specimens) == 10 and "2 of 12 files are missing (16.7%)" in specimens.notes[0]
    folder.rows = [["a.png", "Diptera", "train"]]
    with pytest.raises(SpecimenError, match="nothing is left"):
        folder.write().load(missing_images="skip")


def test_images_without_labels_are_left_out_and_counted(folder):
    folder.rows = folder.rows[:10]
    specimens = folder.write().load()
    assert len(specimens) == 10
    assert specimens.notes == (
        "2 of 12 images have no label and were left out: images/p10.png, images/p11.png.",
    )


def test_rows_that_name_no_image_are_left_out_and_counted(folder):
    folder.rows[0][0] = ""
    notes = folder.write().load().notes
    assert "1 rows of labels.csv name no image and were left out: row 2." in notes[0]


def test_windows_paths_full_paths_and_bare_names_are_understood(folder):
    folder.rows[0][0] = "images\\p00.png"
    folder.rows[1][0] = "./images/p01.png"
    folder.rows[2][0] = "p02.png"
    folder.rows[3][0] = str(folder.path / "images/p03.png")
    assert folder.write().load().records["file"].tolist()[:4] == [f"images/p{i:02}.png" for i in range(4)]
    (folder.path / "more").mkdir()
    Image.new("RGB", (9, 9)).save(folder.path / "more/p02.png")
    with pytest.raises(SpecimenError, match="could be 'images/p02.png' or 'more/p02.png': write the path"):
        folder.load()


# Photographs


def test_unreadable_images_are_skipped_listed_and_counted(folder):
    (folder.path / "images/p04.png").write_bytes(b"")
    (folder.path / "images/p07.png").write_text("no image at all")
    intact = (folder.path / "images/p08.png").read_bytes()
    (folder.path / "images/p08.png").write_bytes(intact[: len(intact) // 2])
    with pytest.raises(
        SpecimenError, match=r"3 of 12 photographs cannot be read \(25.0%\).*max_unreadable=5.0%"
    ):
        folder.write().load()
    for _ in range(2):  # decoded, then from the cache
        specimens = folder.load(max_unreadable=0.3)
        assert len(specimens) == 9 and not {"images/p04.png", "images/p07.png"} & set(
            specimens.records["file"]
        )
        assert (
            "images/p04.png (the file is empty), images/p07.png (not an image), images/p08.png"
            in specimens.notes[0]
        )
        for i, name in enumerate(specimens.label_names):
            assert tuple(specimens.images.pixels([i])[0, 4, 4]) == COLORS[name]


def test_a_truncated_jpeg_is_unreadable(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:9000])
    assert decode(tmp_path / "a.jpg", 16).shape == (16, 16, 3)
    assert "truncated" in decode(tmp_path / "b.jpg", 16).reason


def test_crop_pad_and_stretch(tmp_path):
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, :20], stripes[:, 20:60], stripes[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    middle = {fit: decode(tmp_path / "stripes.png", 40, fit) for fit in ("crop", "pad", "stretch")}
    assert (middle["crop"] == (0, 255, 0)).all()  # the square in the middle
    assert (middle["pad"][:6] == 128).all() and tuple(middle["pad"][20, 2]) == (255, 0, 0)
    assert tuple(middle["stretch"][2, 2]) == (255, 0, 0) and tuple(middle["stretch"][38, 38]) == (0, 0, 255)


def test_photographs_are_turned_upright_by_their_exif(tmp_path):
    half = np.zeros((32, 32, 3), np.uint8)
    half[:16] = 255  # bright on top as stored
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(half).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = decode(tmp_path / "a.jpg", 32)
    assert upright[:12].mean() < 20 and upright[20:].mean() > 235


def test_resizing_is_antialiased_also_for_large_jpegs(tmp_path):
    fine = np.indices((640, 640)).sum(0) % 2 * 255
    Image.fromarray(fine.astype(np.uint8)).save(tmp_path / "fine.png")
    Image.fromarray(np.stack([fine.astype(np.uint8)] * 3, -1)).save(tmp_path / "fine.jpg", quality=95)
    for name in ("fine.png", "fine.jpg"):
        assert np.abs(decode(tmp_path / name, 32).astype(int) - 128).max() < 12  # grey, not moiré


def test_grey_transparent_and_sixteen_bit_images(tmp_path):
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((9, 9), 77 * 256, np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (9, 9)).save(tmp_path / "print.jpg")
    assert (decode(tmp_path / "grey.png", 9) == 77).all() and (decode(tmp_path / "deep.png", 9) == 77).all()
    assert (decode(tmp_path / "clear.png", 9) == 255).all() and decode(tmp_path / "print.jpg", 9).shape == (
        9,
        9,
        3,
    )


def test_unknown_options(folder):
    folder.write()
    with pytest.raises(UnknownName, match="'crop'"):
        folder.load(fit="corp")
    with pytest.raises(UnknownName, match="max_unreadable"):
        folder.load(max_unreadble=0.1)


def test_a_full_table_is_read_with_its_lines(tmp_path):
    (tmp_path / "t.csv").write_text('file,order\n"a, b.jpg",Diptera\n\nc.jpg,Odonata\n')
    table = read_table(tmp_path / "t.csv")
    assert table.frame["file"].tolist() == ["a, b.jpg", "c.jpg"] and table.lines.tolist() == [2, 4]


# Real photographs


def test_field_photographs(shared_data, tmp_path):
    specimens = load_specimens("folder", shared_data / "field_orders", cache_dir=tmp_path)
    assert len(specimens) == 5598 and len(specimens.class_names) == 12 and specimens.notes == ()
    assert specimens.counts().max() / 5598 == pytest.approx(0.143, abs=0.001)  # the majority class
    specimens.require_trainable()
    assert [len(side) for side in specimens.split("official")] == [3922, 838, 838]
    row = specimens.records["file"][4321]
    original = np.asarray(Image.open(shared_data / "field_orders" / row).convert("RGB"))
    assert (specimens.images.pixels([4321])[0] == original).all()  # they are 64 x 64 already


def test_one_specimen_an_order_loads_and_is_refused_for_training(shared_data, tmp_path):
    specimens = load_specimens("folder", shared_data / "bioscan1m_specimens", cache_dir=tmp_path)
    assert len(specimens) == 19 == len(specimens.class_names)
    assert specimens.images.take(range(19)).float().std() > 10
    with pytest.raises(SpecimenError, match=r"19 of 19 classes.*Strepsiptera \(1\).*add photographs"):
        specimens.require_trainable()

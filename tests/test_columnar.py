"""Large tables: the columns and rows asked for, what is kept for the next time, and what is refused in which words."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import io
import multiprocessing
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import scripts

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import csv_file
from bionas.specimens.columnar import read_columns, split_names
from bionas.specimens.schema import COLUMNS, NUMERIC
from bionas.system import files

VALUES = {
    "processid": "GMA{i}-22",
    "sampleid": "BIOUG{i}",
    "taxon": "Diptera",
    "phylum": "Arthropoda",
    "class": "Insecta",
    "order": ("Diptera", "Odonata", ""),
    "family": ("Phoridae", ""),
    "dna_bin": "BOLD:AAA{i}",
    "dna_barcode": "ACGT{i}",
    "country": ("Costa Rica", "Canada"),
    "coord-lat": ("9.5", "-37.97005", ""),
    "coord-lon": "-84.25",
    "image_measurement_value": "27293.0",
    "area_fraction": "0.25",
    "scale_factor": "1.125",
    "inferred_ranks": ("0", "2"),
    "split": ("pretrain", "train", "val", "test", "key_unseen"),
    "index_bioscan_1M_insect": ("", "150502"),
    "chunk": ("0a", "f", "", "", ""),
}
"""What row i of `table` holds, in BIOSCAN-5M's columns; several texts take turns."""


def cell(column, i):
    value = VALUES.get(column, "")
    return (value if isinstance(value, str) else value[i % len(value)]).format(i=i)


def table(path, n=40, header=COLUMNS, **changed):
    """A table of n rows laid out as BIOSCAN-5M's, with `changed` = {column: {row: text}}."""
    rows = [[changed.get(c, {}).get(i, cell(c, i)) for c in COLUMNS] for i in range(n)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


@pytest.fixture(params=[8 << 20, 700], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(csv_file, "BLOCK", request.param)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(csv_file, "BLOCK", 700)


def as_pandas_reads_it(path, **options):
    return pd.read_csv(path, dtype=str, keep_default_na=False, **options)


def refusal(path, *arguments, **options):
    with pytest.raises(SpecimenError) as caught:
        read_columns(path, *arguments, **options)
    return str(caught.value)


# What is read


def test_every_column_but_the_barcodes_as_it_stands_in_the_file(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv")
    frame, notes, checksum, rows = read_columns(path)
    expected = as_pandas_reads_it(path)
    assert list(frame) == [c for c in COLUMNS if c != "dna_barcode"] and notes == ()
    assert checksum == hashlib.md5(path.read_bytes()).hexdigest() and rows == len(frame) == 40
    for name in frame:
        if frame[name].dtype.kind in "fiu":
            wanted = pd.to_numeric(expected[name]).to_numpy(float, na_value=np.nan)
            np.testing.assert_allclose(frame[name].to_numpy(float, na_value=np.nan), wanted, rtol=1e-7)
        else:
            assert (
                frame[name].astype(object).where(frame[name].notna(), "").tolist() == expected[name].tolist()
            ), name


def test_few_values_are_categories_names_are_strings_and_numbers_are_narrow(tmp_path):
    frame = read_columns(table(tmp_path / "metadata.csv")).frame
    assert frame["order"].cat.categories.tolist() == ["Diptera", "Odonata"]  # sorted, missing is none of them
    assert frame["order"].cat.codes.dtype == np.int8 and (frame["order"].cat.codes[:3] == [0, 1, -1]).all()
    assert isinstance(frame["chunk"].dtype, pd.CategoricalDtype) and isinstance(
        frame["processid"].dtype, pd.StringDtype
    )
    assert {str(frame[name].dtype) for name in NUMERIC} == {"float32"}
    assert frame["index_bioscan_1M_insect"].dtype == frame["inferred_ranks"].dtype == "Int32"
    assert frame["index_bioscan_1M_insect"].isna().sum() == 20


def test_a_number_that_float32_would_round_stays_whole(tmp_path, small_blocks):
    path = table(tmp_path / "metadata.csv", image_measurement_value={30: "16777217"})
    column = read_columns(path, ["image_measurement_value"]).frame["image_measurement_value"]
    assert column.dtype == np.float64 and column[30] == 16777217 and column[0] == 27293


def test_columns_come_in_the_order_asked_for_under_any_known_name(tmp_path):
    frame = read_columns(table(tmp_path / "metadata.csv"), ["dna_barcode", "lat", "order"], required=()).frame
    assert list(frame) == ["dna_barcode", "coord-lat", "order"] and frame["dna_barcode"][3] == "ACGT3"


@pytest.mark.parametrize("kept", [False, True], ids=["no cache", "cache"])
def test_rows_of_the_splits_asked_for(tmp_path, blocks, kept):
    path = table(tmp_path / "metadata.csv")
    everything = as_pandas_reads_it(path)
    cache = tmp_path / "cache" if kept else None
    for asked, sides in {
        "train+validation": ["train", "val"],
        "unseen": ["key_unseen"],
        "seen": ["train", "val", "test"],
        "all": everything["split"].unique(),
    }.items():
        for _ in range(2):
            frame = read_columns(
                path, ["processid", "dna_barcode", "order"], splits=asked, cache_dir=cache
            ).frame
            expected = everything[everything["split"].isin(sides)]
            assert frame["processid"].tolist() == expected["processid"].tolist()
            assert frame["dna_barcode"].tolist() == expected["dna_barcode"].tolist()
            assert frame["order"].astype(object).fillna("").tolist() == expected["order"].tolist()
            assert frame.index.equals(pd.RangeIndex(len(expected)))


def test_a_category_without_a_row_in_the_split_is_left_out(tmp_path):
    path = table(tmp_path / "metadata.csv", n=5, order={0: "Mantodea"})
    orders = read_columns(path, ["order"], splits="train+val").frame["order"]
    assert orders.cat.categories.tolist() == ["Odonata"]


def test_split_names_are_those_of_bioscan():
    assert split_names("seen+pretrain") == {"train", "val", "test", "pretrain"}
    assert split_names("validation") == {"val"} and len(split_names("all")) == 8
    with pytest.raises(UnknownName, match="unknown split 'tets'. Did you mean 'test'"):
        split_names("train+tets")


def test_missing_in_every_spelling(tmp_path, blocks):
    words = ["", "NA", " n/a ", "NaN", "None", "null", "No Taxon", "no TAXON", "  "]
    path = table(
        tmp_path / "metadata.csv", order=dict(enumerate(words)), **{"coord-lat": dict(enumerate(words))}
    )
    frame = read_columns(path, ["order", "coord-lat"]).frame
    assert frame["order"][: len(words)].isna().all() and frame["coord-lat"][: len(words)].isna().all()
    assert frame["order"].cat.categories.tolist() == ["Diptera", "Odonata"]


def test_blanks_around_a_text_do_not_make_another_category(tmp_path, small_blocks):
    path = table(tmp_path / "metadata.csv", order={0: " Diptera", 3: "Diptera  "}, processid={1: " GMA1-22 "})
    frame = read_columns(path, ["order", "processid"]).frame
    assert (
        frame["order"].cat.categories.tolist() == ["Diptera", "Odonata"]
        and frame["processid"][1] == "GMA1-22"
    )


def test_quotes_hold_delimiters_and_line_breaks(tmp_path, blocks):
    odd = {3: "Baja, California", 7: "one\nline\nmore", 8: 'so-called "East"', 20: "a\nb"}
    path = table(tmp_path / "metadata.csv", province_state=odd)
    frame = read_columns(path, ["province_state", "processid"]).frame
    assert {i: frame["province_state"][i] for i in odd} == odd
    assert frame["processid"].tolist() == [f"GMA{i}-22" for i in range(40)]
    path.write_text(
        path.read_text().replace("GMA30-22", "GMA29-22")
    )  # lines are those of the file, not of the rows
    assert "'GMA29-22' (lines 34, 35)" in refusal(path)


def test_a_quote_that_stands_alone_inside_a_text(tmp_path, small_blocks):
    path = table(tmp_path / "metadata.csv")
    path.write_text(path.read_text().replace("BIOUG7,", 'tray 12" no 7,'))
    frame = read_columns(path, ["sampleid", "order"]).frame
    assert frame["sampleid"][7] == 'tray 12" no 7' and len(frame) == 40


def test_decimal_commas_in_a_table_with_semicolons(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("processid;coord-lat;coord-lon\nA;9,5;-84.25\nB; 10 ;\n")
    frame = read_columns(path).frame
    assert frame["coord-lat"].tolist() == [9.5, 10] and frame["coord-lon"].isna().tolist() == [False, True]


def test_gzip_is_unpacked_on_the_way(tmp_path, blocks):
    plain, packed = table(tmp_path / "a.csv"), tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    ours = read_columns(packed)
    pd.testing.assert_frame_equal(ours.frame, read_columns(plain).frame)
    assert ours.checksum == hashlib.md5(packed.read_bytes()).hexdigest()


def test_a_column_nobody_knows_is_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("processid,tray,area\n" + "".join(f"A{i},00{i % 2},{i}.5\n" for i in range(20)))
    frame = read_columns(path).frame
    assert frame["tray"].cat.categories.tolist() == ["000", "001"] and frame["area"].tolist()[3] == "3.5"
    assert isinstance(frame["area"].dtype, pd.StringDtype)


def test_a_header_of_another_schema_is_renamed(tmp_path):  # BIOSCAN-1M: uri, nucraw
    path = tmp_path / "t.tsv"
    path.write_text("sampleid\turi\tnucraw\tLAT\tcountry_or_geography\nB1\tBOLD:AAA1\tACGT\t9.5\tCanada\n")
    frame = read_columns(
        path, required=["sampleid"], renamed={"uri": "dna_bin", "NUCRAW": "dna_barcode"}
    ).frame
    assert list(frame) == ["sampleid", "dna_bin", "coord-lat", "country"] and frame["coord-lat"].tolist() == [
        9.5
    ]


# What is kept


def forbid_reading(monkeypatch):
    def parse(*_):
        raise AssertionError("the CSV was parsed again")

    monkeypatch.setattr(csv_file.CsvFile, "parse", parse)


def test_the_second_opening_reads_nothing_of_the_csv_but_its_header(tmp_path, monkeypatch):
    path, cache = table(tmp_path / "metadata.csv"), tmp_path / "cache"
    path.write_bytes(path.read_bytes().replace(b"Canada", b"Canad\xe1"))
    first = read_columns(path, [*COLUMNS], cache_dir=cache)
    forbid_reading(monkeypatch)
    again = read_columns(path, [*COLUMNS], cache_dir=cache)
    pd.testing.assert_frame_equal(again.frame, first.frame)
    assert again.checksum == first.checksum == hashlib.md5(path.read_bytes()).hexdigest()
    assert again.notes == first.notes and "not UTF-8" in first.notes[0]


def test_the_table_is_parsed_again_only_for_columns_that_are_not_kept(tmp_path, monkeypatch):
    path, cache, parsed = table(tmp_path / "metadata.csv"), tmp_path / "cache", []
    parse = csv_file.CsvFile.parse
    monkeypatch.setattr(
        csv_file.CsvFile,
        "parse",
        lambda s, names, *rest: parsed.append(sorted(names)) or parse(s, names, *rest),
    )
    read_columns(path, ["order"], cache_dir=cache)
    frame = read_columns(path, ["family", "order"], splits="val", cache_dir=cache).frame
    read_columns(path, ["split", "family"], cache_dir=cache)
    assert parsed == [["order", "processid"], ["family", "order", "processid", "split"]]
    pd.testing.assert_frame_equal(frame, read_columns(path, ["family", "order"], splits="val").frame)


def test_a_cached_frame_may_be_written_to(tmp_path):
    path = table(tmp_path / "metadata.csv")
    for _ in range(2):
        frame = read_columns(path, cache_dir=tmp_path / "cache").frame
        frame.loc[0, "coord-lat"] = 1.0
        frame.loc[0, ["order", "processid", "inferred_ranks"]] = ["Odonata", "X", 1]
    assert read_columns(path, cache_dir=tmp_path / "cache").frame["processid"][0] == "GMA0-22"


def test_a_changed_table_is_read_again_and_its_old_cache_removed(tmp_path):
    path, cache = table(tmp_path / "metadata.csv"), tmp_path / "cache"
    read_columns(path, ["order"], cache_dir=cache)
    table(path, order={0: "Mantodea"})
    assert read_columns(path, ["order"], cache_dir=cache).frame["order"][0] == "Mantodea"
    assert len(list(cache.iterdir())) == 1


def test_other_content_of_the_same_size_and_time_is_noticed_when_it_is_read(tmp_path):
    path, cache = table(tmp_path / "metadata.csv"), tmp_path / "cache"
    time = path.stat().st_mtime_ns
    read_columns(path, ["order"], cache_dir=cache)
    path.write_text(path.read_text().replace("Diptera", "Diptora"))
    os.utime(path, ns=(time, time))
    frame = read_columns(path, ["order", "family"], cache_dir=cache).frame
    assert "Diptora" in frame["order"].cat.categories and "Diptera" not in frame["order"].cat.categories


def changed(change):
    def harm(path):
        content = change(bytearray(path.read_bytes()))
        path.unlink()  # frames that were read keep the file they are mapped from
        path.write_bytes(content)

    return harm


def flipped(content):
    """A letter of the first barcode: in a page, where only its checksum can tell."""
    content[content.index(b"ACGT0")] ^= 1
    return content


HARM = {
    "cut": changed(lambda content: content[:-40]),
    "flipped": changed(flipped),
    "empty": changed(lambda content: b""),
    "another version": changed(lambda content: content.replace(b'"version": 2', b'"version": 9')),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, harm):
    path, cache = table(tmp_path / "metadata.csv"), tmp_path / "cache"
    asked = ["order", "coord-lat", "dna_barcode"]
    first = read_columns(path, asked, cache_dir=cache)
    harm(next(cache.iterdir()))
    again = read_columns(path, asked, cache_dir=cache)
    pd.testing.assert_frame_equal(again.frame, first.frame)
    assert again.notes == ()
    forbid_reading(monkeypatch)
    pd.testing.assert_frame_equal(read_columns(path, asked, cache_dir=cache).frame, first.frame)


def full_disk(monkeypatch, room):
    """Files written through `files.replacing` share `room` bytes."""
    opened, left = files.Path.open, [room]

    class Full(io.FileIO):
        def write(self, content):
            left[0] -= len(content)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    monkeypatch.setattr(
        files.Path,
        "open",
        lambda path, mode="r", **kw: Full(path, mode) if "x" in mode else opened(path, mode, **kw),
    )


@pytest.mark.parametrize("room", [0, 500, 1_500])
@pytest.mark.parametrize("asked", [["order", "coord-lat"], ["order", "dna_barcode"]], ids="+".join)
def test_a_full_disk_costs_the_cache_not_the_reading(tmp_path, monkeypatch, room, asked):
    path, cache = table(tmp_path / "metadata.csv", n=300), tmp_path / "cache"
    with monkeypatch.context() as patch:
        full_disk(patch, room)
        read = read_columns(path, asked, splits="train", cache_dir=cache)
    pd.testing.assert_frame_equal(read.frame, read_columns(path, asked, splits="train").frame)
    assert "240 of 300 records are in other splits than train" in read.notes[0]
    assert "could not be kept" in read.notes[1] and "No space left on device" in read.notes[1]
    assert not list(tmp_path.rglob("*.part"))
    later = read_columns(path, asked, splits="train", cache_dir=cache)  # what was built stays usable
    pd.testing.assert_frame_equal(later.frame, read.frame)
    assert later.notes == read.notes[:1]


def test_a_cache_folder_that_cannot_be_made_is_a_note(tmp_path):
    (tmp_path / "cache").write_text("a file")
    read = read_columns(table(tmp_path / "metadata.csv"), ["order"], cache_dir=tmp_path / "cache")
    assert len(read.frame) == 40 and "could not be kept" in read.notes[0]


def test_two_processes_build_one_cache_at_once(tmp_path, monkeypatch):
    path, cache = table(tmp_path / "metadata.csv", n=3_000), tmp_path / "cache"
    processes = multiprocessing.get_context("fork")
    start, results = processes.Barrier(2), processes.Queue()

    def build():
        start.wait()
        results.put(len(read_columns(path, [*COLUMNS], cache_dir=cache).frame))

    both = [processes.Process(target=build) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(600)
    assert [process.exitcode for process in both] == [0, 0] and [results.get(timeout=600) for _ in both] == [
        3000,
        3000,
    ]
    expected = read_columns(path, [*COLUMNS])
    forbid_reading(monkeypatch)
    pd.testing.assert_frame_equal(read_columns(path, [*COLUMNS], cache_dir=cache).frame, expected.frame)


# What is refused


def test_a_missing_column_names_the_nearest(tmp_path):
    path = table(tmp_path / "metadata.csv", header=["famly" if c == "family" else c for c in COLUMNS])
    message = refusal(path, ["order", "family"])
    assert (
        "metadata.csv has no column 'family'. Is it 'famly'? Then pass renamed={'famly': 'family'}" in message
    )
    frame = read_columns(path, ["family"], renamed={"famly": "family"}).frame
    assert frame["family"].cat.categories.tolist() == ["Phoridae"]


def test_the_split_column_is_needed_for_splits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("processid,order\nA,Diptera\n")
    assert "t.csv has no column 'split'" in refusal(path, ["order"], splits="train")
    assert "t.csv has no column 'sampleid'" in refusal(path, ["order"], required=["sampleid"])


def test_two_columns_of_one_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("processid,lat,coord-lat\nA,1,2\n")
    assert "more than one column is called 'coord-lat'" in refusal(path)


def test_splits_without_a_row(tmp_path):
    path = table(tmp_path / "metadata.csv", n=4)
    assert (
        "no row is in key_unseen or test_unseen or val_unseen. Its column `split` holds: pretrain (1)"
        in refusal(path, splits="unseen")
    )


def test_a_table_cut_in_the_middle_of_a_row(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"BIOUG33") + 4])
    assert (
        "metadata.csv ends in the middle of line 35, after 2 of 23 fields: the file is cut short"
        in refusal(path)
    )


def test_a_table_cut_in_its_last_field_is_a_note(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv", n=6)
    path.write_bytes(path.read_bytes()[:-1])
    read = read_columns(path)
    assert (
        len(read.frame) == 6
        and "does not end with a line break" in read.notes[0]
        and "line 7" in read.notes[0]
    )


def test_a_gzip_cut_short(tmp_path, small_blocks):
    path = tmp_path / "metadata.csv.gz"
    packed = gzip.compress(table(tmp_path / "metadata.csv", n=2_000).read_bytes())
    path.write_bytes(packed[: len(packed) // 2])
    assert "metadata.csv.gz is cut short after line " in refusal(path)
    start = len(packed) * 3 // 4
    path.write_bytes(packed[:start] + bytes(50) + packed[start + 50 :])
    assert "metadata.csv.gz is damaged after line " in refusal(path)


def test_a_row_with_too_many_fields(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv")
    path.write_text(path.read_text().replace("BIOUG29,", "BIOUG29,extra,"))
    assert "metadata.csv, line 31: 24 fields where the header has 23 (processid, sampleid" in refusal(path)


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv")
    text = path.read_text().replace("BIOUG29,", '"BIOUG29,').replace("BIOUG9,", '"BIOUG9,')
    path.write_text(text)
    read = read_columns(path)
    assert read.rows == len(read.frame) == 40 and read.frame["sampleid"][[9, 29]].tolist() == [
        '"BIOUG9',
        '"BIOUG29',
    ]
    assert "2 lines have a quotation mark that is not closed (lines 11, 31)" in read.notes[0]
    path.write_text(text.replace("BIOUG30,", "BIOUG30,more,"))
    message = refusal(path)
    assert "metadata.csv, line 32: 24 fields" in message and "a quote that is not closed" in message


def test_records_that_share_a_processid(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv", processid={5: "GMA2-22", 30: "GMA2-22", 9: "GMA8-22"})
    message = refusal(path, ["order"], cache_dir=tmp_path / "cache")
    assert (
        "2 values of processid are in more than one row: 'GMA2-22' (lines 4, 7, 32), 'GMA8-22' (lines 10, 11)"
        in message
    )
    assert len(read_columns(path, ["order"], required=()).frame) == 40
    assert not list(tmp_path.rglob("*.parquet"))  # nothing of a faulty table is kept
    nameless = table(tmp_path / "other.csv", processid={7: "", 8: " "})
    assert "2 records have no processid (line 9, 10)" in refusal(nameless)


@pytest.mark.parametrize(
    "column,value,is_no", [("coord-lat", "9.5N", "number"), ("inferred_ranks", "0.5", "whole number")]
)
def test_a_value_that_is_no_number(tmp_path, blocks, column, value, is_no):
    path = table(tmp_path / "metadata.csv", **{column: {25: value}})
    message = refusal(path)
    assert f"metadata.csv, line 27: {value!r} in column {column!r} is no {is_no}" in message
    assert len(read_columns(path, ["order"]).frame) == 40  # a column that was not asked for is not looked at


def test_lines_that_are_not_utf8_are_read_and_noted(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv", province_state={4: "Bogotá", 33: "Québec"})
    lines = path.read_bytes().splitlines(keepends=True)
    lines[34] = lines[34].decode().encode("cp1252")
    path.write_bytes(b"".join(lines))
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        read = read_columns(path, cache_dir=cache)
        assert read.frame["province_state"].dropna().tolist() == ["Bogotá", "Québec"]
        assert (
            len(read.notes) == 1
            and "1 of 41 lines are not UTF-8 (lines 35); they were read as" in read.notes[0]
        )


def test_a_byte_order_mark_and_windows_line_ends(tmp_path, blocks):
    path = table(tmp_path / "metadata.csv")
    expected = read_columns(path).frame
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read_columns(path).frame, expected)


def test_what_is_no_table(tmp_path):
    empty, only_header, folder = tmp_path / "empty.csv", tmp_path / "header.csv", tmp_path / "folder"
    empty.write_text("\n\n")
    only_header.write_text("processid,order\n")
    assert "empty.csv is empty" in refusal(empty)
    assert "header.csv has a header (processid, order) but no rows" in refusal(only_header)
    assert "absent.csv is not there" in refusal(tmp_path / "absent.csv")
    folder.mkdir()
    assert "folder is a folder, not a table. There is no CSV in it" in refusal(folder)
    (folder / "metadata.csv.gz").touch()
    assert "Name the table in it: metadata.csv.gz" in refusal(folder)
    book, archive = tmp_path / "book.csv", tmp_path / "metadata.zip"
    for path, member in ((book, "[Content_Types].xml"), (archive, "bioscan5m/metadata/csv/metadata.csv")):
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(member, "")
    assert "book.csv is an Excel workbook, whatever its name says" in refusal(book)
    assert "is a ZIP archive: bioscan5m/metadata/csv/metadata.csv is in it" in refusal(archive)
    wide = tmp_path / "wide.csv"
    wide.write_text("processid,order\nA,Diptera\n", encoding="utf-16")
    assert "wide.csv is UTF-16. Save it as UTF-8" in refusal(wide)


def test_a_table_that_grows_while_it_is_read(tmp_path):
    path = table(tmp_path / "metadata.csv")
    file = csv_file.CsvFile(path)
    table(path, n=41)
    with pytest.raises(SpecimenError, match="changed while it was read"):
        file.parse(["order"], (), list)


# Real rows, and the drawn ones


def test_real_rows_of_bioscan5m(shared_data, tmp_path):
    path = shared_data / "bioscan5m_25rows.tsv"
    expected = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for _ in range(2):
        frame = read_columns(path, cache_dir=tmp_path).frame
        assert frame["order"].astype(str).tolist() == expected["order"].tolist()
        assert frame["coord-lat"].tolist() == pytest.approx(expected["lat"].astype(float).tolist(), rel=1e-6)
        assert frame["chunk"].astype(object).fillna("").tolist() == expected["chunk"].tolist()
        assert frame["inferred_ranks"].tolist() == expected["inferred_ranks"].astype(int).tolist()
        assert read_columns(path, ["processid"], splits="test", cache_dir=tmp_path).frame.size == 1


def test_real_records_without_images(shared_data, tmp_path):
    read = read_columns(shared_data / "bold_records.tsv.gz", cache_dir=tmp_path)
    assert len(read.frame) == 42_060 and read.notes == () and read.frame["order"].nunique() == 37
    assert read.frame["country"].nunique() == 172 and read.frame["genus"].isna().mean() == pytest.approx(
        0.0432, abs=1e-4
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    module = scripts.loaded("full_size_table")
    path = tmp_path_factory.mktemp("drawn") / "metadata.csv"
    module.write_table(path, rows=20_000, seed=3)
    return module, path


def test_the_drawn_table_has_the_shape_of_bioscan5m(drawn):
    frame = read_columns(drawn[1], [*COLUMNS]).frame
    assert (
        len(frame) == 20_000 and frame["sampleid"].is_unique and (frame["dna_barcode"].str.len() == 660).all()
    )
    shares = {"order": 0.997, "family": 0.958, "genus": 0.238, "species": 0.092}  # as published
    assert all(frame[rank].notna().mean() == pytest.approx(share, abs=2e-3) for rank, share in shares.items())
    assert frame["order"].value_counts()["Diptera"] == pytest.approx(20_000 * 3_675_317 / 5_150_850, abs=1)
    assert frame["split"].value_counts()["train"] == pytest.approx(20_000 * 289_203 / 5_150_850, abs=10)
    assert frame["species"].notna().equals(frame["split"] != "pretrain")
    named = frame.dropna(subset=["dna_bin"]).groupby("dna_bin", observed=True)
    assert all((named[rank].nunique() <= 1).all() for rank in ("order", "family", "genus", "species"))
    for lower, upper in (("species", "genus"), ("genus", "family"), ("family", "order")):
        assert frame.dropna(subset=[lower]).groupby(lower, observed=True)[upper].nunique().eq(1).all()
    length = (
        frame["chunk"]
        .astype(object)
        .fillna("")
        .str.len()
        .groupby(frame["split"].astype(str))
        .agg(["min", "max"])
    )
    assert length.loc["pretrain"].tolist() == [2, 2] and length.loc["train"].tolist() == [1, 1]
    assert length.loc["test"].tolist() == [0, 0]


def test_sizes_are_shared_out_to_the_last_record(drawn):
    module, _ = drawn
    weights, ones = np.array([3.0, 1.0, 1.0]), np.ones(3, int)
    assert module.apportion(weights, 100, ones, ones * 100).sum() == 100
    assert module.apportion(weights, 7, ones, np.array([2, 9, 9])).tolist() == [2, 3, 2]
    sizes = np.array([5, 4, 3, 1, 1, 1])
    assert sizes[module.exactly(sizes, np.arange(6), 8)].sum() == 8


def test_the_same_seed_draws_the_same_table(drawn, tmp_path):
    module, path = drawn
    module.write_table(tmp_path / "again.csv", rows=20_000, seed=3)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_bioscans_own_reader_sees_the_same(drawn):
    published = pytest.importorskip("bioscan_dataset").load_bioscan5m_metadata(str(drawn[1]), split="seen")
    ours = read_columns(drawn[1], [*COLUMNS], splits="seen").frame
    assert len(ours) == len(published)
    for name in ("processid", "order", "species", "dna_bin", "dna_barcode", "chunk"):
        assert (
            ours[name].astype(object).fillna("").tolist()
            == published[name].astype(object).fillna("").tolist()
        )
    np.testing.assert_allclose(ours["coord-lat"], published["coord-lat"], rtol=1e-6)

"""No row disappears without a note: rows read = specimens + rows counted in notes, for every source and any table."""

from __future__ import annotations

import csv
import io
import os
import shutil

import layouts
import numpy as np
import pytest
from PIL import Image
from tables_made_up import made_up

from bionas.errors import SpecimenError
from bionas.specimens import SOURCES, load_specimens
from bionas.specimens.fetch import insect_image_name
from bionas.specimens.notes import LeftOut, left_out, require_balance

FUZZ = int(os.environ.get("BIONAS_FUZZ", "1000"))
"""Generated tables of the slow test; BIONAS_FUZZ=5000 for a longer run."""

CASES = 200
NAMES = ("IMG_0", "b-c", "Größe", "x.y")
FILES = [
    f"{folder}/{name}{i}{folder[0]}.png" for folder in ("set 1", "été") for name in NAMES for i in range(4)
]


@pytest.fixture(scope="module")
def moths(tmp_path_factory):
    """32 photographs of one colour each, their names composed (NFC)."""
    root = tmp_path_factory.mktemp("survey") / "moths"
    for number, file in enumerate(FILES):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (7 * number, 255 - 7 * number, 90)).save(root / file)
    return root


def check(moths, cache, seed):
    table = made_up(np.random.default_rng(seed), FILES, moths)
    (moths / "labels.csv").write_bytes(table.content)
    shutil.rmtree(cache, ignore_errors=True)
    told = f"seed {seed}: {table.described}"
    specimens = load_specimens("folder", moths, cache_dir=cache, image_size=8, missing_images="skip")
    found = dict(zip(specimens.records["file"], specimens.label_names, strict=True))
    assert len(specimens) + left_out(specimens.notes) == table.rows, told
    assert found == table.labels, told
    for note in specimens.notes:
        assert not isinstance(note, LeftOut) or f"{note.records:,}" in note, told

    if "utf-16" in table.described:
        with pytest.raises(SpecimenError, match="UTF-16"):
            load_specimens("records", moths / "labels.csv", cache_dir=cache)
        return
    records = load_specimens("records", moths / "labels.csv", cache_dir=cache)
    assert len(records) + left_out(records.notes) == table.rows, told
    assert len(records) >= sum(label != "unknown" for label in table.labels.values()), told


@pytest.mark.slow
def test_made_up_tables_are_in_balance(moths, tmp_path):
    for seed in range(CASES):
        check(moths, tmp_path / "cache", seed)


@pytest.mark.slow
def test_many_made_up_tables_are_in_balance(moths, tmp_path):
    for seed in range(CASES, FUZZ):
        check(moths, tmp_path / "cache", seed)


def test_two_notes_that_begin_with_a_stray_quote_lose_no_row(moths, tmp_path):
    lines = ["file\torder\tnote", *(f"{file}\t{'AB'[i % 2]}\tnote {i}" for i, file in enumerate(FILES))]
    for row in (3, 25):
        lines[row] = lines[row].replace("note", '"note')
    (moths / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    specimens = load_specimens("folder", moths, labels="labels.tsv", cache_dir=tmp_path, image_size=8)
    records = load_specimens("records", moths / "labels.tsv", cache_dir=tmp_path)
    (moths / "labels.tsv").unlink()
    assert len(specimens) == len(records) == 32
    for found in (specimens, records):
        assert any(
            "2 lines have a quotation mark that is not closed (lines 4, 26)" in note for note in found.notes
        )


def test_a_cell_over_several_lines_is_one_cell(tmp_path):
    text = io.StringIO()
    rows = [["order", "note"], ["A", "one\ntwo\nthree, four"], ["B", 'so-called "fly"\n'], ["A", ""]]
    csv.writer(text).writerows(rows)
    (tmp_path / "t.csv").write_text(text.getvalue(), newline="", encoding="utf-8")
    specimens = load_specimens("records", tmp_path / "t.csv", cache_dir=tmp_path)
    assert specimens.label_names.tolist() == ["A", "B", "A"]
    assert specimens.records["note"].iloc[0] == "one\ntwo\nthree, four"


def test_every_source_counts_its_rows(tmp_path):
    layouts.bioscan5m(tmp_path / "five")
    layouts.bioscan1m(tmp_path / "one")
    layouts.insects1m(tmp_path / "insects", insect_image_name)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    opened = {
        "bioscan5m": load_specimens(
            "bioscan5m", tmp_path / "five", image_size=8, cache_dir=tmp_path / "c", splits="train"
        ),
        "bioscan1m": load_specimens("bioscan1m", tmp_path / "one", image_size=8, cache_dir=tmp_path / "c"),
        "insects1m": load_specimens(
            "insects1m", tmp_path / "insects", image_size=8, cache_dir=tmp_path / "c", missing_images="skip"
        ),
        "synthetic": load_specimens(
            image_size=16, cache_dir=tmp_path / "c", n_specimens=60, limit=57, min_records=5
        ),
    }
    assert set(opened) | {"folder", "records"} == set(SOURCES)
    assert left_out(opened["synthetic"].notes) == 3
    assert any("are in other splits than train" in note for note in opened["bioscan5m"].notes)


def test_a_source_that_loses_rows_is_caught():
    require_balance(10, 8, ("a note", LeftOut("2 rows were left out.", 2)), "made")
    with pytest.raises(AssertionError, match="read 10 rows"):
        require_balance(10, 8, ("2 rows were left out.",), "made")

"""Insect-1M: a JSON read record by record, photographs where `bionas fetch insects1m` puts them."""

from __future__ import annotations

import json

import layouts
import numpy as np
import pytest

from bionas.errors import SpecimenError
from bionas.specimens import load_specimens, streamed_json
from bionas.specimens.fetch import insect_image_name
from bionas.specimens.sources.insects1m import read_insects1m, scientific
from bionas.system import places
from bionas.training import experiments

NAME = "insect1m.json"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "insects"


@pytest.fixture
def load(root, tmp_path):
    def opened(data_dir=root, **options):
        choices = {
            "min_records": 4,
            "image_size": 16,
            "cache_dir": tmp_path / "cache",
            "workers": 1,
            **options,
        }
        return load_specimens("insects1m", data_dir, **choices)

    return opened


@pytest.fixture
def content():
    return layouts.insects1m_content()


def written(root, content=None, **options):
    return layouts.insects1m(root, insect_image_name, content, **options)


def refused(load, **options):
    with pytest.raises(SpecimenError) as error:
        load(**options)
    return str(error.value)


def test_records_and_photographs_meet(root, load):
    content = written(root)
    specimens = load()
    assert specimens.counts().to_dict() == {"Coleoptera": 12, "Diptera": 12, "Hymenoptera": 12, "Other": 3}
    assert specimens.caption == "Insect-1M" and "1 of 40 records have no order" in " ".join(specimens.notes)
    position = {str(record["id"]): i for i, record in enumerate(content["insect_records"])}
    for row, (number, order) in enumerate(
        zip(specimens.records["processid"], specimens.records["order"], strict=True)
    ):
        wanted = layouts.color(position[number], order)
        assert np.abs(specimens.images.pixels([row])[0, 8, 8].astype(int) - wanted).max() <= 4
    assert len(load(data_dir=root / NAME)) == 39  # the JSON itself names the collection, too


def test_ranks_are_columns_and_no_taxon_is_no_name(root, load):
    written(root, images=False)
    records = load(images=False).records
    assert list(records.columns) == ["processid", "phylum", "class", "order", "family", "genus", "subphylum"]
    assert set(records["class"]) == {"Insecta"} and set(records["subphylum"]) == {"Hexapoda"}
    assert records["genus"].notna().sum() == 20  # every other one of 39; "No Taxon" elsewhere
    assert records["family"].value_counts()["Phoridae"] == 6


@pytest.mark.parametrize(
    ("text", "rank", "name"),
    [
        ("Beetles (Coleoptera)", "order", "Coleoptera"),
        ("Coleoptera", "order", "Coleoptera"),
        ("Ensifera (Long-horned Orthoptera)", "suborder", "Ensifera (Long-horned Orthoptera)"),
        ("Two-spotted Bumble Bee (Bombus bimaculatus)", "species", "Bombus bimaculatus"),
        ("Bombus (Pyrobombus)", "subgenus", "Pyrobombus"),
        ("Ants (in part) (Formicidae)", "family", "Formicidae"),
    ],
)
def test_the_scientific_name(text, rank, name):
    assert scientific(text, rank) == name


def test_an_order_with_and_without_its_common_name_is_one(root, load, content):
    content["insect_records"][4]["Order"] = "Diptera"
    written(root, content, images=False)
    specimens = load(images=False)
    assert specimens.counts()["Diptera"] == 12
    assert (
        "3 names with a common name" not in specimens.notes[0]
        and "read by the scientific one" in specimens.notes[0]
    )


def test_an_order_spelt_two_ways(root, load, content):
    content["insect_records"][4]["Order"] = "diptera"
    written(root, content, images=False)
    assert "'Diptera' (11) and 'diptera' (1)" in refused(load, images=False)


@pytest.mark.parametrize("block", [1, 7, 300])
def test_where_the_text_is_cut_into_blocks_makes_no_difference(root, content, block, monkeypatch):
    content["insect_records"][0]["Family"] = 'Cantharidæ \\ "quoted" 🪲'
    written(root, content, images=False)
    whole = read_insects1m(root / NAME)[0]
    monkeypatch.setattr(streamed_json, "BLOCK", block)
    assert read_insects1m(root / NAME)[0].equals(whole)
    (root / NAME).write_text(json.dumps(content, indent=3), encoding="utf-8-sig")
    assert read_insects1m(root / NAME)[0].equals(whole)


# Faults of the JSON


def test_a_list_that_is_called_otherwise(root, load, content):
    content["insect_record"] = content.pop("insect_records")
    written(root, {**content, "insect_records": []}, images=False)
    (root / NAME).write_text(json.dumps(content))
    words = refused(load)
    assert "no list 'insect_records'" in words and "Did you mean 'insect_record'?" in words


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "is empty"),
        ({"id": 1}, "is an object, expected a list"),
        (None, "is null, expected a list"),
        ([1], "entry 1 of 'insect_records' is a number, not a record"),
        ([{"Order": "Diptera"}], "has no 'id'; it has 'Order'"),
        ([{"Id": 5}], "Did you mean 'Id'?"),
        ([{"id": [5]}], "'id' is a list"),
        ([{"id": 5, "Order": 7, "image_url": "u"}], "record 5: 'Order' is a number, expected a name"),
    ],
)
def test_values_of_another_kind(root, load, records, words):
    root.mkdir()
    (root / NAME).write_text(json.dumps({"insect_records": records, "description_records": []}))
    assert words in refused(load, images=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"insect_records": [\n{"id": 1},\n{"id": 2 "Order": "x"}]}',
            "line 3, column 10: not valid JSON (expecting ','",
        ),
        (
            '{"insect_records": [\n{"id": 1},\n{"id": 2, "Ord',
            "line 3, column 11: not valid JSON (the file ends here",
        ),
        (
            '{"insect_records": [{"id": 1}]',
            "column 31: not valid JSON (the file ends here: it was cut short)",
        ),
        ('[{"id": 1}]', "line 1, column 1: not valid JSON (expected one object"),
        ("", "line 1, column 1: not valid JSON (the file ends here"),
        ('{"insect_records": [{"id": 1}]} {}', "column 33: not valid JSON (expected nothing after"),
    ],
)
def test_malformed_json_is_refused_with_its_place(root, load, text, words):
    root.mkdir()
    (root / NAME).write_text(text)
    assert f"{NAME}, " in refused(load) and words in refused(load)


def test_a_file_that_is_no_text(root, load):
    root.mkdir()
    (root / NAME).write_bytes(b'{"a": "\xff\xfe"}')
    assert "not UTF-8" in refused(load)


def test_a_record_without_a_link(root, load, content):
    del content["insect_records"][3]["image_url"]
    content["insect_records"][6]["image_url"] = ""
    written(root, content)
    words = refused(load)
    assert "2 of 40 records have no 'image_url': id 3007, 6007." in words and 'missing_images="skip"' in words
    assert len(load(missing_images="skip")) == 39  # their photographs are there: nothing to skip


def test_one_id_for_two_records(root, load, content):
    content["insect_records"].append(dict(content["insect_records"][3]))
    written(root, content)
    specimens = load()
    assert len(specimens) == 39 and any(
        "1 records of insect1m.json are repeated" in note for note in specimens.notes
    )
    content["insect_records"][-1]["Order"] = "Odonata"
    written(root, content)
    assert "1 processids stand for more than one record: '3007' (2 records, differing in order)" in refused(
        load
    )


# Photographs


def test_photographs_that_were_not_downloaded(root, load):
    written(root)
    for number in (7, 5007):
        (root / insect_image_name(number)).unlink()
    words = refused(load)
    assert (
        "2 of 40 photographs are missing (5.0%): images/000/7.jpg (processid 7), images/000/5007.jpg" in words
    )
    assert (
        f"`bionas fetch insects1m --records {root / NAME} --data-dir {root}`" in words
        and 'missing_images="skip"' in words
    )
    specimens = load(missing_images="skip")
    assert len(specimens) == 37 and not {"7", "5007"} & set(specimens.records["processid"])


def test_no_photograph_at_all(root, load):
    written(root, images=False)
    assert "none of the 40 photographs" in refused(load)
    assert "`images=False` opens the records alone" in refused(load, missing_images="skip")


def test_which_json(root, load):
    words = refused(load)
    assert "is not there" in words
    root.mkdir()
    assert "no JSON in" in refused(load) and "'insect_records'" in refused(load)
    written(root, images=False)
    (root / "other.json").write_text("{}")
    assert "2 JSON files" in refused(load, images=False) and "metadata='insect1m.json'" in refused(
        load, images=False
    )
    assert len(load(images=False, metadata=NAME)) == 39
    assert "Did you mean 'insect1m.json'?" in refused(load, metadata="insects1m.json")


def test_it_is_searched(root, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    written(root)
    plan = experiments.plan(
        "smoke",
        source="insects1m",
        data_dir=root,
        search_epochs=1,
        image_size=32,
        batch_size=8,
        min_records=4,
        device="cpu",
        metadata="none",
        run_dir=tmp_path / "runs",
    )
    assert experiments.search(plan).complete

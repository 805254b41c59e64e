"""Metadata: vocabularies and scales from training only, 0 for what is not known, and what the fields give away."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import METADATA_PRESETS, MetadataEncoding, SpecimenSet
from bionas.specimens.leakage import lookup_leakage
from bionas.specimens.metadata import preset_table
from bionas.specimens.schema import ALIASES


def records_of(orders, **columns):
    names = ("A", "B", "C")
    return SpecimenSet(
        pd.DataFrame({"order": orders, **columns}), np.array([names.index(o) for o in orders]), names
    )


TRAIN = records_of(
    list("AAAB"),
    genus=["Apis", "No Taxon", "Bombus", None],
    country=["Peru", "Chad", "Peru", ""],
    dna_bin=["BOLD:1", None, "BOLD:2", "BOLD:1"],
    **{"coord-lat": [1.0, 3.0, np.nan, 5.0], "scale_factor": [2.0] * 4},
)
TEST = records_of(
    list("BC"),
    genus=["Bombus", "Vespa"],
    country=["Chad", np.nan],
    dna_bin=["BOLD:1", "BOLD:99"],
    **{"coord-lat": [np.nan, 7.0], "scale_factor": [3.0, np.inf]},
)


def test_indices_come_from_the_training_split_and_zero_is_unknown():
    encoding = MetadataEncoding.fit(TRAIN, "leak_free")
    assert encoding.fields == ("country", "coord-lat", "scale_factor")
    assert encoding.vocabulary_sizes == (3,) and encoding.n_numeric == 2  # Chad, Peru and index 0
    assert encoding.transform(TRAIN).categorical[:, 0].tolist() == [2, 1, 2, 0]
    assert encoding.transform(TEST).categorical[:, 0].tolist() == [1, 0]


def test_an_unseen_genus_is_index_zero():
    encoding = MetadataEncoding.fit(TRAIN, "no_target")
    column = encoding.fields.index("genus")
    assert encoding.transform(TRAIN).categorical[:, column].tolist() == [1, 0, 2, 0]
    assert encoding.transform(TEST).categorical[:, column].tolist() == [2, 0]


def test_numbers_are_standardised_by_training_and_missing_stays_nan():
    numeric = MetadataEncoding.fit(TRAIN).transform(TEST).numeric
    mean, sd = 3.0, np.sqrt(8 / 3)  # of 1, 3, 5
    assert torch.isnan(numeric[0, 0]) and numeric[1, 0].item() == pytest.approx((7 - mean) / sd)
    assert numeric[0, 1].item() == pytest.approx(1.0)  # a constant column is divided by 1
    assert torch.isnan(numeric[1, 1]) and numeric.dtype == torch.float32


def test_bins_are_hashed_alike_in_every_process():
    encoding = MetadataEncoding.fit(TRAIN, "no_target", bin_buckets=64)
    column = encoding.fields.index("dna_bin")
    here = encoding.transform(TRAIN).categorical[:, column].tolist()
    assert here[0] == here[3] != 0 and here[1] == 0 and encoding.vocabulary_sizes[column] == 65
    assert 1 <= encoding.transform(TEST).categorical[1, column] <= 64  # a BIN never seen has a bucket, too
    code = "import zlib; print(zlib.crc32(b'BOLD:1') % 64 + 1)"
    assert (
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) == here[0]
    )


def test_the_table_of_bins_is_as_large_as_asked():
    bins = [f"BOLD:AAA{i:04d}" for i in range(400)]
    train = records_of(["A"] * 400, dna_bin=pd.Categorical(bins))
    for buckets in (7, 4096):
        encoding = MetadataEncoding.fit(train, "no_target", bin_buckets=buckets)
        assert encoding.vocabulary_sizes == (buckets + 1,) and encoding.vocabularies == {"dna_bin": ()}
        expected = [zlib.crc32(name.encode()) % buckets + 1 for name in bins]
        assert encoding.transform(train).categorical[:, 0].tolist() == expected
    with pytest.raises(SpecimenError, match="at least one bucket"):
        MetadataEncoding.fit(train, "no_target", bin_buckets=0)


@pytest.mark.parametrize(
    "dtype", ["str", "category", pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.large_string())]
)
@pytest.mark.parametrize("preset", METADATA_PRESETS)
def test_the_encoding_does_not_depend_on_how_columns_are_stored(preset, dtype):
    def stored(specimens):
        kinds = dict.fromkeys(("order", "genus", "country", "dna_bin"), dtype)
        numbers = {"coord-lat": "float32", "scale_factor": "Float32"}
        return SpecimenSet(specimens.records.astype(kinds | numbers), specimens.labels, specimens.class_names)

    plain, other = MetadataEncoding.fit(TRAIN, preset), MetadataEncoding.fit(stored(TRAIN), preset)
    assert other == plain
    for one, two in zip(plain.transform(TEST), other.transform(stored(TEST)), strict=True):
        assert one.dtype == two.dtype and torch.equal(one.nan_to_num(9), two.nan_to_num(9))
    fields = ["genus", "dna_bin", "coord-lat"]
    pd.testing.assert_frame_equal(
        lookup_leakage(TRAIN, TEST, fields), lookup_leakage(stored(TRAIN), stored(TEST), fields)
    )


def test_a_table_to_draw_from_takes_half_the_room():
    encoding = MetadataEncoding.fit(TRAIN, "no_target")
    table, whole = encoding.table(TEST), encoding.transform(TEST)
    assert table.categorical.dtype == torch.int32 and whole.categorical.dtype == torch.int64
    part = table.take(torch.tensor([1, 0, 1]))
    assert part.categorical.dtype == torch.int64 and torch.equal(
        part.categorical, whole.categorical[[1, 0, 1]]
    )


def test_the_presets_are_columns_of_the_real_table(shared_data):
    """The 25 records of BIOSCAN-5M kept for tests: coordinates are called lat and lon in that export."""
    rows = pd.read_csv(shared_data / "bioscan5m_25rows.tsv", sep="\t").rename(columns=ALIASES)
    orders = sorted(rows["order"].unique())
    specimens = SpecimenSet(rows, rows["order"].map(orders.index).to_numpy(), tuple(orders))
    encoding = MetadataEncoding.fit(specimens, "leak_free")
    assert encoding.fields == (
        "country",
        "province_state",
        "coord-lat",
        "coord-lon",
        "area_fraction",
        "scale_factor",
    )
    categorical, numeric = encoding.transform(specimens)
    assert (categorical[:, 0] > 0).all() and numeric.mean(dim=0).abs().max() < 1e-5
    assert torch.allclose(numeric.std(dim=0, correction=0), torch.ones(4), atol=1e-5)
    named = MetadataEncoding.fit(specimens, "as_published")
    assert named.fields == METADATA_PRESETS["as_published"][1:]  # this export has no phylum
    assert (
        named.transform(specimens).categorical[:, named.fields.index("order")]
        == torch.tensor(specimens.labels) + 1
    ).all()


def test_which_preset_holds_the_target():
    assert "order" in MetadataEncoding.fit(TRAIN, "as_published").fields
    assert "order" not in MetadataEncoding.fit(TRAIN, "no_target").fields
    by_genus = SpecimenSet(TRAIN.records, TRAIN.labels, TRAIN.class_names, target="genus")
    assert "genus" not in MetadataEncoding.fit(by_genus, "no_target").fields
    assert set(preset_table()["preset"]) == set(METADATA_PRESETS)


def test_image_only_is_a_first_class_case():
    encoding = MetadataEncoding.fit(TRAIN, "none")
    categorical, numeric = encoding.transform(TEST)
    assert categorical.shape == (2, 0) and numeric.shape == (2, 0) and encoding.vocabulary_sizes == ()


def test_a_preset_without_data_says_which_ones_work():
    bare = records_of(list("AAB"), family=["f", "g", "h"], country=["", None, "No Taxon"])
    with pytest.raises(SpecimenError, match='metadata="none" trains on images alone') as caught:
        MetadataEncoding.fit(bare, "leak_free")
    assert "as_published" not in str(caught.value)  # a preset that holds the answer is never recommended
    with pytest.raises(UnknownName, match="'leak_free'"):
        MetadataEncoding.fit(TRAIN, "leakfree")


def test_fields_can_be_named_one_by_one():
    encoding = MetadataEncoding.fit(TRAIN, "country+coord-lat")
    assert encoding.fields == ("country", "coord-lat")
    assert MetadataEncoding.from_json(encoding.to_json()) == encoding
    whole = MetadataEncoding.fit(TRAIN, "leak_free")
    place = whole.fields.index("country")
    assert torch.equal(
        encoding.transform(TEST).categorical[:, 0], whole.transform(TEST).categorical[:, place]
    )
    with pytest.raises(UnknownName, match="metadata field 'contry'.*country"):
        MetadataEncoding.fit(TRAIN, "contry+family")


def test_a_column_that_a_later_set_lacks_is_missing_there():
    encoding = MetadataEncoding.fit(TRAIN)
    categorical, numeric = encoding.transform(records_of(list("AB")))
    assert (categorical == 0).all() and torch.isnan(numeric).all()


@pytest.mark.parametrize("preset", METADATA_PRESETS)
def test_json_round_trip(preset):
    encoding = MetadataEncoding.fit(TRAIN, preset)
    again = MetadataEncoding.from_json(encoding.to_json())
    assert again == encoding and again.fields == encoding.fields
    assert all(
        torch.equal(a.nan_to_num(9), b.nan_to_num(9))
        for a, b in zip(again.transform(TEST), encoding.transform(TEST), strict=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "bionas-genotype"),
        ("version", 2),
        ("preset", "leaky"),
        ("bin_buckets", 0),
        ("bin_buckets", True),
        ("vocabularies", []),
        ("vocabularies", {"country": [1]}),
        ("vocabularies", {"country": ["x", "x"]}),
        ("vocabularies", {"genus": ["Apis"]}),
        ("scales", {"coord-lat": [0.0]}),
        ("scales", {"coord-lat": [0.0, 0.0]}),
        ("scales", {"coord-lat": [0.0, float("nan")]}),
        ("scales", None),
    ],
)
def test_malformed_json_is_refused_by_field(field, value):
    content = json.loads(MetadataEncoding.fit(TRAIN).to_json()) | {field: value}
    with pytest.raises(SpecimenError, match=field):
        MetadataEncoding.from_json(json.dumps(content))
    del content[field]
    with pytest.raises(SpecimenError, match=field):
        MetadataEncoding.from_json(json.dumps(content))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(SpecimenError, match="not JSON"):
        MetadataEncoding.from_json('{"format": ')
    with pytest.raises(SpecimenError, match="another kind"):
        MetadataEncoding.from_json("[]")

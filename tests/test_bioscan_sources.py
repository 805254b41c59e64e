"""BIOSCAN-5M and BIOSCAN-1M as they lie on disk after a download: what is read, what is said, what is refused."""

from __future__ import annotations

import itertools

import layouts
import numpy as np
import pandas as pd
import pytest

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import load_specimens
from bionas.system import places
from bionas.training import experiments

THREE = {"Coleoptera": 12, "Diptera": 12, "Hymenoptera": 12}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "download"


@pytest.fixture
def load(root, tmp_path):
    def opened(source="bioscan5m", data_dir=root, **options):
        choices = {
            "min_records": 4,
            "image_size": 16,
            "cache_dir": tmp_path / "cache",
            "workers": 1,
            **options,
        }
        return load_specimens(source, data_dir, **choices)

    return opened


def has_its_own_pictures(specimens, records, id_column="processid"):
    """Every image has the colour that belongs to its record (JPEG shifts colours by a little)."""
    position = {identity: i for i, identity in enumerate(records[id_column])}
    for row, (identity, order) in enumerate(
        specimens.records[[id_column, "order"]].astype(object).to_numpy()
    ):
        wanted = layouts.color(position[identity], "" if pd.isna(order) else order)
        if np.abs(specimens.images.pixels([row])[0, 8, 8].astype(int) - wanted).max() > 4:
            return False
    return True


# BIOSCAN-5M: what is read


@pytest.mark.parametrize("images", ["tree", "zip"])
@pytest.mark.parametrize("level", ["", "bioscan5m"])
def test_the_download_opens_extracted_and_packed_from_either_level(root, load, images, level):
    records = layouts.bioscan5m(root, images=images)
    specimens = load(data_dir=root / level)
    assert specimens.counts().to_dict() == {
        **THREE,
        "Other": 3,
    }  # 40 records: one has no order, three are Strepsiptera
    assert has_its_own_pictures(specimens, records)
    assert specimens.caption == "BIOSCAN-5M" and not specimens.synthetic
    assert specimens.notes == (
        "1 of 40 records have no order and were left out.",
        "1 order classes of fewer than 4 records (3 in all) are 'Other': Strepsiptera (3).",
    )


def test_tree_and_zip_give_the_same_specimens(tmp_path, load):
    layouts.bioscan5m(tmp_path / "a", images="tree")
    layouts.bioscan5m(tmp_path / "b", images="zip")
    tree, packed = (load(data_dir=tmp_path / name) for name in "ab")
    assert (tree.images.pixels(range(39)) == packed.images.pixels(range(39))).all()
    assert tree.records.equals(packed.records)


def test_every_other_column_is_there_as_the_file_has_it(root, load):
    written = layouts.bioscan5m(root, images="none")
    specimens = load(images=False)
    assert specimens.images is None
    read = specimens.records.set_index("processid")
    written = written[written["order"] != ""].set_index("processid")
    for column in (
        "order",
        "family",
        "genus",
        "species",
        "dna_bin",
        "country",
        "province_state",
        "split",
        "chunk",
    ):
        assert (
            read[column].astype(object).where(read[column].notna(), "").tolist() == written[column].tolist()
        ), column
    for column in ("coord-lat", "coord-lon", "image_measurement_value", "area_fraction", "scale_factor"):
        numbers = pd.to_numeric(written[column])
        assert np.allclose(read[column].astype(float), numbers, equal_nan=True), column


@pytest.mark.parametrize("source", ["bioscan5m", "bioscan1m"])
def test_barcodes_are_keys_equal_where_the_letters_are(root, load, source):
    written = getattr(layouts, source)(root, images="none").set_index("processid")
    for splits in ({}, {"splits": "train+val"}) if source == "bioscan5m" else ({},):
        records = load(source, images=False, **splits).records
        letters = written.loc[
            records["processid"], "dna_barcode" if source == "bioscan5m" else "nucraw"
        ].to_numpy()
        keys = records["dna_barcode"].to_numpy()
        assert keys.dtype == np.uint64 and keys.all()
        assert ((keys[:, None] == keys) == (letters[:, None] == letters)).all()
    again = load(source, images=False)  # from the cache
    assert (again.records["dna_barcode"] == load(source, images=False).records["dna_barcode"]).all()


def test_no_bin_and_no_barcode_lies_on_two_sides(root, load):
    layouts.bioscan5m(root, images="none")
    sides = load(images=False).split("bin_disjoint")
    for column in ("dna_bin", "dna_barcode"):
        values = [set(side.records[column].dropna()) for side in sides]
        assert all(not one & other for one, other in itertools.combinations(values, 2)), column


def test_five_hundred_records_are_the_rule_of_the_paper(root, load):
    layouts.bioscan5m(root, images="none")
    assert load(images=False, min_records=None).counts().to_dict() == {"Other": 39}


def test_other_ranks_can_be_the_target(root, load):
    layouts.bioscan5m(root, images="none")
    assert load(images=False, target="family", min_records=0).counts()["Phoridae"] == 6


def test_the_official_split_is_the_column(root, load):
    records = layouts.bioscan5m(root, images="none")
    sides = load(images=False).split("official")
    for side, name in zip(sides, ("train", "val", "test"), strict=True):
        assert set(side.records["processid"]) == set(records["processid"][records["split"] == name])


@pytest.mark.parametrize(
    ("splits", "count"),
    [("train", 12), ("seen", 24), ("train+validation+test", 24), ("pretrain", 12), ("all", 39)],
)
def test_only_the_splits_asked_for_are_opened(root, load, splits, count):
    layouts.bioscan5m(root, images="zip")
    for name in ("pretrain.01", "pretrain.02") if "pretrain" not in splits and splits != "all" else ():
        (root / f"BIOSCAN_5M_cropped_256_{name}.zip").unlink()  # need not be there
    assert len(load(splits=splits)) == count


def test_another_package_of_photographs(root, load):
    layouts.bioscan5m(root, package="original_256", images="zip")
    assert len(load(package="original_256")) == 39
    with pytest.raises(SpecimenError, match="'cropped_256'.*original_256"):
        load()


# BIOSCAN-5M: what is refused, and in which words


def test_names_that_are_misspelt(root, load):
    layouts.bioscan5m(root, images="none")
    with pytest.raises(UnknownName, match="image package .*'croped_256'.*'cropped_256'"):
        load(package="croped_256")
    with pytest.raises(UnknownName, match="split .*'trian'.*'train'"):
        load(splits="trian+val")


def test_no_metadata(root, load):
    with pytest.raises(SpecimenError, match="needs data_dir=.*bioscan5m"):
        load(data_dir=None)
    with pytest.raises(SpecimenError, match="is not there"):
        load()
    layouts.bioscan5m(root).pipe(lambda _: (root / "bioscan5m/metadata/csv").rename(root / "elsewhere"))
    with pytest.raises(SpecimenError) as error:
        load()
    assert "BIOSCAN_5M_Insect_Dataset_metadata.csv" in str(error.value)
    assert f"`bionas fetch bioscan5m --metadata --extract --data-dir {root}`" in str(error.value)
    layouts.write_zip(
        root / "BIOSCAN_5M_Insect_Dataset_metadata_MultiTypes.zip", {"bioscan5m/metadata/csv/x": b""}
    )
    with pytest.raises(SpecimenError, match=r"_MultiTypes.zip is there, but not extracted.*--extract"):
        load()


@pytest.mark.parametrize(
    "level", ["bioscan5m/metadata", "bioscan5m/metadata/csv", "bioscan5m/images/cropped_256", ".."]
)
def test_another_level_of_the_folder_is_recognised(root, load, level):
    layouts.bioscan5m(root)
    with pytest.raises(SpecimenError) as error:
        load(data_dir=(root / level).resolve())
    assert f"Did you mean data_dir={str(root)!r}?" in str(error.value)


def test_a_file_is_no_folder(root, load):
    layouts.bioscan5m(root)
    with pytest.raises(SpecimenError, match="is a file; give the folder that holds bioscan5m"):
        load(data_dir=root / "bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv")


@pytest.mark.parametrize(
    ("name", "new"), [("processid", "process_id"), ("split", "splits"), ("order", "Ordre")]
)
def test_a_column_renamed(root, load, name, new):
    layouts.bioscan5m(root, layouts.bioscan5m_records().rename(columns={name: new}), images="none")
    with pytest.raises(SpecimenError, match=f"no column '{name}'. Is it '{new}'"):
        load(images=False)
    assert len(load(images=False, renamed={new: name})) == 39


def test_an_order_spelt_two_ways(root, load):
    records = layouts.bioscan5m_records()
    records.loc[4, "order"] = "diptera"
    layouts.bioscan5m(root, records, images="none")
    with pytest.raises(SpecimenError, match=r"'Diptera' \(11\) and 'diptera' \(1\)"):
        load(images=False)


def test_one_processid_for_two_records(root, load):
    records = layouts.bioscan5m_records()
    records.loc[7, "processid"] = records.loc[5, "processid"]
    layouts.bioscan5m(root, records)
    with pytest.raises(SpecimenError, match="processid.*GMTST6-22"):
        load()


@pytest.mark.parametrize("images", ["tree", "zip"])
def test_records_without_a_photograph(root, load, images):
    records = layouts.bioscan5m_records()
    layouts.bioscan5m(root, records.drop([1, 4]), images=images)
    layouts.bioscan5m_metadata(root, records)
    with pytest.raises(SpecimenError) as error:
        load()
    words = str(error.value)
    assert "2 of 40 photographs are missing (5.0%)" in words and "GMTST2-22" in words and "GMTST5-22" in words
    assert f"`bionas fetch bioscan5m --package cropped_256 --split all --data-dir {root}`" in words
    assert 'missing_images="skip"' in words
    specimens = load(missing_images="skip")
    assert len(specimens) == 37 and "2 of 40 photographs are missing" in specimens.notes[0]
    assert has_its_own_pictures(specimens, records)


@pytest.mark.parametrize("images", ["tree", "zip"])
def test_photographs_without_a_record_are_counted(root, load, images):
    records = layouts.bioscan5m(root, images=images)
    layouts.bioscan5m_metadata(root, records.drop([1, 4, 7]))
    specimens = load()
    assert len(specimens) == 36 and has_its_own_pictures(specimens, records)
    assert any("3 photographs have no record" in note for note in specimens.notes)


def test_no_photograph_at_all(root, load):
    layouts.bioscan5m(root, images="none")
    with pytest.raises(SpecimenError, match=r"(?s)photographs.*bionas fetch bioscan5m.*images=False"):
        load()
    with pytest.raises(SpecimenError, match="images=False"):
        load(missing_images="skip")


@pytest.mark.parametrize("images", ["tree", "zip"])
def test_a_photograph_cut_short_is_skipped_and_named_up_to_a_share(root, load, images):
    records = layouts.bioscan5m_records()
    damaged = {layouts.bioscan5m_member(records.iloc[3]): layouts.jpeg((1, 2, 3))[:400]}
    layouts.bioscan5m(root, records, images=images, spoilt=damaged)
    with pytest.raises(
        SpecimenError, match=r"1 of 40 photographs cannot be read \(2.5%\).*max_unreadable=1.0%"
    ):
        load(max_unreadable=0.01)
    specimens = load()
    assert (
        len(specimens) == 38
        and "GMTST4-22" in specimens.notes[0]
        and has_its_own_pictures(specimens, records)
    )


def test_an_archive_cut_short(root, load):
    layouts.bioscan5m(root, images="zip")
    archive = root / "BIOSCAN_5M_cropped_256_train.zip"
    archive.write_bytes(archive.read_bytes()[:-4000])
    with pytest.raises(SpecimenError, match=r"BIOSCAN_5M_cropped_256_train.zip"):
        load()


# BIOSCAN-1M


@pytest.mark.parametrize("images", ["tree", "zip"])
@pytest.mark.parametrize("level", ["", "bioscan1m"])
def test_bioscan1m_opens_extracted_and_packed(root, load, images, level):
    records = layouts.bioscan1m(root, images=images)
    specimens = load("bioscan1m", root / level)
    assert specimens.counts().to_dict() == {**THREE, "Other": 3} and specimens.caption == "BIOSCAN-1M"
    assert has_its_own_pictures(specimens, records)


def test_bioscan1m_speaks_the_names_of_bioscan5m(root, load):
    written = layouts.bioscan1m(root, images="none").set_index("processid")
    specimens = load("bioscan1m", images=False)
    read = specimens.records.set_index("processid")
    written = written.loc[read.index]
    for ours, theirs in (("dna_bin", "uri"), ("taxon", "name"), ("family", "family"), ("genus", "genus")):
        texts = read[ours].astype(object).where(read[ours].notna(), "not_classified")
        assert texts.tolist() == written[theirs].tolist(), ours
    assert read["family"].isna().sum() == 0 and read["species"].isna().sum() == 29


def test_a_partitioning_of_bioscan1m_is_the_official_split(root, load):
    layouts.bioscan1m(root, images="none")
    specimens = load("bioscan1m", images=False)
    assert [len(side) for side in specimens.split("official")] == [18, 9, 9]
    with pytest.raises(SpecimenError, match="no_split"):
        load("bioscan1m", images=False, partitioning="small_insect_order").split("official")
    with pytest.raises(UnknownName, match="'large_insect_order'"):
        load("bioscan1m", images=False, partitioning="large_insect_orders")


def test_the_older_layout_of_bioscan1m(root, load):
    layouts.bioscan1m(root)
    (root / "bioscan1m").rename(root / "bioscan")
    (root / "bioscan/BIOSCAN_Insect_Dataset_metadata.tsv").rename(
        root / "BIOSCAN_Insect_Dataset_metadata.tsv"
    )
    assert len(load("bioscan1m")) == 39


def test_what_bioscan1m_refuses(root, load):
    records = layouts.bioscan1m_records()
    layouts.bioscan1m(root, records.rename(columns={"image_file": "image"}), images="none")
    with pytest.raises(SpecimenError, match="no column 'image_file'. Is it 'image'"):
        load("bioscan1m")
    layouts.bioscan1m(root, records, images="none")
    with pytest.raises(SpecimenError, match="(?s)bionas fetch bioscan1m --package cropped_256"):
        load("bioscan1m")
    (root / "bioscan1m/BIOSCAN_Insect_Dataset_metadata.tsv").unlink()
    with pytest.raises(SpecimenError, match="bionas fetch bioscan1m --metadata"):
        load("bioscan1m")


# From a download to a searched architecture


@pytest.mark.parametrize("source", ["bioscan5m", "bioscan1m"])
def test_a_download_is_searched(source, root, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "cache", lambda: tmp_path / "cache")
    getattr(layouts, source)(root, images="zip")
    # BIOSCAN-1M says nothing of place or size: only ranks and BINs, which would give the order away.
    plan = experiments.plan(
        "smoke",
        source=source,
        data_dir=root,
        search_epochs=1,
        image_size=32,
        batch_size=8,
        min_records=4,
        device="cpu",
        metadata="leak_free" if source == "bioscan5m" else "none",
        run_dir=tmp_path / "runs",
    )
    run = experiments.search(plan)
    assert run.complete and (run.path / "genotype.json").is_file()


# Real records


def test_real_records_of_bioscan5m(shared_data, root, load):
    """25 records as the browser exports them: under the names of the download they open as one."""
    frame = pd.read_csv(shared_data / "bioscan5m_25rows.tsv", sep="\t", dtype=str, keep_default_na=False)
    frame = frame.rename(columns={"lat": "coord-lat", "lon": "coord-lon"}).reindex(
        columns=layouts.BIOSCAN5M_COLUMNS, fill_value=""
    )
    layouts.bioscan5m(root, frame, images="zip")
    specimens = load(min_records=0)
    assert specimens.counts().to_dict() == dict.fromkeys(
        ["Coleoptera", "Diptera", "Hemiptera", "Hymenoptera", "Lepidoptera"], 5
    )
    assert specimens.records["split"].value_counts().to_dict() == {"pretrain": 21, "train": 3, "test": 1}

"""Tables of records without photographs."""

from __future__ import annotations

import gzip

import layouts
import numpy as np
import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.errors import SpecimenError
from bionas.specimens import load_specimens
from bionas.training.runs import Run


@pytest.fixture
def table(tmp_path):
    """A table as BOLD's exports have it, with its words for what is not known."""
    frame = pd.DataFrame(
        {
            "processid": [f"REC{i}-20" for i in range(8)],
            "order": ["Diptera", "Diptera", "Araneae", "Araneae", "Diptera", "Araneae", "Diptera", "Unknown"],
            "genus": ["Unknown", "Apis", "", "unknown genus", "Apis", "Larinia", "Larinia", "Apis"],
            "species": [
                "Unknown species",
                "Apis x",
                "",
                "Unknown species",
                "Apis y",
                "L. z",
                "L. z",
                "Unknown species",
            ],
            "dna_bin": [f"BOLD:AAA{i:04}" for i in range(8)],
            "country_or_geography": [
                "Canada",
                "Unrecoverable",
                "Peru",
                "Unknown",
                "Åland",
                "Peru",
                "Peru",
                "Peru",
            ],
            "geography_broad": [
                "North America",
                "Other",
                "South America",
                "Other",
                "Scandinavia",
                *["South America"] * 3,
            ],
        }
    )
    path = tmp_path / "table.tsv.gz"
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        frame.to_csv(file, sep="\t", index=False, lineterminator="\n")
    return path


@pytest.fixture
def load(tmp_path):
    return lambda path, **options: load_specimens("records", path, cache_dir=tmp_path / "cache", **options)


def test_a_table_is_a_collection_without_images(table, load):
    specimens = load(table)
    assert specimens.images is None and specimens.counts().to_dict() == {"Diptera": 4, "Araneae": 3}
    assert specimens.caption == "Records of table.tsv.gz"


def test_columns_come_under_the_names_of_the_schema_where_the_meaning_is_the_same(table, load):
    records = load(table).records
    assert "country" in records and "country_or_geography" not in records
    assert records["geography_broad"].iloc[0] == "North America" and "province_state" not in records


def test_words_for_unknown_count_as_missing_and_are_said(table, load):
    specimens = load(table)
    assert specimens.records["genus"].isna().tolist() == [True, False, True, True, False, False, False]
    assert specimens.records["species"].isna().sum() == 3 and specimens.records["country"].isna().sum() == 2
    notes = " ".join(specimens.notes)
    assert (
        "'Unknown', 'Unrecoverable' in country (2)" in notes and "'Unknown species' in species (3)" in notes
    )
    assert "1 of 8 records have no order" in notes


def test_a_folder_of_one_table_or_the_name_of_one(table, load):
    assert len(load(table.parent)) == 7
    (table.parent / "b.csv").write_text("order\nDiptera\n")
    with pytest.raises(SpecimenError, match="2 tables in .*b.csv, table.tsv.gz.*data_dir="):
        load(table.parent)
    assert len(load(table.parent, table="b.csv")) == 1
    with pytest.raises(SpecimenError, match="table='c.csv' is not in"):
        load(table.parent, table="c.csv")


def test_no_such_table(table, load):
    with pytest.raises(SpecimenError, match="needs data_dir="):
        load(None)
    with pytest.raises(SpecimenError, match="Did you mean 'table.tsv.gz'"):
        load(table.parent / "tabel.tsv.gz")
    with pytest.raises(SpecimenError, match="(?s)'familie'"):
        load(table, target="familie")


def test_headers_that_nobody_knows_can_be_told(tmp_path, load):
    (tmp_path / "t.csv").write_text("id,Ordnung\na,Diptera\nb,Araneae\n")
    with pytest.raises(SpecimenError, match="has no column 'order'. It has: id, Ordnung"):
        load(tmp_path / "t.csv")
    assert load(tmp_path / "t.csv", renamed={"Ordnung": "order"}).class_names == ("Araneae", "Diptera")


def test_one_processid_twice(tmp_path, load):
    path = tmp_path / "t.csv"
    path.write_text("processid,order\na,Diptera\nb,Araneae\na,Diptera\n")
    assert len(load(path)) == 2
    path.write_text("processid,order\na,Diptera\nb,Araneae\na,Araneae\n")
    with pytest.raises(SpecimenError, match=r"t.csv: 1 processids .* 'a' \(2 records, differing in order\)"):
        load(path)


def test_a_download_of_bioscan5m_is_a_table_too(tmp_path, load):
    layouts.bioscan5m(tmp_path, images="none")
    path = tmp_path / "bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
    specimens = load(path)
    assert (
        len(specimens) == 39
        and specimens.records["chunk"].isin(["00", "1e", "a9", "07", "0", "7", "e", "f"]).any()
    )


def test_real_records_of_bioscan5m(shared_data, load):
    specimens = load(shared_data / "bioscan5m_25rows.tsv")
    assert len(specimens) == 25 and set(specimens.counts()) == {5}
    assert specimens.records["coord-lat"].notna().all() and np.isclose(
        specimens.records["coord-lat"][0], 20.032
    )
    assert specimens.records["species"].isna().sum() == 21


def test_real_records_of_bold(shared_data, load):
    """42,060 records of 37 orders, by hand: `zcat | cut | sort | uniq -c`."""
    specimens = load(shared_data / "bold_records.tsv.gz")
    assert len(specimens) == 42_060 and len(specimens.class_names) == 37
    assert specimens.counts().head(2).to_dict() == {"Diptera": 13_719, "Hymenoptera": 9_156}
    records = specimens.records
    assert records["country"].isna().sum() == 2_898 + 658 and records["country"].nunique() == 172 - 2
    assert records["dna_bin"].nunique() == 28_613
    assert [len(side) for side in specimens.split("paper")] == pytest.approx([29_442, 8_412, 4_206], abs=60)


def test_real_records_train_the_metadata_encoder_alone(shared_data, tmp_path, capsys):
    given = {
        "mode": "smoke",
        "source": "records",
        "data_dir": shared_data / "bold_records.tsv.gz",
        "min_records": 500,
        "metadata": "no_target",
        "limit": 600,
        "epochs": 8,
        "run_dir": tmp_path,
    }
    words = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    assert main(["metadata-alone", *words, "--seeds", "0"]) == 0
    assert "a look-up table without images names" in capsys.readouterr().out  # a family lies in one order
    (folder,) = tmp_path.glob("records-smoke/seed0/metadata-alone-*")
    run = Run(folder)
    assert run.complete and run.metrics["accuracy"] > run.metrics["majority_accuracy"] + 0.05
    assert not (folder / "genotype.json").exists()
    assert 60 <= len(run.table("predictions")) < 70  # a tenth of 600, rounded up in every order

"""Darwin Core and Camtrap DP: what is exported, read back by the formats' own readers."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bionas.errors import SpecimenError
from bionas.lab import camtrap, darwin_core
from bionas.lab.answers import read_answers

RANKS = ("order", "family")
LINEAGE = {
    "Carabidae": {"order": "Coleoptera"},
    "Syrphidae": {"order": "Diptera"},
    "Muscidae": {"order": "Diptera"},
}
MODEL = "pretrained-0123456789"


@pytest.fixture
def table(tmp_path):
    rows = [
        ("a/1.jpg", "Coleoptera", 0.99, "Carabidae", 0.97, "Carabidae", "family", ""),
        ("a/2.jpg", "Diptera", 0.98, "Muscidae", 0.55, "Diptera", "order", "rolled up"),
        ("a/3.jpg", "Diptera", 0.52, "Syrphidae", 0.40, "unsure", "", "no rank is sure enough"),
        (
            "a/4.jpg",
            "Diptera",
            0.90,
            "Syrphidae",
            0.88,
            "not recognised",
            "",
            "unlike the training photographs",
        ),
        ("a/5.jpg", "", "", "", "", "unreadable", "", "cut short"),
    ]
    columns = "file order order_score family family_score decision decided_rank reason".split()
    path = tmp_path / "ids.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def corrections(tmp_path, *rows):
    path = tmp_path / "labels.csv"
    pd.DataFrame(rows, columns=["file", "family", "review"]).to_csv(path, index=False)
    return path


def test_every_photograph_is_exported_or_counted(table, tmp_path):
    answers = read_answers(table, RANKS, LINEAGE)
    assert len(answers.rows) + sum(answers.left_out.values()) == 5
    assert answers.left_out == {"unsure": 1, "not recognised": 1, "unreadable": 1}
    assert answers.rows[["taxon", "rank", "order", "family"]].to_numpy().tolist() == [
        ["Carabidae", "family", "Coleoptera", "Carabidae"],
        ["Diptera", "order", "Diptera", ""],
    ]
    reviewed = corrections(
        tmp_path,
        ("a/1.jpg", "Carabidae", "confirmed"),
        ("a/3.jpg", "Muscidae", "corrected"),
        ("a/2.jpg", "", "rejected"),
    )
    answers = read_answers(table, RANKS, LINEAGE, reviewed)
    assert answers.rows["reviewed"].tolist() == [True, True]
    assert answers.rows["taxon"].tolist() == ["Carabidae", "Muscidae"]
    assert answers.rows["order"].tolist() == ["Coleoptera", "Diptera"]
    assert len(answers.rows) + sum(answers.left_out.values()) == 5


def test_what_cannot_be_read_is_said(table, tmp_path):
    with pytest.raises(SpecimenError, match="a/9.jpg"):
        read_answers(table, RANKS, LINEAGE, corrections(tmp_path, ("a/9.jpg", "Carabidae", "confirmed")))
    with pytest.raises(SpecimenError, match="row 2: review is 'maybe'"):
        read_answers(table, RANKS, LINEAGE, corrections(tmp_path, ("a/1.jpg", "Carabidae", "maybe")))
    with pytest.raises(SpecimenError, match="family is empty"):
        read_answers(table, RANKS, LINEAGE, corrections(tmp_path, ("a/1.jpg", "", "confirmed")))
    with pytest.raises(SpecimenError, match="is not there"):
        read_answers(tmp_path / "no.csv", RANKS, LINEAGE)
    with pytest.raises(SpecimenError, match="genus"):
        read_answers(table, ("order", "genus"), LINEAGE)


def test_tables_saved_again_by_a_spreadsheet_are_read(table, tmp_path):
    wanted = read_answers(table, RANKS, LINEAGE, corrections(tmp_path, ("a/3.jpg", "Muscidae", "corrected")))
    for delimiter in ";\t":
        for path in (table, tmp_path / "labels.csv"):
            text = pd.read_csv(
                path, sep=None, engine="python", dtype=str, keep_default_na=False, encoding="utf-8-sig"
            )
            text.to_csv(path, index=False, sep=delimiter, encoding="utf-8-sig", lineterminator="\r\n")
        again = read_answers(table, RANKS, LINEAGE, tmp_path / "labels.csv")
        pd.testing.assert_frame_equal(wanted.rows, again.rows)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecimenError, match="cannot be read as a table"):
        read_answers(table, RANKS, LINEAGE)


def test_the_archive_is_read_by_a_darwin_core_reader(table, tmp_path):
    reader = pytest.importorskip("dwca.read")
    terms = pytest.importorskip("dwca.darwincore.utils")
    answers = read_answers(
        table, RANKS, LINEAGE, corrections(tmp_path, ("a/1.jpg", "Carabidae", "confirmed"))
    )
    path = tmp_path / "out.zip"
    places = {"a/1.jpg": {"lat": "59.9", "lon": "10.7", "date": "2026-06-01"}}
    n = darwin_core.write_archive(path, answers, MODEL, title="A trial", date="2026-07-01", places=places)
    with reader.DwCAReader(str(path)) as archive:
        rows = list(archive)
        assert len(rows) == n == 2 and archive.descriptor.core.type.endswith("Occurrence")
        first, second = (row.data for row in rows)
        term = terms.qualname
        assert first[term("scientificName")] == "Carabidae" and first[term("order")] == "Coleoptera"
        assert first[term("decimalLatitude")] == "59.9" and second[term("decimalLatitude")] == ""
        assert first[term("identificationVerificationStatus")] == "verified"
        assert second[term("identificationVerificationStatus")] == "unverified"
        assert second[term("taxonRank")] == "order" and second[term("family")] == ""
        assert {row.data[term("identifiedBy")] for row in rows} == {MODEL}
        assert archive.metadata is not None
    again = darwin_core.occurrences(answers, MODEL, "2027-01-01")
    assert again["occurrenceID"].tolist() == [row.id for row in rows] and again["occurrenceID"].is_unique


# The parts of Camtrap DP 1.0's table schemas that decide: order of columns comes from the module, types and rules from here.
TYPES = {
    "latitude": ("number", {"required": True, "minimum": -90, "maximum": 90}),
    "longitude": ("number", {"required": True, "minimum": -180, "maximum": 180}),
    "deploymentStart": ("datetime", {"required": True}),
    "deploymentEnd": ("datetime", {"required": True}),
    "timestamp": ("datetime", {"required": True}),
    "eventStart": ("datetime", {"required": True}),
    "eventEnd": ("datetime", {"required": True}),
    "classificationTimestamp": ("datetime", {}),
    "filePublic": ("boolean", {"required": True}),
    "fileMediatype": ("string", {"required": True, "pattern": "^(image|video|audio)/.*$"}),
    "filePath": ("string", {"required": True}),
    "deploymentID": ("string", {"required": True}),
    "mediaID": ("string", {"required": True}),
    "observationID": ("string", {"required": True, "unique": True}),
    "observationLevel": ("string", {"required": True, "enum": ["media", "event"]}),
    "observationType": (
        "string",
        {"required": True, "enum": ["animal", "human", "vehicle", "blank", "unknown", "unclassified"]},
    ),
    "classificationMethod": ("string", {"enum": ["human", "machine"]}),
    "classificationProbability": ("number", {"minimum": 0, "maximum": 1}),
}
TIME = "%Y-%m-%dT%H:%M:%S%z"


def schema(name: str, columns: list[str]) -> dict:
    fields = []
    for column in columns:
        kind, rules = TYPES.get(column, ("any", {}))
        fields.append(
            {"name": column, "type": kind, "constraints": rules}
            | ({"format": TIME} if kind == "datetime" else {})
        )
    keys = {"deployments": [], "media": [("deploymentID", "deployments")]}
    keys["observations"] = [("deploymentID", "deployments"), ("mediaID", "media")]
    links = [
        {"fields": [field], "reference": {"resource": to, "fields": [field]}} for field, to in keys[name]
    ]
    primary = {"deployments": "deploymentID", "media": "mediaID", "observations": "observationID"}[name]
    return {"fields": fields, "primaryKey": [primary], "foreignKeys": links}


@pytest.fixture
def deployments(tmp_path):
    path = tmp_path / "deployments.csv"
    rows = [("trap1", "59.9", "10.7", "2026-06-01T00:00:00Z", "2026-06-30T00:00:00Z")]
    pd.DataFrame(rows, columns=list(camtrap.REQUIRED)).to_csv(path, index=False)
    return path


def test_the_package_is_valid_camtrap_dp(table, deployments, tmp_path):
    frictionless = pytest.importorskip("frictionless")
    answers = read_answers(
        table, RANKS, LINEAGE, corrections(tmp_path, ("a/1.jpg", "Carabidae", "confirmed"))
    )
    everything = pd.read_csv(table, dtype=str, keep_default_na=False)
    times = {
        name: {"timestamp": f"2026-06-0{i + 1}T08:30:00+02:00"} for i, name in enumerate(everything["file"])
    }
    folder = tmp_path / "package"
    n = camtrap.write_package(
        folder, answers, everything, camtrap.read_deployments(deployments), MODEL,
        title="A trial", contributor="A museum", about=times,
    )  # fmt: skip
    assert n == 5
    package = json.loads((folder / "datapackage.json").read_text())
    assert package["profile"].endswith("/1.0/camtrap-dp-profile.json")
    assert {
        "resources",
        "profile",
        "created",
        "contributors",
        "project",
        "spatial",
        "temporal",
        "taxonomic",
    } <= set(package)
    assert [taxon["scientificName"] for taxon in package["taxonomic"]] == ["Carabidae", "Diptera"]
    tables = {
        "deployments": camtrap.DEPLOYMENTS,
        "media": camtrap.MEDIA,
        "observations": camtrap.OBSERVATIONS,
    }
    for resource in package["resources"]:  # the published schemas lie behind addresses; their rules are above
        assert resource["schema"].endswith(f"/1.0/{resource['name']}-table-schema.json")
        resource["schema"] = schema(resource["name"], tables[resource["name"]])
    (folder / "datapackage.json").write_text(json.dumps(package | {"profile": "data-package"}))
    report = frictionless.validate(str(folder / "datapackage.json"))
    assert report.valid, report.flatten(["title", "message"])
    observations = pd.read_csv(folder / "observations.csv", dtype=str, keep_default_na=False)
    assert observations["observationType"].tolist() == [
        "animal",
        "animal",
        "unknown",
        "unknown",
        "unclassified",
    ]
    assert observations["classificationMethod"].tolist() == ["human", "machine", "machine", "machine", ""]
    assert observations["classificationProbability"].tolist() == ["", "0.98", "", "", ""]


def test_a_photograph_without_time_or_place_is_no_camtrap_observation(table, deployments, tmp_path):
    answers = read_answers(table, RANKS, LINEAGE)
    everything = pd.read_csv(table, dtype=str, keep_default_na=False)
    stations = camtrap.read_deployments(deployments)
    words = {"title": "A trial", "contributor": "A museum"}
    with pytest.raises(SpecimenError, match=r"5 of 5 photographs have no time \(the first: a/1.jpg\)"):
        camtrap.write_package(tmp_path / "p", answers, everything, stations, MODEL, **words)
    elsewhere = {
        name: {"timestamp": "2026-06-01T08:30:00Z", "deploymentID": "trap9"} for name in everything["file"]
    }
    with pytest.raises(SpecimenError, match="5 of 5 photographs belong to no deployment"):
        camtrap.write_package(tmp_path / "p", answers, everything, stations, MODEL, about=elsewhere, **words)
    assert not (tmp_path / "p").exists()


def test_exif_times_are_used_with_the_zone_that_is_given(tmp_path):
    image = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2026:06:01 08:30:00"
    image.save(tmp_path / "with.jpg", exif=exif)
    image.save(tmp_path / "without.jpg")
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert camtrap.exif_time(tmp_path / "with.jpg", zone).isoformat() == "2026-06-01T08:30:00+02:00"
    assert camtrap.exif_time(tmp_path / "without.jpg", zone) is None


def test_deployments_are_checked(tmp_path):
    good = ["t", "59", "10", "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"]
    for place, value, message in ((1, "95", "latitude is '95'"), (2, "", "longitude is ''"), (3, "June", "deploymentStart"),
                                  (3, "2026-06-01T00:00:00", "deploymentStart")):  # fmt: skip
        row = list(good)
        row[place] = value
        path = tmp_path / "deployments.csv"
        pd.DataFrame([row], columns=list(camtrap.REQUIRED)).to_csv(path, index=False)
        with pytest.raises(SpecimenError, match=f"row 2: {message}"):
            camtrap.read_deployments(path)

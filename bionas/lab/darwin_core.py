"""A Darwin Core archive of identifications: `occurrence.csv`, `meta.xml` and an EML stub in one ZIP file.

The terms are those of the Darwin Core occurrence class (Wieczorek et al. 2012). Identifications by the model are
`unverified`; those that a reviewer confirmed or corrected are `verified`. Place and date are filled where a table
gives them.
"""

from __future__ import annotations

import datetime
import io
import os
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import pandas as pd

from bionas.errors import SpecimenError
from bionas.lab.answers import Answers
from bionas.system import files

TERMS = "http://rs.tdwg.org/dwc/terms/"
TEXT = "http://rs.tdwg.org/dwc/text/"
EML = "https://eml.ecoinformatics.org/eml-2.2.0"
FROM_TABLE = {
    "eventDate": ("eventDate", "event_date", "date", "timestamp"),
    "decimalLatitude": ("decimalLatitude", "coord-lat", "lat", "latitude"),
    "decimalLongitude": ("decimalLongitude", "coord-lon", "lon", "longitude"),
    "country": ("country",),
}
"""Darwin Core terms that a table of the photographs can fill -> the columns that are looked for, in this order."""

RANK_TERMS = ("kingdom", "phylum", "class", "order", "family", "subfamily", "genus")
"""Ranks that are Darwin Core terms of their own."""

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, TERMS)


def occurrences(
    answers: Answers, identified_by: str, date: str, places: Mapping[str, Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """One occurrence per identified photograph.

    Args:
        answers: from `read_answers`.
        identified_by: model and version.
        date: day of the identification, YYYY-MM-DD.
        places: file -> column -> value of a table about the photographs.

    Returns:
        The columns are Darwin Core terms; occurrenceID depends on model and file only, so that a second export of the
        same photographs updates the first.
    """
    rows = []
    for row in answers.rows.to_dict("records"):
        about = (places or {}).get(row["file"], {})
        lineage = {term: row.get(term, "") for term in RANK_TERMS if term in row}
        rows.append(
            {
                "occurrenceID": f"urn:uuid:{uuid.uuid5(_SPACE, identified_by + ' ' + row['file'])}",
                "basisOfRecord": "MachineObservation",
                "occurrenceStatus": "present",
                **{term: _first(about, names) for term, names in FROM_TABLE.items()},
                "scientificName": row["taxon"],
                "taxonRank": row["rank"],
                **lineage,
                "identifiedBy": identified_by,
                "dateIdentified": date,
                "identificationVerificationStatus": "verified" if row["reviewed"] else "unverified",
                "identificationRemarks": row["remarks"],
                "associatedMedia": row["file"],
            }
        )
    frame = pd.DataFrame(rows)
    empty = [term for term in FROM_TABLE if term in frame and (frame[term] == "").all()]
    return frame.drop(columns=empty)


def write_archive(
    path: str | os.PathLike,
    answers: Answers,
    identified_by: str,
    *,
    title: str,
    date: str | None = None,
    places: Mapping[str, Mapping[str, str]] | None = None,
) -> int:
    """Write the archive; returns the number of occurrences.

    Args:
        path: the ZIP file; replaced whole.
        title: of the data set, in the EML stub. The other fields of the stub are for the publisher to fill.

    Raises:
        SpecimenError: no photograph has a taxon, so there is nothing to export.
        BionasError: the file cannot be written.
    """
    date = date or datetime.datetime.now(datetime.UTC).date().isoformat()
    frame = occurrences(answers, identified_by, date, places)
    if frame.empty:
        raise SpecimenError(
            "no photograph has a decided taxon, so there is no occurrence to export. Review the table, or predict with a "
            "larger --error-rate."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("occurrence.csv", frame.to_csv(index=False, lineterminator="\n"))
        archive.writestr("meta.xml", _meta(list(frame.columns)))
        archive.writestr("eml.xml", _eml(title, date, identified_by))
    with files.replacing(path) as file:
        file.write(buffer.getbuffer())
    return len(frame)


def _first(about: Mapping[str, str], names: Sequence[str]) -> str:
    return next((str(about[name]) for name in names if about.get(name) not in (None, "")), "")


def _meta(columns: list[str]) -> bytes:
    """The archive's descriptor: which column is which term."""
    root = ElementTree.Element("archive", {"xmlns": TEXT, "metadata": "eml.xml"})
    core = ElementTree.SubElement(
        root,
        "core",
        {
            "encoding": "UTF-8",
            "fieldsTerminatedBy": ",",
            "linesTerminatedBy": "\\n",
            "fieldsEnclosedBy": '"',
            "ignoreHeaderLines": "1",
            "rowType": f"{TERMS}Occurrence",
        },
    )
    ElementTree.SubElement(ElementTree.SubElement(core, "files"), "location").text = "occurrence.csv"
    ElementTree.SubElement(core, "id", {"index": str(columns.index("occurrenceID"))})
    for index, term in enumerate(columns):
        ElementTree.SubElement(core, "field", {"index": str(index), "term": TERMS + term})
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _eml(title: str, date: str, identified_by: str) -> bytes:
    root = ElementTree.Element(
        "eml:eml", {"xmlns:eml": EML, "packageId": str(uuid.uuid5(_SPACE, title + date)), "system": "bionas"}
    )
    dataset = ElementTree.SubElement(root, "dataset")
    ElementTree.SubElement(dataset, "title").text = title
    creator = ElementTree.SubElement(dataset, "creator")
    ElementTree.SubElement(creator, "organizationName").text = "to be filled in by the publisher"
    ElementTree.SubElement(dataset, "pubDate").text = date
    abstract = ElementTree.SubElement(dataset, "abstract")
    ElementTree.SubElement(
        abstract, "para"
    ).text = f"Identifications of photographs by {identified_by}. Records marked unverified were not seen by a person."
    contact = ElementTree.SubElement(dataset, "contact")
    ElementTree.SubElement(contact, "organizationName").text = "to be filled in by the publisher"
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)

"""A Camtrap DP 1.0 package of identifications: `datapackage.json`, `deployments.csv`, `media.csv`, `observations.csv`.

Camera Trap Data Package is the exchange format of camera networks (Bubnicki et al. 2023, TDWG). It requires where and when
each photograph was taken: positions and periods come from a table of deployments, times from a table of the
photographs or from their EXIF data.
"""

from __future__ import annotations

import datetime
import mimetypes
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import ExifTags, Image

from bionas.errors import SpecimenError
from bionas.lab.answers import Answers, read_text
from bionas.system import files

VERSION = "1.0"
SCHEMAS = f"https://raw.githubusercontent.com/tdwg/camtrap-dp/{VERSION}"
TIME = "%Y-%m-%dT%H:%M:%S%z"
DEPLOYMENTS = (
    "deploymentID locationID locationName latitude longitude coordinateUncertainty deploymentStart deploymentEnd setupBy "
    "cameraID cameraModel cameraDelay cameraHeight cameraDepth cameraTilt cameraHeading detectionDistance timestampIssues "
    "baitUse featureType habitat deploymentGroups deploymentTags deploymentComments"
).split()
MEDIA = (
    "mediaID deploymentID captureMethod timestamp filePath filePublic fileName fileMediatype exifData favorite mediaComments"
).split()
OBSERVATIONS = (
    "observationID deploymentID mediaID eventID eventStart eventEnd observationLevel observationType cameraSetupType "
    "scientificName count lifeStage sex behavior individualID individualPositionRadius individualPositionAngle "
    "individualSpeed bboxX bboxY bboxWidth bboxHeight classificationMethod classifiedBy classificationTimestamp "
    "classificationProbability observationTags observationComments"
).split()
REQUIRED = ("deploymentID", "latitude", "longitude", "deploymentStart", "deploymentEnd")
"""Columns of the table of deployments that must be filled."""

PROJECT = {
    "samplingDesign": "opportunistic",
    "captureMethod": ["activityDetection"],
    "individualAnimals": False,
    "observationLevel": ["media"],
}
CAMTRAP_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species", "subspecies")

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, SCHEMAS)


def read_deployments(path: str | os.PathLike) -> pd.DataFrame:
    """The table of deployments: at least the columns `REQUIRED`, times with a time zone.

    Raises:
        SpecimenError: a column or a value is missing, or not a position or a time.
    """
    if not Path(path).is_file():
        raise SpecimenError(f"{path} is not there. Camtrap DP requires a table with {', '.join(REQUIRED)}.")
    frame = read_text(path)
    if missing := [name for name in REQUIRED if name not in frame]:
        raise SpecimenError(
            f"{path} has no column {', '.join(missing)}. Camtrap DP requires {', '.join(REQUIRED)}."
        )
    for number, row in enumerate(frame.to_dict("records"), start=2):
        at = f"{path}, row {number}"
        for name, limit in (("latitude", 90), ("longitude", 180)):
            value = pd.to_numeric(row[name], errors="coerce")
            if not abs(value) <= limit:
                raise SpecimenError(f"{at}: {name} is {row[name]!r}. Give degrees from -{limit} to {limit}.")
        for name in ("deploymentStart", "deploymentEnd"):
            parse_time(row[name], f"{at}: {name}")
    if frame["deploymentID"].duplicated().any() or (frame["deploymentID"] == "").any():
        raise SpecimenError(f"{path}: every row needs a deploymentID of its own.")
    return frame.reindex(columns=DEPLOYMENTS, fill_value="")


def parse_time(text: str, where: str) -> datetime.datetime:
    """A time with its zone.

    Raises:
        SpecimenError: it is none, or has no zone; the message begins with `where`.
    """
    try:
        time = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise SpecimenError(
            f"{where} is {text!r}. Write it as 2026-06-01T08:30:00Z or 2026-06-01T08:30:00+02:00."
        )
    return time


def exif_time(path: str | os.PathLike, zone: datetime.tzinfo) -> datetime.datetime | None:
    """When a photograph was taken, by its EXIF data; None where it does not say."""
    try:
        with Image.open(path) as image:
            exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
        taken = datetime.datetime.strptime(str(exif[ExifTags.Base.DateTimeOriginal]), "%Y:%m:%d %H:%M:%S")
    except (OSError, KeyError, ValueError, SyntaxError):
        return None
    return taken.replace(tzinfo=zone)


def write_package(
    folder: str | os.PathLike,
    answers: Answers,
    everything: pd.DataFrame,
    deployments: pd.DataFrame,
    classified_by: str,
    *,
    title: str,
    contributor: str,
    about: Mapping[str, Mapping[str, str]] | None = None,
    photographs: str | os.PathLike | None = None,
    zone: datetime.tzinfo = datetime.UTC,
    now: datetime.datetime | None = None,
) -> int:
    """Write the package; returns the number of observations.

    Args:
        folder: of the package; its files are replaced.
        answers: from `read_answers`: photographs with a taxon.
        everything: the whole table of answers; photographs without a taxon become `unknown` or `unclassified`.
        deployments: from `read_deployments`. With several, `about` must name each photograph's.
        classified_by: model and version.
        title, contributor: of the project, and the person or institution responsible for it.
        about: file -> column -> value, of a table about the photographs: `timestamp`, `deploymentID`.
        photographs: the folder that the file names are relative to, for EXIF times.
        zone: of EXIF times, which have none.
        now: time of the export.

    Raises:
        SpecimenError: a photograph without a time or a deployment; the message counts them and names the first.
    """
    about = about or {}
    now = now or datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    accepted = {row["file"]: row for row in answers.rows.to_dict("records")}
    media, observations, untimed, unplaced = [], [], [], []
    only = deployments["deploymentID"].iloc[0] if len(deployments) == 1 else None
    places = set(deployments["deploymentID"])
    for answer in everything.to_dict("records"):
        name = answer["file"]
        known = about.get(name, {})
        time = _time_of(name, known, photographs, zone)
        place = known.get("deploymentID") or only
        if time is None:
            untimed.append(name)
        if place not in places:
            unplaced.append(name)
        if time is None or place not in places:
            continue
        identity, stamp = str(uuid.uuid5(_SPACE, name)), time.strftime(TIME)
        media.append(
            {
                "mediaID": identity,
                "deploymentID": place,
                "timestamp": stamp,
                "filePath": name,
                "filePublic": "false",
                "fileName": Path(name).name,
                "fileMediatype": mimetypes.guess_type(name)[0] or "application/octet-stream",
            }
        )
        observed = {
            "observationID": str(uuid.uuid5(_SPACE, f"{classified_by} {name}")),
            "deploymentID": place,
            "mediaID": identity,
            "eventStart": stamp,
            "eventEnd": stamp,
            "observationLevel": "media",
            **_classification(answer, accepted.get(name), classified_by, now),
        }
        observations.append(observed)
    if untimed:
        raise SpecimenError(
            f"{len(untimed):,} of {len(everything):,} photographs have no time (the first: {untimed[0]}), which Camtrap DP "
            "requires. Give a table with the columns file and timestamp, or photographs with EXIF data."
        )
    if unplaced:
        raise SpecimenError(
            f"{len(unplaced):,} of {len(everything):,} photographs belong to no deployment (the first: {unplaced[0]}). Give a "
            "table with the columns file and deploymentID, with the names of the table of deployments."
        )
    folder = Path(folder)
    for name, columns, rows in (
        ("deployments", DEPLOYMENTS, deployments.to_dict("records")),
        ("media", MEDIA, media),
        ("observations", OBSERVATIONS, observations),
    ):
        frame = pd.DataFrame(rows).reindex(columns=columns).astype(object).fillna("")
        files.write_csv(folder / f"{name}.csv", frame)
    files.write_json(
        folder / "datapackage.json", _package(answers, deployments, title, contributor, classified_by, now)
    )
    return len(observations)


def _time_of(
    name: str, known: Mapping[str, str], photographs: str | os.PathLike | None, zone: datetime.tzinfo
) -> datetime.datetime | None:
    if known.get("timestamp"):
        return parse_time(known["timestamp"], f"{name}: timestamp")
    return exif_time(Path(photographs) / name, zone) if photographs is not None else None


def _classification(
    answer: Mapping[str, Any], accepted: Mapping[str, Any] | None, classified_by: str, now: datetime.datetime
) -> dict[str, Any]:
    method = {"classificationMethod": "machine", "classifiedBy": classified_by}
    if accepted is None:
        kind = "unclassified" if answer["decision"] == "unreadable" else "unknown"
        return {
            "observationType": kind,
            **({} if kind == "unclassified" else method | {"classificationTimestamp": now.strftime(TIME)}),
            "observationComments": answer.get("reason", "") or answer["decision"],
        }
    if accepted["reviewed"]:
        method = {"classificationMethod": "human", "classifiedBy": "reviewer"}
    score = accepted["score"]
    return {
        "observationType": "animal",
        "scientificName": accepted["taxon"],
        **method,
        "classificationTimestamp": now.strftime(TIME),
        "classificationProbability": "" if accepted["reviewed"] or pd.isna(score) else round(float(score), 4),
        "observationComments": accepted["remarks"],
    }


def _package(
    answers: Answers,
    deployments: pd.DataFrame,
    title: str,
    contributor: str,
    classified_by: str,
    now: datetime.datetime,
) -> dict[str, Any]:
    latitude, longitude = (deployments[name].astype(float) for name in ("latitude", "longitude"))
    west, east, south, north = longitude.min(), longitude.max(), latitude.min(), latitude.max()
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    taxa = answers.rows.drop_duplicates("taxon")
    return {
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{SCHEMAS}/{name}-table-schema.json",
            }
            for name in ("deployments", "media", "observations")
        ],
        "profile": f"{SCHEMAS}/camtrap-dp-profile.json",
        "name": "bionas-identifications",
        "created": now.strftime(TIME),
        "title": title,
        "description": f"Photographs identified by {classified_by}.",
        "contributors": [{"title": contributor, "role": "contributor"}],
        "project": {"title": title, **PROJECT},
        "spatial": {"type": "Polygon", "coordinates": [ring]},
        "temporal": {
            "start": min(deployments["deploymentStart"])[:10],
            "end": max(deployments["deploymentEnd"])[:10],
        },
        "taxonomic": [
            {
                "scientificName": row["taxon"],
                **({"taxonRank": row["rank"]} if row["rank"] in CAMTRAP_RANKS else {}),
                **{rank: row[rank] for rank in CAMTRAP_RANKS if row.get(rank)},
            }
            for row in taxa.to_dict("records")
        ],
    }

"""Path of an Insect-1M image under the data folder: `images/<first digits of the id>/<id>.jpg`.

At most 10,000 files per folder for ids of up to seven digits. The suffix is that of the image's own format: nearly all of
them are JPEG, and `.jpg` is the name of one that is not there yet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from bionas.errors import SpecimenError

FOLDER = "images"
DIGITS = 7
"""Ids are padded to this many digits before the first three name the folder: Insect-1M counts a little over a million."""

SUFFIX_OF_FORMAT = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
    "BMP": ".bmp",
}
LONGEST = 200


def insect_image_name(record_id: int | str, suffix: str = ".jpg") -> str:
    """The image's path under the data folder, with forward slashes: 4711 -> "images/000/4711.jpg".

    An id that is no number is percent-encoded where a file name could not hold it, and spread over folders by its hash.

    Raises:
        SpecimenError: an id that is empty or too long for a file name.
    """
    stem = image_stem(record_id)
    digits = stem.isascii() and stem.isdigit()
    folder = stem.zfill(DIGITS) if digits else hashlib.md5(stem.encode(), usedforsecurity=False).hexdigest()
    return f"{FOLDER}/{folder[:3]}/{stem}{suffix}"


def insect_image_names(data_dir: str | os.PathLike, record_ids: Iterable[int | str]) -> list[str]:
    """For each record the path of its image under `data_dir`: as it is there, else as it would be called (`.jpg`)."""
    here = images_here(data_dir)
    return [here.get(image_stem(record_id)) or insect_image_name(record_id) for record_id in record_ids]


def image_stem(record_id: int | str) -> str:
    """The file name without its suffix; two ids never share one."""
    stem = quote(str(record_id), safe=" ")
    if not stem.strip() or len(stem) > LONGEST:
        raise SpecimenError(f"the id {str(record_id)[:60]!r} cannot name a file: it is empty or too long.")
    return stem


def images_here(data_dir: str | os.PathLike) -> dict[str, str]:
    """Stem -> path under `data_dir` of every image that is there; a million names are listed in a second or two."""
    suffixes = set(SUFFIX_OF_FORMAT.values())
    root = Path(data_dir) / FOLDER
    here = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else ():
        for entry in os.scandir(folder):
            stem, suffix = os.path.splitext(entry.name)
            if suffix in suffixes and not stem.startswith("."):
                here[stem] = f"{FOLDER}/{folder.name}/{entry.name}"
    return here

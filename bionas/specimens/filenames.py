"""Matching the file names in a table with the images of a folder.

Tables come from other machines: paths start with a drive or with the folder's own name, accents are composed
differently, suffixes are missing. `FileNames.match` accepts a name where exactly one image is meant, and otherwise says
what is the matter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bionas.specimens.folders import UNSUPPORTED
from bionas.specimens.notes import SHOWN


class Match(NamedTuple):
    """`image`: the image that is meant, or the name as given; `problem`: why none is, or ""; `guessed`: by which rule."""

    image: str
    problem: str = ""
    guessed: str = ""


class FileNames:
    """The images of a folder, found by the names that tables give them.

    Args:
        data_dir: the folder.
        images: paths of its images from there, with forward slashes.
        unsupported: paths of photographs that cannot be decoded.
    """

    def __init__(self, data_dir: Path, images: Sequence[str], unsupported: Sequence[str] = ()):
        self._root = data_dir.resolve().as_posix().rstrip("/") + "/"
        self._images = set(images)
        self._composed = _by(images, _composed)
        self._tails = _by_tails(images)
        self._folded = _by_tails(images, fold=True)
        self._stems = _by_tails((image for image in images), stem=True)
        self._unsupported = _by_tails(unsupported, fold=True)

    def match(self, name: str) -> Match:
        """The image that a table's cell means."""
        path = PurePosixPath(str(name).strip().replace("\\", "/").removeprefix(self._root)).as_posix()
        if path in self._images:
            return Match(path)
        path = _composed(path)
        if len(same := self._composed.get(path, [])) == 1:
            return Match(same[0])
        for tail in _tails(path):
            same = self._tails.get(tail, [])
            if len(same) == 1:
                return Match(same[0], guessed="" if tail == path else "the end of the path")
            if same:
                return Match(path, f"could be {' or '.join(map(repr, same[:SHOWN]))}: write the path")
        return self._nearly(path)

    def _nearly(self, path: str) -> Match:
        has_suffix = bool(PurePosixPath(path).suffix)
        for tail in _tails(path):
            if same := self._unsupported.get(tail.casefold()) or self._unsupported.get(
                _stem(tail).casefold()
            ):
                kind = PurePosixPath(same[0]).suffix
                return Match(
                    path,
                    f"is there as {same[0]!r}, but {kind} photographs cannot be read: convert it to JPEG",
                )
            if same := self._folded.get(tail.casefold()):
                return Match(path, f"is not there, but {same[0]!r} is")
            same = self._stems.get(tail if tail in self._stems else _stem(tail), [])
            if len(same) == 1 and tail in self._stems:
                return Match(same[0], guessed="the name without a suffix")
            if same:
                why = "write the suffix" if not has_suffix else "the suffix differs"
                return Match(path, f"is not there, but {' and '.join(map(repr, same[:SHOWN]))} is: {why}")
        return Match(path, "is not there")


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix() if PurePosixPath(path).suffix else path


def _tails(path: str) -> list[str]:
    """The path and its ends, longest first: a/b/c.jpg, b/c.jpg, c.jpg."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".", "..")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _by(images: Iterable[str], key) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image in images:
        found.setdefault(key(image), []).append(image)
    return found


def _by_tails(images: Iterable[str], fold: bool = False, stem: bool = False) -> dict[str, list[str]]:
    """Every end of every path -> the images that end so."""
    found: dict[str, list[str]] = {}
    for image in images:
        name = _composed(image)
        for tail in _tails(_stem(name) if stem else name):
            found.setdefault(tail.casefold() if fold else tail, []).append(image)
        if fold:
            for tail in _tails(_stem(name)) if PurePosixPath(name).suffix.lower() in UNSUPPORTED else ():
                found.setdefault(tail.casefold(), []).append(image)
    return found

"""Which photographs belong together, and how a collection is divided without tearing them apart.

A group is what was photographed more than once: a specimen, a trap, a session. `groups_of` reads it from a column, from
file names or from look-alikes; `repeated_evidence` says what speaks for repeated photographs where no group was given;
`divide` makes training, validation and test photographs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.grouping import balanced_sides, disjoint
from bionas.specimens.images import Images
from bionas.specimens.schema import coded
from bionas.specimens.splits import SPLITS, Sides

BY_NAME, BY_LOOK = "filename", "lookalikes"
"""What `--group` takes beside the name of a column."""

GROUP_COLUMNS = (
    "specimen",
    "specimen_id",
    "individual",
    "animal",
    "sample",
    "sampleid",
    "photo",
    "image_id",
    "trap",
    "camera",
    "block",
    "session",
    "event",
    "deployment",
    "transect",
    "site",
    "location",
)
"""Columns whose name says that they group photographs, the finest first."""

VIEWS = frozenset(
    [
        "left",
        "right",
        "dorsal",
        "ventral",
        "lateral",
        "front",
        "back",
        "top",
        "bottom",
        "side",
        "head",
        "wing",
        "leg",
        "detail",
        "crop",
        "habitus",
        "l",
        "r",
        "d",
        "v",
    ]
)
"""Words of a file name that tell views of one specimen apart."""

COUNTER = re.compile(r"\d{1,3}|\d+(\.\d+)?x|\(\d+\)|f|m")
"""Parts of a file name that number views: a counter of up to three digits, a magnification, a sex."""

SIDE = 16
"""Pixels of the grey thumbnails that look-alikes are found with."""

ALIKE = 0.9
"""Correlation of two thumbnails from which they count as look-alikes."""

WINDOW = 2000
"""In a larger collection a photograph is compared with the next `WINDOW` ones in the order of the names."""

ENOUGH = 0.1
"""Share of photographs in groups of two or more from which they count as evidence."""

LISTED = 4
"""Groups of look-alikes that are kept by name, and file names of each."""

FEW_GROUPS = 200
"""Up to so many groups, sides are balanced by exchanging whole groups."""


@dataclass(frozen=True)
class Evidence:
    """Photographs that seem to show the same thing: `group` is what `--group` takes; `words` a sentence; `groups` (N,)."""

    group: str
    words: str
    groups: np.ndarray


def groups_of(specimens: SpecimenSet, group: str) -> np.ndarray:
    """int64 (N,): the group of each photograph, numbered without gaps. One without a value is a group of its own.

    Raises:
        SpecimenError: there is no such column, or it holds fewer than two groups.
    """
    spelt = {str(name).lower(): name for name in specimens.records.columns}.get(group.lower())
    if group == BY_NAME:
        groups = by_name(specimens.records["file"].tolist())
    elif group == BY_LOOK:
        groups = by_look(specimens.require_images())
    elif spelt is not None:
        codes = coded(specimens.records[spelt]).codes.astype(np.int64)
        alone = codes < 0
        codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
        groups = codes
    else:
        known = [*map(str, specimens.records.columns), BY_NAME, BY_LOOK]
        raise UnknownName("column for --group", group, known)
    groups = pd.factorize(groups)[0]
    if groups.max(initial=-1) < 1:
        raise SpecimenError(
            f"--group {group}: all photographs are one group, so none can be tested on. Choose another column."
        )
    return groups


def name_key(file: str) -> str:
    """A file name without what numbers the views of one specimen: "bee_1022_f_left_2.5x.jpg" -> "bee 1022"."""
    path = PurePosixPath(file)
    parts = [part for part in re.split(r"[_\-\s]+", path.stem) if part]
    while len(parts) > 1 and (parts[-1].lower() in VIEWS or COUNTER.fullmatch(parts[-1].lower())):
        if not any(re.search(r"\d", part) for part in parts[:-1]):
            break  # what is left must still hold an identifier
        parts.pop()
    return f"{path.parent.as_posix()}/{' '.join(parts)}"


def by_name(files: Sequence[str]) -> np.ndarray:
    """(N,) groups of files with the same `name_key`."""
    return pd.factorize(np.array([name_key(file) for file in files], dtype=object))[0]


def by_look(images: Images) -> np.ndarray:
    """(N,) groups of photographs that are linked by look-alikes (thumbnails correlating by `ALIKE` or more)."""
    small = thumbnails(images).reshape(len(images), -1).astype(np.float32)
    small -= small.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(small, axis=1, keepdims=True)
    small /= np.maximum(norms, 1e-9)
    blank = norms[:, 0] < 1e-6  # of one colour: alike to nothing
    ones, others = [], []
    for start in range(0, len(small), WINDOW):
        stop = min(start + WINDOW, len(small))
        alike = small[start:stop] @ small[start : stop + WINDOW].T >= ALIKE
        alike[blank[start:stop]] = False
        row, column = np.nonzero(np.triu(alike, 1))
        ones.append(row + start)
        others.append(column + start)
    pairs = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(len(small), len(small)))
    return pd.factorize(connected_components(graph, directed=False)[1])[0]


def lookalikes(specimens: SpecimenSet) -> dict[str, Any]:
    """`photographs` that look nearly the same as another one, in how many `groups`; the `largest` ones (n, files)."""
    groups = by_look(specimens.require_images())
    names = specimens.records["file"].to_numpy(dtype=object)
    sizes = np.bincount(groups)
    largest = [code for code in np.argsort(-sizes, kind="stable")[:LISTED] if sizes[code] > 1]
    return {
        "photographs": _repeated(groups),
        "groups": int((sizes > 1).sum()),
        "largest": [
            {"n": int(sizes[code]), "files": names[groups == code][:LISTED].tolist()} for code in largest
        ],
    }


def thumbnails(images: Images, side: int = SIDE, colour: bool = False) -> np.ndarray:
    """(N, side, side) grey or (N, side, side, 3) means of blocks of pixels, float32 in 0..255."""
    step = max(1, images.size // side)
    edge = min(images.size, step * side)
    found = []
    for start in range(0, len(images), 512):
        pixels = images.pixels(np.arange(start, min(start + 512, len(images))))
        part = pixels[:, :edge, :edge].astype(np.float32)
        n, across = len(part), edge // step
        part = part.reshape(n, across, step, across, step, 3).mean(axis=(2, 4))
        found.append(part if colour else part.mean(axis=-1))
    return np.concatenate(found)


def repeated_evidence(specimens: SpecimenSet) -> list[Evidence]:
    """What suggests that specimens were photographed repeatedly: columns, file names, look-alikes; the clearest first."""
    found = []
    n = len(specimens)
    lower = {str(name).lower(): str(name) for name in specimens.records.columns}
    for name in GROUP_COLUMNS:
        column = lower.get(name)
        if column is None or column == specimens.target:
            continue
        codes, texts = coded(specimens.records[column])
        if len(texts) >= 2 and _repeated(codes[codes >= 0]) >= ENOUGH * n:
            words = f"the column {column!r} has {len(texts):,} values for {(codes >= 0).sum():,} photographs"
            found.append(Evidence(column, words, groups_of(specimens, column)))
    for name, groups, said in (
        (
            BY_NAME,
            by_name(specimens.records["file"].tolist()),
            "file names that differ in a view number only",
        ),
        (BY_LOOK, by_look(specimens.require_images()), "photographs that look nearly the same"),
    ):
        repeated = _repeated(groups)
        if repeated >= ENOUGH * n and groups.max() >= 1:
            words = f"{repeated:,} of {n:,} photographs have {said}"
            found.append(Evidence(name, words, groups))
    return found


def _repeated(codes: np.ndarray) -> int:
    """Photographs whose group has more than one."""
    counts = np.bincount(codes) if len(codes) else np.zeros(0, dtype=int)
    return int(counts[counts > 1].sum())


def divide(specimens: SpecimenSet, groups: np.ndarray | None, seed: int) -> tuple[Sides, str]:
    """Positions of training, validation and test photographs (70 / 20 / 10), and how they were divided, in words.

    A `split` column with train, val and test is followed. Otherwise whole groups are on one side where `groups` is
    given. With two groups the smaller one is the test side and validation is drawn from the other.
    """
    records, labels = specimens.records, specimens.labels
    if groups is None:
        if "split" in records:
            return SPLITS["official"](records, labels, seed), "by the column 'split' of the table"
        return SPLITS["paper"](records, labels, seed), "at random within each class"
    n_groups = int(groups.max()) + 1
    if n_groups == 2:
        smaller = int(np.bincount(groups).argmin())
        test, rest = np.flatnonzero(groups == smaller), np.flatnonzero(groups != smaller)
        inner = by_name(records["file"].iloc[rest].tolist())
        side = disjoint(inner, labels[rest], seed)
        sides = rest[side == 0], np.sort(rest[side != 0]), test
        return sides, "two groups: the smaller one is tested on, validation is part of the other"
    classes_of_group = pd.Series(labels).groupby(groups).nunique().median()
    if n_groups <= FEW_GROUPS and classes_of_group > 1:
        side = balanced_sides(groups, labels, n_groups, seed)[groups]
    else:
        side = disjoint(groups, labels, seed)
    train, val, test = (np.flatnonzero(side == number) for number in range(3))
    return (train, val, test), f"by {n_groups:,} groups, each on one side"

"""The photographs of a folder: finding them at any depth, and classes from sub-folders.

`find_images` walks a folder without following links in circles and without the thumbnails that servers and systems keep.
`from_sub_folders` reads classes, and the sides of a split above them, from the names of the folders.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.decoding import SUFFIXES
from bionas.specimens.notes import LeftOut, some
from bionas.specimens.schema import cleaned

RAW = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".raw")
UNSUPPORTED = tuple(
    suffix
    for suffix in (".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", *RAW)
    if suffix not in SUFFIXES
)
"""Suffixes of photographs that cannot be decoded here: they are named, never silently absent."""

SYSTEM_FOLDERS = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbnails", "@thumb")
"""Folders of servers and systems, in lower case: what is in them is no photograph of the user's."""

SIDES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Folder names (lower case) that are sides of a split."""


class Found(NamedTuple):
    """Images below a folder: paths from it with forward slashes, sorted; photographs of other kinds; notes."""

    images: list[str]
    unsupported: list[str]
    notes: list[str]


def find_images(data_dir: Path) -> Found:
    """All images below a folder.

    Links to folders outside it are followed once; links to folders inside it would show photographs twice and are not.

    Raises:
        SpecimenError: there is none.
    """
    root = data_dir.resolve()
    images, unsupported, circular, system, others = [], [], [], 0, 0
    visited = {root}
    folders = [data_dir]
    while folders:
        folder = folders.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            below = Path(entry.path).relative_to(data_dir).as_posix()
            hidden = entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                target = Path(entry.path).resolve()
                if hidden:
                    if not entry.name.startswith("."):
                        system += sum(len(files) for _, _, files in os.walk(target))
                elif entry.is_symlink() and (root.is_relative_to(target) or target.is_relative_to(root)):
                    circular.append(below)
                elif target not in visited:
                    visited.add(target)
                    folders.append(Path(entry.path))
            elif suffix in SUFFIXES and not hidden:
                images.append(below)
            elif suffix in UNSUPPORTED and not hidden:
                unsupported.append(below)
            else:
                others += 1
    if not images:
        kinds = sorted({os.path.splitext(name)[1].lower() for name in unsupported})
        hint = (
            f" {len(unsupported):,} are {', '.join(kinds)}, which cannot be read: convert them to JPEG."
            if kinds
            else ""
        )
        raise SpecimenError(
            f"no images in {str(data_dir)!r} or its sub-folders ({others + len(unsupported):,} other files). "
            f"Looked for {', '.join(SUFFIXES)}.{hint}"
        )
    notes = []
    if circular:
        notes.append(
            f"links to folders of the collection itself were not followed: {some(sorted(circular))}."
        )
    if system:
        notes.append(f"{system:,} files in folders of the system (thumbnails, waste bin) were passed over.")
    return Found(sorted(images), sorted(unsupported), notes)


class Labelled(NamedTuple):
    """Records from sub-folders: `file`, the target, `split` where there are sides; notes; how many images were read."""

    records: pd.DataFrame
    notes: list[str]
    rows: int


def from_sub_folders(data_dir: Path, found: Found, target: str, missing_images: str) -> Labelled:
    """Records of images whose folders are the classes, `Diptera/a.jpg`, or `train/Diptera/a.jpg` with sides above them.

    Raises:
        SpecimenError: fewer than two classes, sides without classes below them, or a class whose photographs are all of
            a kind that cannot be read (with `missing_images="skip"` a note).
    """
    parts = [PurePosixPath(name).parts for name in found.images]
    side_folders = {path[0] for path in parts if len(path) > 1 and path[0].lower() in SIDES}
    sides_there = {SIDES[name.lower()] for name in side_folders}
    has_classes = any(path[0] in side_folders and len(path) > 2 for path in parts)
    depth = 1 if "train" in sides_there and len(sides_there) > 1 and has_classes else 0
    in_folder = [
        (name, path) for name, path in zip(found.images, parts, strict=True) if len(path) > depth + 1
    ]
    beside = [name for name, path in in_folder if depth and path[0] not in side_folders]
    rows = [
        (name, cleaned(path[depth]), path[0])
        for name, path in in_folder
        if not depth or path[0] in side_folders
    ]
    classes = sorted({label for _, label, _ in rows})
    tops = {path[0] for path in parts if len(path) > 1}
    if not depth and tops and tops <= side_folders and len(sides_there) > 1:
        raise SpecimenError(
            f"the sub-folders of {str(data_dir)!r} are sides of a split ({', '.join(sorted(side_folders))}), not classes. "
            f"Add one sub-folder per class below each, or labels.csv with the columns `file`, `{target}` and `split`."
        )
    if len(classes) < 2:
        seen = (
            f"all images are in one sub-folder ({classes[0]!r}): one class only, and at least two are needed"
            if classes
            else "the images are in no sub-folders"
        )
        raise SpecimenError(
            f"no table of labels in {str(data_dir)!r}, and {seen}. Add labels.csv with the columns `file` and "
            f"`{target}`, or one sub-folder per class."
        )
    notes = [f"No table of labels: the {len(classes)} sub-folders are the {target}.", *found.notes]
    unlabelled = sorted({*found.images} - {name for name, *_ in rows} - set(beside))
    if beside:
        folders = sorted({PurePosixPath(name).parts[0] for name in beside})
        notes.append(
            LeftOut(
                f"{len(beside):,} images in folders beside {', '.join(sorted(side_folders))} were left out: {some(folders)}.",
                len(beside),
            )
        )
    if unlabelled:
        notes.append(
            LeftOut(
                f"{len(unlabelled):,} of {len(found.images):,} images have no label and were left out: {some(unlabelled)}.",
                len(unlabelled),
            )
        )
    notes += _unsupported(found, depth, set(classes), missing_images)
    records = pd.DataFrame(rows, columns=["file", target, "split"])
    records["split"] = records["split"].str.lower().map(SIDES)
    return Labelled(
        records if depth else records.drop(columns="split"), notes, len(found.images) + len(found.unsupported)
    )


def _unsupported(found: Found, depth: int, classes: set[str], missing_images: str) -> list[str]:
    """A note on photographs that cannot be read; an error where a whole class consists of them."""
    if not found.unsupported:
        return []
    parts = [PurePosixPath(name).parts for name in found.unsupported]
    gone = sorted({cleaned(path[depth]) for path in parts if len(path) > depth + 1} - classes)
    kinds = ", ".join(sorted({os.path.splitext(name)[1].lower() for name in found.unsupported}))
    sentence = (
        f"{len(found.unsupported):,} photographs are {kinds}, which cannot be read, and were left out: "
        f"{some(found.unsupported)}. Convert them to JPEG."
    )
    if gone and missing_images == "error":
        raise SpecimenError(
            f"{sentence} No other photographs are there of: {some(gone)}. "
            f"To continue without them: {skip_remedy()}."
        )
    return [LeftOut(sentence, len(found.unsupported))]


def skip_remedy() -> str:
    """How missing images are skipped, in Python and on the command line."""
    return '`missing_images="skip"` (on the command line: -p source_options="missing_images=skip")'

"""Sources of specimens: one file per source, one registry.

A source is a function `name(data_dir, **choices) -> Collected`, registered under the name a user types
(`@SOURCES.register("folder")`). It reads records and images and counts what it left out. Choosing the target, folding
rare classes, limiting and checking are the same for every source: `load_specimens` does them.

A source receives, of the choices that every source may use, those it declares: `image_size`, `cache_dir`, `seed` and
`target`; a source of photographs declares `reading` (`Reading`) instead of the first two. Every other keyword it
declares is an option of that source. A new source is a file here and its name in the import of
`bionas/specimens/__init__.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bionas.registry import Registry
from bionas.specimens.images import Images


class Collected(NamedTuple):
    """What a source returns: one row of `records` per specimen, image i of `images` belonging to row i.

    `notes` are sentences on what was skipped (`LeftOut`, with its number) or read with a reservation. `rows` is the number
    of rows that were read, `len(records)` plus those that the notes count as left out; None where nothing was read.
    `default_min_records` is this source's default for the rule "fewer than N records -> Other" (0: no folding).
    `origin` names the collection in captions ("Photographs in my_folder").
    """

    records: pd.DataFrame
    images: Images | None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    default_min_records: int = 0
    origin: str = ""
    rows: int | None = None


@dataclass(frozen=True)
class Reading:
    """How photographs become images of one size: the choices of every source that reads photographs.

    Args:
        image_size: side of the decoded square in pixels.
        cache_dir: where the decoded images are kept, and large tables in columns.
        fit: how a photograph becomes a square: "crop", "pad" or "stretch"; None for the source's own.
        missing_images: records without their photograph are an "error", or left out and counted with "skip".
        max_unreadable: share of photographs that may be damaged before the collection is refused.
        workers: threads that decode; None for the machine's processors.
        image_store: "auto", "decoded" or "stream" (`streaming.open_images`).
    """

    image_size: int
    cache_dir: Path
    fit: str | None = None
    missing_images: str = "error"
    max_unreadable: float = 0.05
    workers: int | None = None
    image_store: str = "auto"


SOURCES: Registry = Registry("source")

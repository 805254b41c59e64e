"""Sources of specimens: one file per source, one registry.

A source is a function `name(data_dir, *, image_size, cache_dir, seed, **options) -> Collected`, registered under the
name a user types (`@SOURCES.register("folder")`). It reads records and images and counts what it left out. Choosing
the target, folding rare classes, limiting and checking are the same for every source: `load_specimens` does them.

A source may also declare the keywords `target` (the column that will be predicted) and `missing_images` ("error" or
"skip"): it then receives the user's choice. Every other keyword it declares is an option of that source. A new source
is a file here and its name in the import of `bionas/specimens/__init__.py`.
"""

from __future__ import annotations

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


SOURCES: Registry = Registry("source")

"""Where specimens come from: one file a source, one registry.

A source is a function `name(data_dir, *, image_size, cache_dir, seed, **options) -> Collected`, registered under the
name a user types (`@SOURCES.register("folder")`). It gathers records and images and says what it left out. Choosing
the target, folding rare classes, limiting and checking are the same for every source: `load_specimens` does them.

A source may also declare the keywords `target` (the column that will be predicted) and `missing_images` ("error" or
"skip"): it is then told what the user asked for. Any other keyword it declares is an option of that source. Files of
this folder are found by themselves: adding a source is adding one file.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from bionas.registry import Registry
from bionas.specimens.images import ImageStore


class Collected(NamedTuple):
    """What a source hands over: one row of `records` a specimen, image i of `images` belonging to row i.

    `notes` are plain sentences on what was skipped or read with a reservation. `default_min_records` is the rule
    "fewer than N records -> Other" this source folds by when the user does not say (0: no folding). `origin` is what
    captions say of photographs ("Photographs in my_folder").
    """

    records: pd.DataFrame
    images: ImageStore | None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    default_min_records: int = 0
    origin: str = ""


SOURCES: Registry = Registry("source")

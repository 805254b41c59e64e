"""New photographs as a stream: found in folders, decoded in threads, given in batches in a fixed order."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from bionas.errors import SpecimenError
from bionas.specimens.decoding import SUFFIXES, Unreadable, decode
from bionas.specimens.folders import UNSUPPORTED

BATCH = 32
AHEAD = 3
"""Batches that are decoded while the network computes."""

PNG_MODES = ("RGB", "RGBA", "L", "LA", "P", "I;16")
"""Modes of a PIL image that are handed to the decoder as they are; others become RGB first."""

Photograph = str | os.PathLike | bytes | Image.Image


class Found(NamedTuple):
    """A file and the name it has in the table: its path below the folder that was given."""

    path: Path
    name: str


class DecodedBatch(NamedTuple):
    """`first`: number of the first photograph; `pixels` (B, S, S, 3) uint8; `reasons`: place in the batch -> why it is
    black: it cannot be read."""

    first: int
    pixels: np.ndarray
    reasons: dict[int, str]


def find(places: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Found]:
    """All photographs of files and folders (with their sub-folders), sorted by name; names use forward slashes.

    A photograph of a single folder is named by its path below it; with several places, by place and path. Photographs of
    kinds that cannot be read (`UNSUPPORTED`, as HEIC) are among them: they are answered as unreadable, never left out.

    Raises:
        SpecimenError: a place is not there, or there is no photograph at all.
    """
    several = not isinstance(places, (str, os.PathLike))
    given = [Path(places)] if isinstance(places, (str, os.PathLike)) else [Path(place) for place in places]
    found: list[Found] = []
    for place in given:
        if place.is_file():
            found.append(Found(place, place.as_posix() if several else place.name))
        elif place.is_dir():
            prefix = f"{place.as_posix().rstrip('/')}/" if len(given) > 1 else ""
            found += [Found(place / name, prefix + name) for name in _below(place)]
        else:
            raise SpecimenError(f"{place} is not there. Give a folder of photographs, or photographs.")
    if not found:
        raise SpecimenError(
            f"no photographs in {', '.join(map(str, given))} or its sub-folders. Looked for {', '.join(SUFFIXES)}."
        )
    return found


def _below(folder: Path) -> list[str]:
    names = []
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        below = Path(path).relative_to(folder)
        names += [
            (below / name).as_posix()
            for name in files
            if name.lower().endswith((*SUFFIXES, *UNSUPPORTED)) and not name.startswith(".")
        ]
    return sorted(names)


def decoded_batches(
    photographs: Sequence[Photograph], size: int, fit: str, workers: int | None = None, batch: int = BATCH
) -> Iterator[DecodedBatch]:
    """Photographs in batches of `batch`, in their order, decoded ahead of use in `workers` threads."""
    workers = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[int, list[Future]]] = deque()
    starts = iter(range(0, len(photographs), batch))
    try:
        while True:
            while len(waiting) < AHEAD and (start := next(starts, None)) is not None:
                part = photographs[start : start + batch]
                waiting.append((start, [pool.submit(_decoded, one, size, fit) for one in part]))
            if not waiting:
                return
            first, futures = waiting.popleft()
            pixels = np.zeros((len(futures), size, size, 3), dtype=np.uint8)
            reasons = {}
            for place, future in enumerate(futures):
                image = future.result()
                if isinstance(image, Unreadable):
                    reasons[place] = image.reason
                else:
                    pixels[place] = image
            yield DecodedBatch(first, pixels, reasons)
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(photograph: Photograph, size: int, fit: str) -> np.ndarray | Unreadable:
    if (
        isinstance(photograph, (str, os.PathLike))
        and (kind := Path(photograph).suffix.lower()) in UNSUPPORTED
    ):
        return Unreadable(f"{kind} cannot be read: convert it to JPEG")
    if isinstance(photograph, Image.Image):
        upright = ImageOps.exif_transpose(photograph)
        buffer = io.BytesIO()
        (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(
            buffer, "PNG", compress_level=0
        )
        photograph = buffer.getvalue()
    try:
        return decode(photograph, size, fit)
    except Exception as error:  # a codec may raise anything for a damaged file; one file must not end the run
        return Unreadable(f"{type(error).__name__}: {error}".rstrip(": "))

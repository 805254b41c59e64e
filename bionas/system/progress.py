"""The progress bar of long work: tqdm's, in a terminal and in a notebook, and quiet where nobody watches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm.auto import tqdm


def progress(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm.auto.tqdm`, disabled where $TQDM_DISABLE is set: in a notebook tqdm itself overlooks that."""
    return tqdm(*args, disable=bool(os.environ.get("TQDM_DISABLE")) or None, **kwargs)


@contextlib.contextmanager
def told_to(stream: TextIO) -> Iterator[None]:
    """What training prints goes to `stream`, and its progress bars nowhere: one training among hundreds is no news."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before

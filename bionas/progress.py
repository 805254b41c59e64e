"""The progress bar of long work: tqdm's, in a terminal and in a notebook, and quiet where nobody watches."""

from __future__ import annotations

import os
from typing import Any

from tqdm.auto import tqdm


def progress(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm.auto.tqdm`, disabled where $TQDM_DISABLE is set: in a notebook tqdm itself overlooks that."""
    return tqdm(*args, disable=bool(os.environ.get("TQDM_DISABLE")) or None, **kwargs)

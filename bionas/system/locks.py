"""One process at a time: a lock file that every operating system understands, and that ends with its holder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from bionas.errors import BionasError

POLL = 0.2  # seconds between two attempts


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`; wait while another process or thread holds it.

    On a drive without locks (some network drives) the existence of the file is the lock. The file may stay behind.

    Args:
        while_waiting: called at every attempt that fails.

    Raises:
        BionasError: the lock cannot be had on this drive, or its folder cannot be written.
    """
    path = Path(path)
    lock = filelock.FileLock(path, thread_local=False)

    def go_on_waiting() -> bool:
        while_waiting()
        return False

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(poll_interval=POLL, cancel_check=go_on_waiting)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BionasError(
            f"cannot write in {path.parent}, or lock a file there: {reason}. Choose a folder on a local drive."
        ) from error
    try:
        yield
    finally:
        lock.release()

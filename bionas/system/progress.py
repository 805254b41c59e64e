"""Progress of long work: what is trained, which of how many, and tqdm's bar, in a terminal and in a notebook."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="")
"""Which of how many trainings is running, as "3 of 12"."""

_role: contextvars.ContextVar[str] = contextvars.ContextVar("role", default="")
"""What is trained now, with its place."""


def counted(things: Iterable[T], total: int | None = None) -> Iterator[T]:
    """`things` one by one; what is announced meanwhile says which of how many it is ("3 of 12").

    Args:
        total: how many there are, where `things` has no length.
    """
    n = total if total is not None else len(things) if isinstance(things, Sequence) else None
    for i, thing in enumerate(things, start=1):
        token = _place.set(f"{i} of {n}" if n else str(i))
        try:
            yield thing
        finally:
            _place.reset(token)


def named(role: str) -> str:
    """The role of a training with its place: "derived, 3 of 12"."""
    return f"{role}, {place}" if (place := _place.get()) else role


def announce(role: str, epochs: int) -> None:
    """One line before a training starts: it reads its data and builds its network first, which can take a minute."""
    print(f"{named(role)}: {epochs} epochs", flush=True)


@contextlib.contextmanager
def training(role: str) -> Iterator[None]:
    """While it lasts, `described` and progress bars name this training."""
    token = _role.set(named(role))
    try:
        yield
    finally:
        _role.reset(token)


def described(phase: str) -> str:
    """The training that runs now, `phase` where none was named."""
    return _role.get() or phase


def left(seconds: float) -> str:
    """The time that remains: ", about 3 min left", "" for none."""
    if seconds < 1:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    return (
        f", about {seconds / 60:.0f} min left" if seconds < 5400 else f", about {seconds / 3600:.1f} h left"
    )


def progress(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm.auto.tqdm`, disabled where $TQDM_DISABLE is set: in a notebook tqdm itself overlooks that."""
    if kwargs.get("desc"):
        kwargs["desc"] = described(kwargs["desc"])
    return tqdm(*args, disable=bool(os.environ.get("TQDM_DISABLE")) or None, **kwargs)


@contextlib.contextmanager
def told_to(stream: TextIO) -> Iterator[None]:
    """What training prints goes to `stream`, and no progress bars are shown."""
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

"""Notes on how a collection was read: plain sentences, those on left-out rows with their number.

The rows a source reads equal its specimens plus the rows that its notes count as left out. `require_balance` checks it
for every collection that `load_specimens` opens, so that no row disappears without a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SHOWN = 5
"""How many examples a message lists."""


class LeftOut(str):
    """A note that `records` rows were left out, as a sentence that says why."""

    records: int

    def __new__(cls, sentence: str, records: int) -> LeftOut:
        note = super().__new__(cls, sentence)
        note.records = int(records)
        return note

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]  # typeshed: str takes one argument
        return str(self), self.records


def left_out(notes: Iterable[str]) -> int:
    """How many rows these notes count as left out."""
    return sum(note.records for note in notes if isinstance(note, LeftOut))


def require_balance(rows: int, specimens: int, notes: Iterable[str], source: str) -> None:
    """Raises AssertionError where rows were read that are neither specimens nor counted in a note: a fault of a source."""
    notes = tuple(notes)
    if rows != specimens + left_out(notes):
        raise AssertionError(
            f"source {source!r} read {rows:,} rows, but gives {specimens:,} specimens and {left_out(notes):,} rows in "
            f"notes. Please report this with the notes: {' '.join(notes)}"
        )


def some(things: Iterable[Any], shown: int = SHOWN) -> str:
    """The first few, and how many more."""
    things = list(things)
    more = f" and {len(things) - shown:,} more" if len(things) > shown else ""
    return ", ".join(map(str, things[:shown])) + more

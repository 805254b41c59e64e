"""How commands print tables: aligned columns, or JSON that another program reads."""

from __future__ import annotations

import contextlib
import contextvars
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd

_stdout: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("stdout", default=None)
"""Standard output while `json_alone` lasts."""


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """While it lasts, standard output gets what `show` and `show_json` print; every other line goes to standard error."""
    token = _stdout.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(token)


def show(
    table: pd.DataFrame, as_json: bool = False, columns: Sequence[str] | None = None, **format: Any
) -> None:
    """Print a table: aligned columns, or JSON, one object per row.

    Args:
        as_json: the whole table as JSON.
        columns: of the aligned table, in this order; those that the table lacks are left out. All if None.
        format: for `DataFrame.to_string`.
    """
    if as_json:
        show_json(json.loads(table.to_json(orient="records")))
        return
    shown = table if columns is None else table[[name for name in columns if name in table]]
    print(shown.to_string(index=False, **format))


def show_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False), file=_stdout.get() or sys.stdout, flush=True)

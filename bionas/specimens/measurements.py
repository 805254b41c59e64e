"""Measurement columns: texts as numbers, and values that are impossible.

`numbers` decides for a whole column whether a comma is a decimal comma or separates thousands. `plausible` sets values
outside the range of their column to missing. Both say in notes what they changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.specimens.notes import some
from bionas.specimens.schema import RANGES, is_missing

WHOLE_COLUMNS = ("image_measurement_value",)
"""Columns of large whole numbers (pixels): `1,250` alone is 1250 there, and 1.25 in other columns."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")  # 1,250 and 1,250.5
_ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,250: either 1250 or 1.25
_BLANK_GROUPS = re.compile(r"[+-]?\d{1,3}([ '\u2019\u00a0\u202f]\d{3})+([.,]\d+)?")  # 1 250,5
_POINT_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+|[+-]?\d{1,3}(\.\d{3}){2,}")  # 1.250,5 and 1.250.000
_DECIMAL = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


class Numbers(NamedTuple):
    """`values`: (N,) float64, NaN where missing or no number; `wrong`: the texts that are no number, sorted; `notes`."""

    values: pd.Series
    wrong: list[str]
    notes: list[str]


def numbers(column: pd.Series, name: str = "") -> Numbers:
    """A text column as numbers: decimal points or commas, with or without separated thousands."""
    unknown = column.map(is_missing).astype(bool)
    texts = [text.strip() for text in pd.unique(column[~unknown].astype(str))]
    thousands, note = _comma_is_thousands(texts, name)
    plain = {text: _plain(text, thousands) for text in texts}
    given = column.mask(unknown).map(lambda text: plain[str(text).strip()], na_action="ignore")
    values = pd.to_numeric(given, errors="coerce").astype(np.float64)
    return Numbers(values, sorted(set(column[values.isna() & ~unknown])), note)


def plausible(records: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The records with numbers outside `schema.RANGES` set to missing, and a note per column that had some."""
    changed, notes = {}, []
    for name, (lowest, highest) in RANGES.items():
        if name not in records or not pd.api.types.is_float_dtype(records[name].dtype):
            continue
        values = records[name].to_numpy(na_value=np.nan)
        outside = (values < lowest) | (values > highest) | np.isinf(values)
        if not outside.any():
            continue
        changed[name] = records[name].mask(outside)
        limits = f"below {lowest:g}" if np.isinf(highest) else f"outside {lowest:g} to {highest:g}"
        listed = some(f"{value:g}" for value in np.unique(values[outside]))
        notes.append(
            f"column {name!r}: {outside.sum():,} of {len(values):,} values are {limits} or infinite and count as "
            f"missing: {listed}."
        )
    return (records.assign(**changed) if changed else records), notes


def _comma_is_thousands(texts: Iterable[str], name: str) -> tuple[bool, list[str]]:
    """Whether `1,250` in a column of these texts is 1250, and a note where that had to be guessed."""
    with_comma = [text for text in texts if "," in text and not _BLANK_GROUPS.fullmatch(text)]
    doubtful = [text for text in with_comma if _ONE_GROUP.fullmatch(text)]
    if any(_DECIMAL.fullmatch(text) and not _ONE_GROUP.fullmatch(text) for text in with_comma):
        return False, []  # 9,5 or 0,250: the column has decimal commas
    certain = any(_GROUPS.fullmatch(text) for text in with_comma if text not in doubtful)
    if not doubtful:
        return certain, []
    lowest, highest = RANGES.get(name, (-np.inf, np.inf))
    as_thousands = [float(text.replace(",", "")) for text in doubtful]
    possible = all(lowest <= value <= highest for value in as_thousands)
    others = [text for text in texts if "," not in text and _NUMBER.fullmatch(text)]
    thousands = possible and (certain or name in WHOLE_COLUMNS or bool(others))
    what, value = (
        ("separates thousands", as_thousands[0])
        if thousands
        else (
            "is a decimal comma",
            float(doubtful[0].replace(",", ".")),
        )
    )
    return thousands, [
        f"column {name!r}: the comma in {some(map(repr, doubtful), 3)} {what} ({doubtful[0]} is {value:g})."
    ]


def _plain(text: str, thousands: bool) -> str | None:
    """The number as Python writes it, None where it is none."""
    if _BLANK_GROUPS.fullmatch(text):
        return re.sub(r"[ '\u2019\u00a0\u202f]", "", text).replace(",", ".")
    if thousands and _GROUPS.fullmatch(text):
        return text.replace(",", "")
    if _POINT_GROUPS.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    if _DECIMAL.fullmatch(text):
        return text.replace(",", ".")
    return text if _NUMBER.fullmatch(text) else None

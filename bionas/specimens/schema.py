"""What a specimen record is: the metadata columns of BIOSCAN-5M, under the names BIOSCAN-5M gives them.

All sources use these names. A column that a collection does not have is absent; a value that is not known is missing,
in any of the spellings of `MISSING_WORDS`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

RANKS = ("phylum", "class", "order", "family", "subfamily", "genus", "species")
"""Taxonomic ranks, widest first. Each can be the target."""

CATEGORICAL = (*RANKS, "dna_bin", "country", "province_state")
"""Columns that are embedded: one vector per value."""

NUMERIC = ("coord-lat", "coord-lon", "image_measurement_value", "area_fraction", "scale_factor")
"""Columns that are standardised: degrees, degrees, pixels of the specimen, and two ratios."""

COLUMNS = (
    "processid",
    "sampleid",
    "taxon",
    *RANKS,
    "dna_bin",
    "dna_barcode",
    "country",
    "province_state",
    "coord-lat",
    "coord-lon",
    "image_measurement_value",
    "area_fraction",
    "scale_factor",
    "inferred_ranks",
    "split",
    "index_bioscan_1M_insect",
    "chunk",
)
"""The 23 columns of BIOSCAN-5M's metadata CSV."""

ALIASES = {"lat": "coord-lat", "lon": "coord-lon", "latitude": "coord-lat", "longitude": "coord-lon"}
"""Other spellings in use (BIOSCAN-5M's browser export has `lat`, `lon`)."""

SPLIT_NAMES = ("pretrain", "train", "val", "test", "key_unseen", "val_unseen", "test_unseen", "other_heldout")
"""What BIOSCAN-5M's column `split` holds: `train`, `val`, `test` share their species, the `unseen` ones have others."""

EXCEL_ERRORS = ("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#n/a n/a")

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null", "no taxon", *EXCEL_ERRORS})
"""Texts that mean "not known", compared without case and surrounding blanks ("No Taxon" is Insect-1M's)."""

DOUBTFUL_LABELS = frozenset(
    {
        "?",
        "??",
        "???",
        "-",
        "--",
        ".",
        "x",
        "unknown",
        "unidentified",
        "undetermined",
        "indet",
        "indet.",
        "tbd",
        "todo",
    }
)
"""Texts that are classes where they are labels, but may have been meant as "not known": a note names them."""

RANGES = {
    "coord-lat": (-90.0, 90.0),
    "coord-lon": (-180.0, 180.0),
    "image_measurement_value": (0.0, np.inf),
    "area_fraction": (0.0, 1.0),
    "scale_factor": (0.0, np.inf),
}
"""Column -> lowest and highest value that is possible. Infinity itself never is."""

INVISIBLE = {ord(mark): None for mark in "\u200b\u200c\u200d\u2060\ufeff\u00ad"}
"""Zero-width spaces and joiners, the byte-order mark, the soft hyphen: not seen, and no part of a name."""

SLICE = 1 << 18
"""Rows of a text column that are examined together: bounds memory for columns of five million texts."""


def cleaned(text: str) -> str:
    """The text without blanks around it and invisible characters in it, composed (NFC): equal for equal looks."""
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFC", text.translate(INVISIBLE)).strip()


def is_missing(value: object) -> bool:
    """Whether one value means "not known": None, NaN, or one of `MISSING_WORDS`."""
    if isinstance(value, str):
        return cleaned(value).casefold() in MISSING_WORDS
    return bool(pd.isna(value))


NAMIBIA = "NA (Namibia)"
"""How the country code NA is kept in records, where the text `NA` alone means "not known"."""


def has_country_codes(values: Iterable[object]) -> bool:
    """Whether all known values are two-letter country codes."""
    known = [text for text in map(str, values) if text == "NA" or not is_missing(text)]
    return any(text != "NA" for text in known) and all(
        len(text) == 2 and text.isalpha() and text.isupper() for text in known
    )


def missing(column: pd.Series) -> np.ndarray:
    """bool (N,): which values of the column are not known. Each distinct value is examined once."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.isna().to_numpy(dtype=bool)
    if is_arrow_text(column.dtype):
        parts = [_no_word(column.iloc[start : start + SLICE]) for start in range(0, len(column), SLICE)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, values = pd.factorize(column)
    unknown = np.array(
        [is_missing(value) for value in values] + [True]
    )  # None and NaN have code -1: the last
    return unknown[codes]


class Coded(NamedTuple):
    """A column as codes: `texts[codes[i]]` is the `cleaned` value of row i; code -1 where it is not known."""

    codes: np.ndarray  # (N,) int32
    texts: list[str]  # distinct, in order of first appearance


def coded(column: pd.Series) -> Coded:
    """The codes of a column of few distinct values, the same however the column is stored (text or categories)."""
    codes, values = pd.factorize(column)
    place: dict[str, int] = {}
    own = [-1 if is_missing(value) else place.setdefault(cleaned(str(value)), len(place)) for value in values]
    return Coded(np.array([*own, -1], dtype=np.int32)[codes], list(place))


def members(codes: np.ndarray, n: int) -> list[np.ndarray]:
    """Of each code 0..n-1 the positions that have it, ascending. One sort for all codes."""
    order = np.argsort(codes.astype(np.min_scalar_type(max(n - 1, 0))), kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n))[:-1])


def joined(values: pd.Index) -> bytes:
    """The values as text with a NUL between them, in UTF-8."""
    if is_arrow_text(values.dtype):
        texts = pa.array(values, from_pandas=True).cast(pa.large_string())
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        nul = pa.scalar("\0", pa.large_string())
        return (
            pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), nul)[0].as_buffer().to_pybytes()
        )
    return "\0".join(map(str, values.tolist())).encode()


def is_arrow_text(dtype: object) -> bool:
    """Whether a column of this dtype keeps its text in Arrow's memory, where it need not become Python's."""
    if isinstance(dtype, pd.ArrowDtype):
        return pa.types.is_string(dtype.pyarrow_dtype) or pa.types.is_large_string(dtype.pyarrow_dtype)
    return isinstance(dtype, pd.StringDtype) and dtype.storage.startswith("pyarrow")


def _no_word(column: pd.Series) -> np.ndarray:
    text = pc.utf8_lower(pc.utf8_trim_whitespace(pa.array(column, from_pandas=True)))
    unknown = pc.or_(pc.is_null(text), pc.is_in(text, pa.array(sorted(MISSING_WORDS), text.type)))
    return unknown.to_numpy(zero_copy_only=False)

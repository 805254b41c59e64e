"""DNA barcodes as keys: 8 bytes per specimen in place of about 660 letters.

A split only needs to know whether two specimens have the same barcode, and the letters of five million of them (3.4 GB)
would not fit beside the rest. A column `dna_barcode` may therefore hold the letters, or the keys that
`barcode_keys` makes of them a slice at a time while a table is read.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bionas.specimens.schema import MISSING_WORDS

SLICE = 1 << 16
"""Barcodes that are in memory as texts at once."""


def barcode_keys(column: pd.Series | pa.Array | pa.ChunkedArray) -> np.ndarray:
    """uint64 (N,): equal for equal barcodes, 0 where there is none.

    Blanks, case and trailing N (letters that were not read) make no difference, as in `bioscan_dataset`. Two barcodes
    that differ have the same key with a probability of 1e-7 over all of BIOSCAN-5M; a split would then keep
    them together, never tear one apart. A column of integers holds keys already.
    """
    if isinstance(column, pd.Series):
        if pd.api.types.is_numeric_dtype(column.dtype):
            return column.fillna(0).to_numpy(dtype=np.uint64)
        if isinstance(column.dtype, pd.CategoricalDtype):
            known = barcode_keys(pd.Series(column.cat.categories, dtype=object))
            return np.append(known, np.uint64(0))[column.cat.codes.to_numpy()]
    keys = np.zeros(len(column), dtype=np.uint64)
    for start in range(0, len(column), SLICE):
        here = slice(start, start + SLICE)
        keys[here] = _keys(column.iloc[here] if isinstance(column, pd.Series) else column[here])
    return keys


def _keys(part: pd.Series | pa.Array | pa.ChunkedArray) -> np.ndarray:
    letters = part if isinstance(part, (pa.Array, pa.ChunkedArray)) else pa.array(part, from_pandas=True)
    letters = pc.utf8_upper(pc.utf8_trim_whitespace(pc.fill_null(letters.cast(pa.large_string()), "")))
    none = pc.is_in(letters, pa.array([word.upper() for word in MISSING_WORDS], pa.large_string()))
    letters = pc.utf8_rtrim(pc.if_else(none, "", letters), characters="N")
    texts = letters.to_numpy(zero_copy_only=False).astype(object)
    keys = pd.util.hash_array(texts, categorize=False)
    return np.where(texts == "", np.uint64(0), np.maximum(keys, np.uint64(1)))

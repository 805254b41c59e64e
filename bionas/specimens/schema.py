"""What a specimen record is: the metadata columns of BIOSCAN-5M, under the names BIOSCAN-5M gives them.

Every source speaks this vocabulary. A column a collection does not have is simply absent; a value it does not know is
missing, in any of the spellings of `MISSING_WORDS`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

RANKS = ("phylum", "class", "order", "family", "subfamily", "genus", "species")
"""Taxonomic ranks, widest first. Each can be the target."""

CATEGORICAL = (*RANKS, "dna_bin", "country", "province_state")
"""Columns that are embedded: one vector a value."""

NUMERIC = ("coord-lat", "coord-lon", "image_measurement_value", "area_fraction", "scale_factor")
"""Columns that are standardised: degrees, degrees, pixels of the specimen, and two ratios."""

COLUMNS = (
    "processid", "sampleid", "taxon", *RANKS, "dna_bin", "dna_barcode", "country", "province_state",
    "coord-lat", "coord-lon", "image_measurement_value", "area_fraction", "scale_factor",
    "inferred_ranks", "split", "index_bioscan_1M_insect", "chunk",
)  # fmt: skip
"""The 23 columns of BIOSCAN-5M's metadata CSV."""

ALIASES = {"lat": "coord-lat", "lon": "coord-lon", "latitude": "coord-lat", "longitude": "coord-lon"}
"""Other spellings in use (BIOSCAN-5M's browser export has `lat`, `lon`)."""

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null", "no taxon"})
"""Texts that mean "not known", compared without case and surrounding blanks ("No Taxon" is Insect-1M's)."""


def is_missing(value: object) -> bool:
    """Whether one value means "not known": None, NaN, or one of `MISSING_WORDS`."""
    if isinstance(value, str):
        return value.strip().casefold() in MISSING_WORDS
    return bool(pd.isna(value))


def missing(column: pd.Series) -> np.ndarray:
    """bool (N,): which values of the column are not known. Each distinct value is looked at once."""
    codes, values = pd.factorize(column)
    unknown = np.array([is_missing(value) for value in values] + [True])  # factorize codes NaN and None as -1: the last
    return unknown[codes]

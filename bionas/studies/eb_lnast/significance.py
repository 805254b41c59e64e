"""Is a difference more than chance? Wilcoxon's signed-rank test, corrected for many comparisons by Holm.

Repeats of a cross-validation share their specimens, so their differences are not independent and p-values come out
too small: they order comparisons and bound what can be claimed from above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon


def signed_rank(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p of paired scores; 1 where they never differ, NaN for fewer than two pairs."""
    difference = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    difference = np.round(difference, 12)  # 0.1 + 0.2 ties with 0.3
    if len(difference) < 2:
        return math.nan
    return float(wilcoxon(difference).pvalue) if difference.any() else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction (1979): the i-th smallest of m is multiplied by m - i + 1, never falling, at most 1.

    NaN stays NaN and is not counted among the m.
    """
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return corrected

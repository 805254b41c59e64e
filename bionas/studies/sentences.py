"""Sentences that notebooks print about their own figures: the text follows what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def difference(ours: Sequence[float], others: Sequence[float], against: str) -> str:
    """What `ours` has above `others`, with its standard error, and whether that is more than noise.

    Args:
        ours, others: one value per training, in per cent; independent of each other.
        against: what `others` are, in words.
    """
    own, theirs = np.asarray(ours, dtype=float), np.asarray(others, dtype=float)
    gain = own.mean() - theirs.mean()
    said = f"{abs(gain):.1f} points {'below' if gain < 0 else 'above'} {against}"
    if min(len(ours), len(others)) < 2:
        return f"{said}. With a single training there is no standard error: give more seeds to judge the difference."
    error = math.sqrt(own.var(ddof=1) / len(own) + theirs.var(ddof=1) / len(theirs))
    more = abs(gain) > 2 * error
    verdict = (
        "more than twice its standard error"
        if more
        else "within twice its standard error, so it may be chance"
    )
    return f"{said}; standard error {error:.1f}: {verdict}."


def span_of_weights(alphas: Sequence[float], n_primitives: int) -> str:
    """How far the weights of a search are from 1/K, where they began.

    Args:
        alphas: every weight of one epoch.
        n_primitives: K.
    """
    low, high, even = float(np.min(alphas)), float(np.max(alphas)), 1 / n_primitives
    ratio = high / even
    lead = "barely above" if ratio < 1.1 else f"{ratio:.1f} times" if ratio < 10 else "far above"
    return f"Weights span {low:.4f} to {high:.4f}, a range of {high - low:.4f}; the largest is {lead} {even:.4f}, where all began."


def interval(difference: float, low: float, high: float) -> str:
    """A difference in points with its interval: "+2.1 (-0.4 to +4.6): may be chance"; "" where there is none."""
    if math.isnan(difference):
        return ""
    verdict = "more than chance" if low > 0 or high < 0 else "may be chance"
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f}): {verdict}"

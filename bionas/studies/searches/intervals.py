"""Bootstrap over searches and test photographs, both of which were drawn at random.

One accuracy on a few hundred photographs has a sampling error of its own beside that of the search. Each replicate draws
searches with replacement and photographs with replacement; two strategies compared share the drawn photographs, and the
drawn searches where both were searched with the same seeds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REPLICATES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def balanced(right: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy under case weights.

    Args:
        right: (S, N) bool, whether search s named photograph n correctly.
        labels: (N,) integers.
        weights: (R, N), how often a replicate drew each photograph.

    Returns:
        (R, S); classes that a replicate did not draw are left out of its mean.
    """
    recalls = []
    for c in np.unique(labels):
        of_class = labels == c
        drawn = weights[:, of_class].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls.append(weights[:, of_class] @ right[:, of_class].T / drawn[:, None])
    return np.nanmean(np.stack(recalls), axis=0)


def bootstrap(
    right: dict[int, np.ndarray],
    labels: np.ndarray,
    other: dict[int, np.ndarray] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """95 % interval of mean balanced accuracy, or of its difference from `other`.

    Args:
        right: seed of the search -> (N,) bool over the same test photographs.
        labels: (N,) integers.
        other: as `right`, of the strategy compared with. Pairs share photographs, and seeds where all seeds are the same.
    """
    generator = np.random.default_rng(seed)
    n = len(labels)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=replicates).astype(float)
    plain = np.ones((1, n))
    seeds = sorted(right)
    draws = generator.integers(len(seeds), size=(replicates, len(seeds)))
    matrix = np.stack([right[s] for s in seeds]).astype(float)
    values = np.take_along_axis(balanced(matrix, labels, weights), draws, axis=1).mean(axis=1)
    mean = float(balanced(matrix, labels, plain).mean())
    if other is not None:
        theirs = sorted(other)
        if theirs != seeds:
            draws = generator.integers(len(theirs), size=(replicates, len(theirs)))
        matrix = np.stack([other[s] for s in theirs]).astype(float)
        values = values - np.take_along_axis(balanced(matrix, labels, weights), draws, axis=1).mean(axis=1)
        mean -= float(balanced(matrix, labels, plain).mean())
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))

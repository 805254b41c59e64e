"""Collapse of differentiable search to skip connections, and early stopping against it.

Skip connections need no training and help a supernet early on; a search may select them on most edges, and the derived
network is then poor (Zela et al. 2020). `leaders` and `leading_skips` count per epoch which primitives lead in a run's
alphas.csv. `guard` ends a search once skip_connect leads on more edges than a limit, after DARTS+ (Liang et al. 2019),
which stops at two per cell. The paper mentions neither the collapse nor a remedy.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

SKIP = "skip_connect"


def leaders(alphas: pd.DataFrame) -> pd.DataFrame:
    """Number of edges led by each primitive: one row per epoch, one column per primitive that leads on any edge.

    The leader of an edge has the highest alpha; ties: the first wins. Derivation keeps the leader, except where a cell
    would have no path from input to output (`genotype.derive`). Columns are in the order of the table.

    Args:
        alphas: a run's alphas.csv, with columns epoch, cell, edge, primitive, alpha.
    """
    led = alphas.loc[alphas.groupby(["epoch", "cell", "edge"])["alpha"].idxmax()]
    counts = led.groupby(["epoch", "primitive"]).size().unstack(fill_value=0)
    return counts[[name for name in alphas["primitive"].unique() if name in counts]]


def leading_skips(alphas: pd.DataFrame) -> pd.Series:
    """Number of edges led by skip_connect after each epoch; epoch 0 is before training.

    Args:
        alphas: a run's alphas.csv.
    """
    counts = leaders(alphas)
    return counts.get(SKIP, pd.Series(0, index=counts.index)).rename("leading_skips")


class Guarded(NamedTuple):
    """The decision of `guard` after an epoch.

    Attributes:
        epoch: the epoch to derive from; None if no epoch has been within the limit.
        stop: end the search: an earlier epoch was within the limit and the latest one is not.
    """

    epoch: int | None
    stop: bool


def guard(skips: pd.Series, max_skips: int, warmup_epochs: int = 0) -> Guarded:
    """Choose the last epoch in which skip_connect leads on at most `max_skips` edges; stop if a later one exceeds it.

    Warm-up epochs are ignored: their theta is still the random initial value. A search that starts above the limit
    continues, because there is no earlier epoch to derive from.

    Args:
        skips: the result of `leading_skips` up to the latest epoch.
        max_skips: the largest accepted number of edges led by skip_connect.
        warmup_epochs: number of epochs at the start in which theta is not updated.
    """
    searched = skips[skips.index > warmup_epochs]
    within = searched.index[searched <= max_skips]
    if not len(within):
        return Guarded(None, False)
    return Guarded(int(within[-1]), bool(within[-1] < searched.index[-1]))

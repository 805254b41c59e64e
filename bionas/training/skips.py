"""The known collapse of differentiable search, and a guard against it.

Edges fill up with skip connections, which need no training and help a supernet early on, and make a poor network (Zela et
al. 2020). `leaders` and `leading_skips` count, epoch by epoch, what a run's alphas.csv shows of it. `guard` is the rule by
which a search stops before it: as soon as more edges than a given number are led by skip_connect, after Liang et al.
2019 (DARTS+), who stop at two in a cell. The paper mentions neither.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

SKIP = "skip_connect"


def leaders(alphas: pd.DataFrame) -> pd.DataFrame:
    """How many edges each primitive leads: a row an epoch, a column a primitive that leads any, in the table's order.

    The leader of an edge has the highest alpha, the first of equals. It is what derivation keeps, except where the path
    of a cell would be cut (`genotype.derive`).

    Args:
        alphas: a run's alphas.csv: epoch, cell, edge, primitive, alpha.
    """
    led = alphas.loc[alphas.groupby(["epoch", "cell", "edge"])["alpha"].idxmax()]
    counts = led.groupby(["epoch", "primitive"]).size().unstack(fill_value=0)
    return counts[[name for name in alphas["primitive"].unique() if name in counts]]


def leading_skips(alphas: pd.DataFrame) -> pd.Series:
    """Edges led by skip_connect after each epoch; epoch 0 is before training.

    Args:
        alphas: a run's alphas.csv.
    """
    counts = leaders(alphas)
    return counts.get(SKIP, pd.Series(0, index=counts.index)).rename("leading_skips")


class Guarded(NamedTuple):
    """What the guard says after an epoch.

    Attributes:
        epoch: the one to derive from; None where no epoch has been within the limit.
        stop: the limit was kept, and now is not: the search ends here.
    """

    epoch: int | None
    stop: bool


def guard(skips: pd.Series, max_skips: int, warmup_epochs: int = 0) -> Guarded:
    """Derive from the last epoch in which at most `max_skips` edges are led by skip_connect; stop at the first one after it.

    Epochs in which theta has not moved do not count: they hold what dice gave it. A search that begins above the limit
    goes on, as there is nothing yet to go back to.

    Args:
        skips: as from `leading_skips`, up to now.
        warmup_epochs: at the beginning, in which theta rests.
    """
    searched = skips[skips.index > warmup_epochs]
    within = searched.index[searched <= max_skips]
    if not len(within):
        return Guarded(None, False)
    return Guarded(int(within[-1]), bool(within[-1] < searched.index[-1]))

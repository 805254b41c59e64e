"""Imbalance: does it need re-sampling or class weights, or are label smoothing and dropout enough?

The paper "mitigates data imbalance through label smoothing (0.1) and dropout-regularized multimodal fusion", "without
re-sampling or class weighting". `measured` trains one network under each of `TREATMENTS` over several seeds; `summary` sets
them side by side by balanced accuracy and by the recall of the rarest classes, which plain accuracy hides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bionas.errors import UnknownName
from bionas.studies import report
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.configuration import Plan

AS_PUBLISHED = "as published"

TREATMENTS: dict[str, dict[str, Any]] = {
    AS_PUBLISHED: {},
    "no label smoothing": {"label_smoothing": 0.0},
    "no dropout": {"dropout": 0.0},
    "neither": {"label_smoothing": 0.0, "dropout": 0.0},
    "class weights": {"balance": "class_weights"},
    "re-sampling": {"balance": "resampling"},
    "logit adjustment": {"balance": "logit_adjustment"},
}
"""Name -> what it changes of a plan. The last three are added to smoothing and dropout as published."""

RARE = 5
RARE_RECALL = "recall_rarest"
"""Mean recall of the `RARE` classes with the fewest training specimens, of those that the test split holds."""

METRICS = (*report.METRICS, RARE_RECALL)


def measured(plan: Plan, seeds: Sequence[int], names: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per treatment and seed: the network that a search with the first seed found, trained from scratch.

    Finished runs are only read. All treatments of a seed come before the next seed.

    Args:
        plan: every choice but the seed and what the treatments change; its `split` may be `long_tailed:RATIO`.
        names: of `TREATMENTS`; all by default.

    Returns:
        The columns of `report.run_row`, model being the treatment, `RARE_RECALL` and rarest: the classes it is of.

    Raises:
        UnknownName: no such treatment.
    """
    names = list(TREATMENTS if names is None else names)
    if unknown := [name for name in names if name not in TREATMENTS]:
        raise UnknownName("treatment", unknown[0], TREATMENTS)
    genotype = experiments.search(dataclasses.replace(plan, seed=seeds[0])).genotype
    rare = rarest(plan)
    rows = []
    with progress(total=len(seeds) * len(names), desc="imbalance", unit="training") as bar:
        for seed in seeds:
            for name in names:
                treated = dataclasses.replace(plan, seed=seed, **TREATMENTS[name])
                run = experiments.retrain(treated, genotype)
                recall = run.table("by_class").set_index("class")["recall"].reindex(rare).mean()
                rows.append(report.run_row(name, run) | {RARE_RECALL: recall, "rarest": ", ".join(rare)})
                bar.update()
    return pd.DataFrame(rows)


def rarest(plan: Plan) -> list[str]:
    """The `RARE` classes with the fewest training specimens among those of the test split, the rarest first."""
    splits = plan.splits()
    tested = splits.test.counts()
    counts = splits.train.counts()
    return [name for name in reversed(counts.index) if tested[name] > 0][:RARE]


def summary(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """`report.summary` with `RARE_RECALL`, and the difference to the training as published.

    Columns more: difference, low, high: of balanced accuracy, in points, with a 95 % bootstrap interval over seeds and test
    specimens (`searches.intervals`); rarest. The majority class has a recall of 0 among the rarest.
    """
    table = report.summary(rows, plan, command, metrics=METRICS)
    table.loc[0, f"{RARE_RECALL}_mean"] = 0.0
    table = report.with_differences(table, rows, plan, AS_PUBLISHED)
    return report.provenance_last(table.assign(rarest=rows["rarest"].iloc[0]))

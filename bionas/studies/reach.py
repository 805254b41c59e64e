"""How far theta can travel, and what that changes: the same gradient search at several rates of theta.

For each rate several searches with their own seeds: theta reach, margins and entropy of the final alphas, the agreement of
the networks found, and the accuracy of each network trained from scratch. All else is equal.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bionas.genotype import EDGES, Genotype
from bionas.studies import report
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.decisions import agreement, decisiveness
from bionas.training.runs import Run

RATES = ("paper", "scaled")
METRICS = ("accuracy", "balanced_accuracy")


def measured(plan: Plan, rates: Sequence[str | float], seeds: Sequence[int]) -> pd.DataFrame:
    """One row per rate and seed. Finished runs are only read.

    Args:
        plan: every choice but the rate of theta and the seed.
        rates: values of `theta_learning_rate`.
        seeds: of searches; each network found is trained with its search's seed.

    Returns:
        The columns of `report.run_row` and rate; theta_reach; margin, least_margin and entropy (nats) of the final alphas,
        means over edges; genotype (JSON).
    """
    rows = []
    for rate in progress(rates, desc="reach", unit="rate"):
        for seed in seeds:
            given = dataclasses.replace(plan, theta_learning_rate=rate, seed=seed)
            searched = experiments.search(given)
            trained = experiments.retrain(given, searched.genotype)
            rows.append(
                report.run_row(f"theta rate: {rate}", trained, searched)
                | {"rate": str(rate), "theta_reach": searched.summary["theta_reach"], **_decided(searched)}
                | {"genotype": json.dumps(json.loads(searched.genotype.to_json()), separators=(",", ":"))}
            )
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """`report.summary` by rate, with the means of reach, margin and entropy, and the agreement between searches.

    agreement: mean over pairs of searches of the share of edges with the same primitive; chance: of uniformly random genotypes.
    """
    table = report.summary(rows, plan, command, METRICS)
    for model, group in rows.groupby("model", sort=False):
        genotypes = [Genotype.from_json(text) for text in group["genotype"]]
        found = {name: group[name].mean() for name in ("theta_reach", "margin", "least_margin", "entropy")}
        found |= {"margin_sd": group["margin"].std(), "agreement": agreement(genotypes)}
        for name, value in found.items():
            table.loc[table["model"] == model, name] = round(float(value), 4)
    return report.provenance_last(table)


def _decided(searched: Run) -> dict[str, Any]:
    alphas = searched.alphas
    final = alphas[alphas["epoch"] == alphas["epoch"].max()]
    cells = final["cell"].nunique()
    found = decisiveness(final["alpha"].to_numpy().reshape(cells, len(EDGES), -1))
    return {"margin": found.mean_margin, "least_margin": found.least_margin, "entropy": found.mean_entropy}

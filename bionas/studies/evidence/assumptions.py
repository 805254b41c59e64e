"""What each choice that the paper leaves open changes: the same search and retraining with one of them turned at a time.

`VARIANTS` are the assumptions that can be turned cheaply; `measured` runs them over several seeds, `summary` sets each
against the choices as declared, seed by seed. The difference of two trainings of one seed says little: its spread over
seeds is the scale on which a variant is to be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bionas.errors import UnknownName
from bionas.genotype import Genotype, derive
from bionas.operators import PRIMITIVE_SETS
from bionas.studies import report
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.experiments import Plan
from bionas.training.runs import Run


@dataclasses.dataclass(frozen=True)
class Variant:
    """One assumption turned.

    Attributes:
        question: what the paper leaves open, and where.
        declared, here: our choice, and that of the variant, in words.
        changes: of the plan.
        removable: whether `none` can win an edge.
        inherit: retraining starts from the supernet's weights.
    """

    question: str
    declared: str
    here: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    removable: bool = True
    inherit: bool = False


AS_DECLARED = "as declared"

VARIANTS: dict[str, Variant] = {
    "one theta for all cells": Variant(
        "whether cells share theta (Eq. 9)",
        "one theta a cell",
        "one theta for all cells",
        {"shared_theta": True},
    ),
    "theta on training data": Variant(
        "which data score theta (Eq. 12 against Algorithm 1)",
        "validation (Eq. 12)",
        "every odd training batch (Algorithm 1)",
        {"theta_data": "train"},
    ),
    "running statistics in theta steps": Variant(
        "what batch normalisation does in a theta step",
        "the batch's statistics",
        "the running ones",
        {"theta_batch_norm": "running"},
    ),
    "no edge removed": Variant(
        "whether a winning `none` removes its edge (III-B.2)",
        "it does",
        "the best other primitive takes it",
        removable=False,
    ),
    "inherited weights": Variant(
        "what the derived network's weights start from (III-B.2)",
        "a fresh start",
        "the supernet's weights, then the same training",
        inherit=True,
    ),
    "constant rate of w": Variant(
        "how the rate of w changes (the paper names 1e-3 and no schedule)",
        "cosine in the search, one cycle with peak 3e-3 in retraining",
        "1e-3 throughout, in both",
        {"search_schedule": "constant", "schedule": "constant", "learning_rate": 1e-3},
    ),
    "1e-3 as a variance": Variant(
        "whether theta ~ N(0, 1e-3) gives the standard deviation or the variance (III-B.1)",
        "the standard deviation",
        "the variance",
        {"theta_init": "variance"},
    ),
    "no dropout": Variant(
        "how much dropout the head has (III-A.2)",
        "0.2",
        "none",
        {"dropout": 0.0},
    ),
    "argmax for each node": Variant(
        'whether the argmax is taken "for each node" (III-A.1) or "on each edge" (III-B.2)',
        "on each edge",
        "for each node",
        {"argmax_per": "node"},
    ),
}


def measured(plan: Plan, seeds: Sequence[int], names: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per retraining, those as declared first. Finished runs are only read.

    Args:
        names: of `VARIANTS`; all by default.

    Returns:
        The columns of `report.run_row`, model being the variant, and removed_edges; changed_edges: how many of the
        edges differ from the network as declared, of the same seed; operations: those of all edges, cells apart by "/";
        inherited_val_accuracy: of the supernet's weights in the derived network, before any training.

    Raises:
        UnknownName: no such variant.
    """
    names = list(VARIANTS if names is None else names)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UnknownName("assumption", unknown[0], VARIANTS)
    rows = []
    with progress(total=len(seeds) * (1 + len(names)), desc="assumptions", unit="training") as bar:
        for seed in seeds:
            seeded = dataclasses.replace(plan, seed=seed)
            searched = experiments.search(seeded)
            run = experiments.retrain(seeded, searched.genotype)
            rows.append(_row(AS_DECLARED, run, searched, searched.genotype))
            bar.update()
            for name in names:
                variant = VARIANTS[name]
                turned = dataclasses.replace(seeded, **variant.changes)
                its_search = experiments.search(turned)
                genotype = genotype_of(its_search, variant.removable)
                inherit = its_search if variant.inherit else None
                run = experiments.retrain(turned, genotype, inherit=inherit)
                rows.append(_row(name, run, its_search, searched.genotype))
                bar.update()
    return pd.DataFrame(rows)


def genotype_of(search: Run, removable: bool) -> Genotype:
    """What a finished search derives; with `removable=False` from the same alphas without `none`."""
    found = search.genotype
    if removable:
        return found
    names = PRIMITIVE_SETS[found.primitive_set]
    table = search.alphas
    alphas = (
        table.loc[table["epoch"] == search.summary["derived_from_epoch"], "alpha"]
        .to_numpy()
        .reshape(len(found.cells), 3, len(names))
    )
    return derive(
        alphas, names, [cell.reduction for cell in found.cells], found.primitive_set, removable=False
    )


def _row(name: str, run: Run, searched: Run, declared: Genotype) -> dict:
    genotype = run.genotype
    edges = zip(genotype.cells, declared.cells, strict=True)
    return report.run_row(name, run, searched) | {
        "removed_edges": len(genotype.removed_edges()),
        "changed_edges": sum(
            a != b for one, other in edges for a, b in zip(one.operations, other.operations, strict=True)
        ),
        "inherited_val_accuracy": run.summary.get("inherited_val_accuracy"),
        "operations": " / ".join(" ".join(cell.operations) for cell in genotype.cells),
    }


def summary(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """`report.summary`, with what was turned, and the mean difference to the choices as declared, paired by seed.

    Columns more: question, declared, here; removed_edges, changed_edges: means; difference, difference_se: of balanced
    accuracy, in points, mean and standard error over seeds (NaN for the first row).
    """
    table = report.summary(rows, plan, command)
    by_seed = rows.pivot(index="seed", columns="model", values="balanced_accuracy")
    more = []
    for model in table["model"]:
        variant, own = VARIANTS.get(model), rows[rows["model"] == model]
        gap = 100 * (by_seed[model] - by_seed[AS_DECLARED]) if variant else pd.Series([np.nan])
        more.append(
            {
                "question": variant.question if variant else "",
                "declared": variant.declared if variant else "",
                "here": variant.here if variant else "",
                "removed_edges": own["removed_edges"].mean(),
                "changed_edges": own["changed_edges"].mean(),
                "difference": gap.mean(),
                "difference_se": gap.sem(),
            }
        )
    return pd.concat([table, pd.DataFrame(more).round(2)], axis=1)

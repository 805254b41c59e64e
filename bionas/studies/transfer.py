"""Generalisation of a search: networks found on one collection, trained on another.

The paper takes 93.25 % on Insects-1M ("cross-dataset validation") for robustness and generalisation, without saying whether
that network was searched there. Here a network that was searched on A is trained and tested on B, beside networks that were
searched on B and random genotypes, under one budget. Only if the choice of a genotype matters on B can any of this differ:
the spread of several random genotypes stands beside that of one random genotype trained with the same seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.specimens import SOURCES
from bionas.studies import report
from bionas.studies.report import run_row
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.configuration import Plan, from_settings

RANDOM, ONE_RANDOM = "random genotypes", "one random genotype"
METRICS = report.METRICS


def plans(collections: Sequence[str], settings: Sequence[str]) -> dict[str, Plan]:
    """Collection -> its plan. A collection is a source that needs no folder ("synthetic"), or a folder of photographs.

    Networks see images alone (`metadata=none`), so that a genotype means the same on each collection.

    Raises:
        SearchError: fewer than two collections, or two folders of one name.
    """
    if len(set(collections)) < 2:
        raise SearchError("a transfer needs two collections or more, such as: synthetic ../data/field_orders")
    found: dict[str, Plan] = {}
    for collection in collections:
        is_source = collection in SOURCES
        name = collection if is_source else Path(collection).name
        if name in found:
            raise SearchError(f"two collections are called {name!r}. Rename one of the folders.")
        where = [f"source={collection}"] if is_source else ["source=folder", f"data_dir={collection}"]
        found[name] = from_settings([*where, *settings], metadata="none")
    return found


def measured(plans: Mapping[str, Plan], seeds: Sequence[int]) -> pd.DataFrame:
    """One row per collection, network and seed. Finished runs are only read, interrupted ones resume.

    With every seed each collection is searched once, and each network found is trained on every collection; a random
    genotype (another for each seed) and one random genotype (the same for all seeds) are trained beside them.

    Returns:
        The columns of `report.run_row` and collection: what it was trained and tested on; searched_on: empty for random
        genotypes. All rows of a seed come before the next seed.
    """
    for plan in plans.values():
        plan.splits()  # a collection that cannot be read is refused before another has been searched
    total = len(seeds) * len(plans) * (len(plans) + 2)
    with progress(total=total, desc="transfer", unit="training") as bar:
        rows = [row for position, seed in enumerate(seeds) for row in _of_seed(plans, position, seed, bar)]
    return pd.DataFrame(rows)


def _of_seed(plans: Mapping[str, Plan], position: int, seed: int, bar: Any) -> Iterator[dict]:
    seeded = {name: dataclasses.replace(plan, seed=seed) for name, plan in plans.items()}
    searches = {name: experiments.search(plan) for name, plan in seeded.items()}
    for target, plan in seeded.items():
        for origin, searched in searches.items():
            role = "derived" if origin == target else f"from-{origin}"
            run = experiments.retrain(plan, searched.genotype, role)
            yield run_row(f"searched on {origin}", run, searched) | _where(target, origin)
            bar.update()
        for model, i in ((RANDOM, position), (ONE_RANDOM, 0)):
            drawn: Genotype = experiments.random_genotype(plan, i)
            run = experiments.retrain(plan, drawn, f"random-{i + 1}")
            yield run_row(model, run) | _where(target, "")
            bar.update()


def _where(target: str, origin: str) -> dict[str, str]:
    return {"collection": target, "searched_on": origin}


def summary(rows: pd.DataFrame, plans: Mapping[str, Plan], command: str) -> pd.DataFrame:
    """`report.summary` of each collection, one below the other.

    Columns more: collection; searched_on; difference, low, high: balanced accuracy above the networks searched on the
    collection itself, in points, with a 95 % bootstrap interval over seeds and test photographs.
    """
    parts = []
    for target, of_target in rows.groupby("collection", sort=False):
        plan = plans[str(target)]
        table = report.summary(of_target, plan, command, METRICS, by=("searched_on", "augment", "model"))
        table = report.with_differences(table, of_target, plan, f"searched on {target}")
        table.insert(0, "collection", target)
        parts.append(table)
    return report.provenance_last(pd.concat(parts, ignore_index=True))

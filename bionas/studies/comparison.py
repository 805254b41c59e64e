"""Networks side by side, under one budget and over several seeds.

`measured` runs (or finds finished) a derived network, random genotypes and a baseline a seed, one row a run: what the search
bought. `backbones` does so for any of the baselines of Tables II and III. `summary` folds the rows into mean and spread,
the majority class first. Both go to `data/results/` with the command that made them. `metadata_alone` is the same for
records without photographs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch

from bionas.errors import TrainingError
from bionas.studies import results
from bionas.studies.backbones import BASELINES, Backbone, published
from bionas.training import experiments
from bionas.training.evaluation import majority_row
from bionas.training.experiments import Plan
from bionas.training.runs import Run

METRICS = ("accuracy", "balanced_accuracy", "f1_macro")
"""Shares of one, on the test split."""


def measured(
    plan: Plan,
    seeds: Sequence[int],
    augments: Sequence[str] = ("none",),
    n_random: int = 1,
    baselines: Sequence[str] = ("resnet18",),
    baseline_learning_rate: float | None = None,
) -> pd.DataFrame:
    """One row a run. An interrupted comparison goes on where it stopped: finished runs are only read.

    Args:
        plan: every choice but seed and augmentation.
        seeds: each is searched once (without augmentation, as in the paper) and retrained under each of `augments`.
        n_random: random genotypes a seed, other ones for each seed, as each seed also derives a network of its own.
        baselines: names of `BASELINES`; `baseline_learning_rate` where validation chose another rate for them.
    """

    def of_seed(position: int, seed: int) -> Iterator[dict]:
        seeded = dataclasses.replace(plan, seed=seed)
        searched = experiments.search(seeded)
        for augment in augments:
            retraining = dataclasses.replace(seeded, augment=augment)
            yield row_of("derived", experiments.retrain(retraining, searched.genotype), searched)
            for i in range(position * n_random, (position + 1) * n_random):
                drawn = experiments.random_genotype(plan, i)
                yield row_of("random genotypes", experiments.retrain(retraining, drawn, f"random-{i + 1}"))
            theirs = dataclasses.replace(
                retraining, learning_rate=baseline_learning_rate or plan.learning_rate
            )
            for name in baselines:
                yield row_of(name, experiments.baseline(theirs, name))

    return pd.DataFrame([row for position, seed in enumerate(seeds) for row in of_seed(position, seed)])


def metadata_alone(plan: Plan, seeds: Sequence[int]) -> pd.DataFrame:
    """One row a seed of the metadata encoder trained without images: what the records alone tell (`summary` folds them)."""
    runs = (experiments.metadata_alone(dataclasses.replace(plan, seed=seed)) for seed in seeds)
    return pd.DataFrame([row_of("metadata alone", run) for run in runs])


def backbones(
    plan: Plan,
    names: Sequence[str],
    seeds: Sequence[int],
    inputs: Sequence[str] = ("image",),
    pretrained: bool = False,
    frozen: bool = False,
) -> pd.DataFrame:
    """One row a run of baselines, each under the plan's budget. An interrupted comparison goes on where it stopped.

    A training that fails (its loss is not finite, no memory) leaves a row whose `note` says why, and the others go on.

    Args:
        plan: every choice but the seed.
        names: of `BASELINES`; every one is run with the first seed before any is with the next.
        inputs: some of `experiments.INPUTS`.
        pretrained, frozen: as in `baselines.Backbone`.

    Raises:
        UnknownName, BaselineError, SpecimenError: what cannot be built as asked, before anything is trained.
    """
    for name in names:
        if isinstance(backbone := BASELINES[name], Backbone):
            backbone.require(plan.image_size, pretrained)
    for seen in inputs:
        experiments.baseline_inputs(plan, seen)

    def of(seed: int, seen: str, name: str) -> dict:
        same = {"inputs": seen, "pretrained": pretrained, "frozen": frozen}
        try:
            run = experiments.baseline(dataclasses.replace(plan, seed=seed), name, **same)
        except (TrainingError, torch.OutOfMemoryError) as error:
            failed = f"failed: {str(error).splitlines()[0]}"
            return {"model": name, "augment": plan.augment, "seed": seed, **same, "note": failed}
        return row_of(name, run) | same | {"note": ""}

    return pd.DataFrame([of(seed, seen, name) for seed in seeds for seen in inputs for name in names])


def not_run(names: Sequence[str]) -> dict[str, str]:
    """Why those of the twenty published backbones that are not among `names` have no row: they were not asked for."""
    return {
        b.name: f"not run: not chosen ({b.mparameters:,.1f} M parameters, {b.gmacs:,.1f} GMACs an image at {b.native} px)"
        for b in published()
        if b.name not in names
    }


def row_of(model: str, run: Run, searched: Run | None = None) -> dict:
    """A finished run as a row of a table of runs; `searched` is the search that found its network."""
    summary, config, born = run.summary, run.config, run.provenance
    history = run.history
    return {
        "model": model,
        "augment": config["augment"],
        "seed": config["seed"],
        **{name: run.metrics[name] for name in METRICS},
        "val_accuracy": history["val_accuracy"].iloc[-1],
        "channels": config["network"]["channels"] if "genotype" in config else None,
        "mmacs": summary["macs"] / 1e6,
        "parameters": summary["parameters"],
        "minutes": summary["minutes"],
        "search_minutes": searched.summary["minutes"] if searched else 0.0,
        "epochs": summary["epochs"],
        "images_seen": summary["images_seen"],
        "learning_rate": config["learning_rate"],
        "threads": born["threads"],
        "code": born["commit"],
        "run": run.path.name,
    }


def summary(
    rows: pd.DataFrame,
    plan: Plan,
    command: str,
    metrics: Sequence[str] = METRICS,
    by: Sequence[str] = ("augment", "model"),
    notes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Mean and sample standard deviation of each group of runs, the majority class first.

    Columns: model, augment (and what else is in `by`), n_seeds, each metric in percent with its sd, cost, budget, source,
    code, command; and note, where rows have one.

    Args:
        rows: of `measured` or `backbones`; those that failed count in no mean, and are named in the note.
        metrics: columns of `rows`, shares of one.
        by: what makes a group, as columns of `rows`.
        notes: models that were not run, and why: a row each, at the end.
    """
    splits = plan.splits()
    majority = majority_row(splits.train.labels, splits.test.labels, len(splits.train.class_names))
    table = [
        {
            "model": "majority class",
            "augment": "none",
            "n_seeds": 0,
            **{f"{m}_mean": round(100 * majority[m], 2) for m in metrics if m in majority},
        }
    ]
    for key, group in rows.groupby(list(by), sort=False):
        group_of, failures = dict(zip(by, key)), {}
        if "note" in group:
            failures = {"note": "; ".join(f"seed {r.seed} {r.note}" for r in group.itertuples() if r.note)}
            group = group[group["note"] == ""]
        table.append({"model": group_of.pop("model"), **group_of, **_folded(group, metrics), **failures})
    frame = pd.DataFrame(table).sort_values(
        "augment", kind="stable", key=lambda c: c != "none", ignore_index=True
    )
    if notes:
        absent = [{"model": model, "n_seeds": 0, "note": why} for model, why in notes.items()]
        frame = pd.concat([frame, pd.DataFrame(absent)], ignore_index=True)
    codes = "; ".join(sorted(rows["code"].dropna().unique())) if "code" in rows else ""
    return frame.assign(
        source=f"{plan.source}, test split, {len(splits.test)} specimens", code=codes, command=command
    )


def _folded(group: pd.DataFrame, metrics: Sequence[str]) -> dict:
    """n_seeds, metrics, cost and budget of a group's runs."""
    if group.empty:
        return {"n_seeds": 0}
    shares = {}
    for metric in metrics:
        shares[f"{metric}_mean"] = round(100 * group[metric].mean(), 2)
        shares[f"{metric}_sd"] = round(100 * group[metric].std(), 2)
    return {
        "n_seeds": group["seed"].nunique(),
        **shares,
        "mmacs": round(group["mmacs"].mean(), 2),
        "parameters": _whole(group["parameters"].mean()),
        "minutes": round(group["minutes"].mean(), 1),
        "search_minutes": round(group["search_minutes"].mean(), 1),
        "epochs": _one(group["epochs"]),
        "images_seen": _one(group["images_seen"]),
        "learning_rate": _one(group["learning_rate"]),
    }


def markdown(table: pd.DataFrame) -> str:
    """A summary as the table that the README shows: mean ± sd in percent, cost and minutes a training."""
    rows = []
    for row in table.itertuples():
        trained = row.n_seeds > 0
        search = f" + {row.search_minutes:.1f} search" if row.search_minutes else ""
        rows.append(
            {
                "network": row.model,
                "augmentation": row.augment.replace("_", " ") if trained else "",
                "seeds": str(row.n_seeds) if trained else "",
                "balanced accuracy": results.spread(row.balanced_accuracy_mean, row.balanced_accuracy_sd, 1),
                "accuracy": results.spread(row.accuracy_mean, row.accuracy_sd, 1),
                "MACs (M)": f"{row.mmacs:.1f}" if trained else "",
                "parameters (M)": f"{row.parameters / 1e6:.2f}" if trained else "",
                "minutes": f"{row.minutes:.1f}{search}" if trained else "",
            }
        )
    return results.markdown(rows)


def _whole(value: float) -> int | None:
    return None if pd.isna(value) else int(value)


def _one(values: pd.Series) -> str:
    return "; ".join(str(v) for v in sorted(values.dropna().unique()))

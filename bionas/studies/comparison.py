"""Networks side by side under one budget and over several seeds.

`measured` trains (or reads, where finished) the derived network, random genotypes and a baseline per seed: what the search
gained. `backbones` does so for the baselines of Tables II and III, `metadata_alone` for records without photographs. Each
returns one row per run, which `report.summary` reduces to mean and standard deviation. An interrupted comparison resumes:
finished runs are only read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch

from bionas.errors import TrainingError
from bionas.studies.backbones import BASELINES, Backbone, paper_backbones
from bionas.studies.report import NOT_RUN, run_row
from bionas.training import experiments
from bionas.training.configuration import Plan

BACKBONES_BY = ("augment", "inputs", "pretrained", "frozen", "model")
"""The columns that define a group of `backbones` in `report.summary`."""


def measured(
    plan: Plan,
    seeds: Sequence[int],
    augments: Sequence[str] = ("none",),
    n_random: int = 1,
    baselines: Sequence[str] = ("resnet18",),
    baseline_learning_rate: float | None = None,
) -> pd.DataFrame:
    """One row per run of the derived network, random genotypes and baselines.

    Args:
        plan: every choice but seed and augmentation.
        seeds: each is searched once (without augmentation, as in the paper) and retrained under each of `augments`.
        n_random: random genotypes per seed, other ones for each seed.
        baselines: names of `BASELINES`; `baseline_learning_rate` where validation chose another rate for them.
    """

    def of_seed(position: int, seed: int) -> Iterator[dict]:
        seeded = dataclasses.replace(plan, seed=seed)
        searched = experiments.search(seeded)
        for augment in augments:
            retraining = dataclasses.replace(seeded, augment=augment)
            yield run_row("derived", experiments.retrain(retraining, searched.genotype), searched)
            for i in range(position * n_random, (position + 1) * n_random):
                drawn = experiments.random_genotype(plan, i)
                yield run_row("random genotypes", experiments.retrain(retraining, drawn, f"random-{i + 1}"))
            rate = baseline_learning_rate or plan.learning_rate
            theirs = dataclasses.replace(retraining, learning_rate=rate)
            for name in baselines:
                yield run_row(name, experiments.baseline(theirs, name))

    return pd.DataFrame([row for position, seed in enumerate(seeds) for row in of_seed(position, seed)])


def metadata_alone(plan: Plan, seeds: Sequence[int]) -> pd.DataFrame:
    """One row per seed of the metadata encoder trained without images: what the records alone determine."""
    runs = (experiments.metadata_alone(dataclasses.replace(plan, seed=seed)) for seed in seeds)
    return pd.DataFrame([run_row("metadata alone", run) for run in runs])


def backbones(
    plan: Plan,
    names: Sequence[str],
    seeds: Sequence[int],
    inputs: Sequence[str] = ("image",),
    pretrained: bool = False,
    frozen: bool = False,
) -> pd.DataFrame:
    """One row per run of baselines, each under the plan's budget.

    A training that fails (its loss is not finite, no memory) leaves a row whose `note` says why, and the others continue.

    Args:
        plan: every choice but the seed.
        names: of `BASELINES`; every one is run with the first seed before any is run with the next.
        inputs: some of `experiments.INPUTS`.
        pretrained, frozen: as in `backbones.Backbone`.

    Raises:
        UnknownName, BaselineError, SpecimenError: what cannot be built as asked, before anything is trained.
    """
    for name in names:
        if isinstance(backbone := BASELINES[name], Backbone):
            backbone.require(plan.image_size, pretrained)
    for seen in inputs:
        experiments.baseline_inputs(plan, seen)

    def row(seed: int, seen: str, name: str) -> dict:
        same: dict[str, Any] = {"inputs": seen, "pretrained": pretrained, "frozen": frozen}
        try:
            run = experiments.baseline(dataclasses.replace(plan, seed=seed), name, **same)
        except (TrainingError, torch.OutOfMemoryError) as error:
            failed = f"failed: {str(error).splitlines()[0]}"
            return {"model": name, "augment": plan.augment, "seed": seed, **same, "note": failed}
        return run_row(name, run) | same | {"note": ""}

    return pd.DataFrame([row(seed, seen, name) for seed in seeds for seen in inputs for name in names])


def not_run(names: Sequence[str]) -> dict[str, str]:
    """Model -> note for the published backbones that are not among `names`."""
    cost = "{:,.1f} M parameters, {:,.1f} GMACs per image at {} px"
    return {
        b.name: f"{NOT_RUN}: not chosen ({cost.format(b.mparameters, b.gmacs, b.native)})"
        for b in paper_backbones()
        if b.name not in names
    }

"""Differentiable search as a family: Algorithm 1 with another relaxation, edge, loss on theta, stop or derivation.

`search_by_gradient` is the whole search; `gradient` is the paper's member of the family, and each variant in a file of its
own says only what it changes, as a `Variant`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from bionas.cells import MixedEdge, Relaxation
from bionas.errors import UnknownName
from bionas.genotype import Genotype, derive
from bionas.network import SearchNetwork
from bionas.strategies.evaluators import Evaluator, Supernet
from bionas.strategies.perturbation import perturbation_images, perturbed
from bionas.strategies.searching import (
    SearchResult,
    conclude,
    finished,
    open_run,
    require,
    require_budget,
    row,
)
from bionas.strategies.space import Space
from bionas.training import fitting
from bionas.training.fitting import Search, SearchHooks
from bionas.training.runs import Run

DERIVATIONS = ("argmax", "perturbation")
"""The paper's derivation (the highest alpha), and selection by perturbation (`perturbation`)."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a differentiable search changes in Algorithm 1.

    Attributes:
        relaxation: makes the map from theta to weights, for a space; the paper's softmax if None.
        edge: form of the mixed edge; that of the supernet if None.
        hooks: what is added to the search: a penalty on theta, an early end.
        theta_weight_decay: replaces Adam's where the variant has a regulariser of its own.
        options: written to the run's configuration.
    """

    relaxation: Callable[[Space], Relaxation] | None = None
    edge: Callable[[int, int, tuple[str, ...]], MixedEdge] | None = None
    hooks: SearchHooks | None = None
    theta_weight_decay: float | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


class Progress(SearchHooks):
    """Hooks that know how far the search is, for themselves and for a relaxation with `set_progress`.

    Attributes:
        progress: from 0 in the first epoch to 1 in the last.
    """

    progress = 0.0

    def before_epoch(self, search: Search, epoch: int) -> None:
        self.progress = epoch / max(1, search.config.epochs - 1)
        set_progress = getattr(search.supernet.relaxation, "set_progress", None)
        if set_progress is not None:
            set_progress(self.progress)


def search_by_gradient(
    name: str,
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int,
    folder: Path | None,
    variant: Variant = Variant(),
    derivation: str = "argmax",
) -> SearchResult:
    """As many epochs of Algorithm 1 as the budget has room for, and what they derive.

    Images on which theta is updated count, since the supernet is run on them forward and backward. The trace has one row per
    epoch: the genotype that would be derived after it (one genotype may occur in many rows), the supernet's own validation
    accuracy as its score, alpha_entropy (nats, mean over edges), the number of skips, theta_loss, and theta_reach so far.

    Args:
        name, space, evaluate, budget, seed, folder: as of a strategy.
        variant: what is changed in Algorithm 1.
        derivation: one of `DERIVATIONS`.

    Raises:
        UnknownName: no such derivation.
        SearchError: the budget is below one epoch, or the evaluator has no supernet.
    """
    require(name, evaluate)
    if derivation not in DERIVATIONS:
        raise UnknownName("derivation", derivation, DERIVATIONS)
    supernet = evaluate.supernet(space, seed)
    exchange(supernet.model, variant, space)
    reserved = perturbation_images(supernet) if derivation == "perturbation" else 0
    epochs = epochs_within(budget - reserved, supernet)
    chosen = {} if derivation == "argmax" else {"derivation": derivation}
    options = {"epochs": epochs, **variant.options, **chosen}
    run = open_run(folder, name, space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    config = dataclasses.replace(supernet.config, epochs=epochs)
    if variant.theta_weight_decay is not None:
        config = dataclasses.replace(config, theta_weight_decay=variant.theta_weight_decay)
    with inner_run(run) as inner:
        sides = supernet.train, supernet.val, supernet.encoding
        description = {**supernet.description, **variant.options}
        trainer = fitting.Search(supernet.model, *sides, config, inner, description, hooks=variant.hooks)
        trainer.train()
        trace = trace_of(trainer)
        spent = int(trace["images"].iloc[-1])
        genotype = trainer.genotype()
        found = {
            "derived_from_epoch": trainer.derived_epoch,
            "stopped": trainer.stopped,
            "theta_reach": trainer.theta_reach,
        }
        if reserved:
            genotype, used = perturbed(trainer, inner, seed)
            spent += used
        inner.finish({"epochs": len(trace), "images_seen": spent, **found})  # its weights may be inherited
    return conclude(run, SearchResult(genotype, trace, spent, trainer.stopped or "the budget is spent"))


def exchange(model: SearchNetwork, variant: Variant, space: Space) -> None:
    """Replace the relaxation and the mixed edges of a supernet that was just initialised."""
    if variant.relaxation is not None:
        model.relaxation = variant.relaxation(space)
    if variant.edge is not None:
        for cell, (channels, stride, _) in zip(model.cells, model.config.stages()):
            strides = (stride, stride, 1)
            cell.edges = nn.ModuleList(variant.edge(channels, s, model.primitives) for s in strides)


def epochs_within(budget: int, supernet: Supernet) -> int:
    """How many epochs of Algorithm 1 a budget has room for; those of the warm-up are cheaper.

    Raises:
        SearchError: none in which theta moves; the message says how much that takes.
    """
    w, theta = images_of_epoch(supernet)
    warmup = supernet.config.warmup_epochs
    what = "one epoch of the supernet" + (f" after {warmup} of warm-up" if warmup else "")
    require_budget(budget, (warmup + 1) * w + theta, what)
    return warmup + (budget - warmup * w) // (w + theta)


def images_of_epoch(supernet: Supernet) -> tuple[int, int]:
    """Images on which w, and on which theta is updated in an epoch; the most it can be where the batch size is "auto"."""
    config, n_train = supernet.config, len(supernet.train)
    if isinstance(config.batch_size, str):  # "auto"
        return (n_train, n_train) if config.theta_data == "val" else (n_train, 0)
    batch = min(config.batch_size, n_train)
    steps = n_train // batch
    if config.theta_data == "val":
        return steps * batch, steps * min(batch, len(supernet.val))
    return (steps + 1) // 2 * batch, steps // 2 * batch


@contextlib.contextmanager
def inner_run(run: Run | None) -> Iterator[Run]:
    """The folder in which a supernet is trained: inside that of the search, or a temporary one."""
    if run is not None:
        yield Run(run.path / "supernet")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Run(Path(folder) / "supernet")


def derived_from(supernet: SearchNetwork, theta: Tensor) -> Genotype:
    """The genotype of one theta under the supernet's relaxation."""
    alpha = supernet.alpha(theta.double())
    return derive(alpha, supernet.primitives, supernet.config.reductions, supernet.primitive_set)


def trace_of(trainer: Search) -> pd.DataFrame:
    """One row per epoch, from what the trainer's checkpoint holds."""
    supernet, rows, images = trainer.supernet, [], 0
    for i, (epoch, theta) in enumerate(zip(trainer.history, trainer.thetas[1:])):
        alpha = supernet.relaxation.alpha(theta.double())
        log_alpha = alpha.clamp_min(torch.finfo(torch.float64).tiny).log()
        genotype = derived_from(supernet, theta)
        images += epoch["images"]
        rows.append(
            {
                **row(i, genotype, epoch["val_accuracy"], images, epoch["seconds"]),
                "core_seconds": epoch["core_seconds"],
                "alpha_entropy": float(-(alpha * log_alpha).sum(-1).mean()),
                "skips": sum(cell.operations.count("skip_connect") for cell in genotype.cells),
                "theta_loss": epoch["theta_loss"],
                "theta_reach": epoch["theta_reach"],
            }
        )
    return pd.DataFrame(rows)

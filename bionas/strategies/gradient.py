"""Differentiable search as a strategy: Algorithm 1 (section III-B) for a budget."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from bionas.genotype import derive
from bionas.strategies.evaluators import SUPERNET, Evaluator, Supernet
from bionas.strategies.searching import (
    SearchResult,
    conclude,
    finished,
    open_run,
    require,
    require_budget,
    row,
    strategy,
)
from bionas.strategies.space import Space
from bionas.training.fitting import BilevelTrainer
from bionas.training.runs import Run


@strategy("gradient", needs=SUPERNET)
def gradient(
    space: Space, evaluate: Evaluator, budget: int, seed: int = 0, *, folder: Path | None = None
) -> SearchResult:
    """As many epochs of Algorithm 1 as the budget has room for; the answer is what the last one derives, or with
    `max_skips` (`SearchConfig`) the last one before skips led too many edges.

    Images on which theta is updated count, since the supernet is run on them forward and backward. A row of the trace is an
    epoch: what would be derived after it (one genotype may stand in many rows), the supernet's own validation accuracy
    as its score, alpha_entropy (nats, mean over edges) and the number of skips.

    Raises:
        SearchError: the budget is under one epoch, or the evaluator has no supernet.
    """
    require("gradient", evaluate)
    supernet = evaluate.supernet(space, seed)
    epochs = epochs_within(budget, supernet)
    run = open_run(folder, "gradient", space, evaluate, budget, seed, {"epochs": epochs})
    if (result := finished(run)) is not None:
        return result
    config = dataclasses.replace(supernet.config, epochs=epochs)
    with inner_run(run) as inner:
        sides = supernet.train, supernet.val, supernet.encoding
        trainer = BilevelTrainer(supernet.model, *sides, config, inner, supernet.description)
        trainer.train()
        trace = _trace(trainer)
        spent = int(trace["images"].iloc[-1])
        found = {"derived_from_epoch": trainer.derived_epoch, "stopped": trainer.stopped}
        inner.finish({"epochs": len(trace), "images_seen": spent, **found})  # its weights may be inherited
    return conclude(
        run, SearchResult(trainer.genotype(), trace, spent, trainer.stopped or "the budget is spent")
    )


def epochs_within(budget: int, supernet: Supernet) -> int:
    """How many epochs of Algorithm 1 a budget has room for, the warm-up's being cheaper.

    Raises:
        SearchError: none in which theta moves; the message says how much that takes.
    """
    w, theta = images_of_epoch(supernet)
    warmup = supernet.config.warmup_epochs
    what = "one epoch of the supernet" + (f" after {warmup} of warm-up" if warmup else "")
    require_budget(budget, (warmup + 1) * w + theta, what)
    return warmup + (budget - warmup * w) // (w + theta)


def images_of_epoch(supernet: Supernet) -> tuple[int, int]:
    """Images that w, and that theta is updated on in an epoch; the most it can be where the batch size is "auto"."""
    config, n_train = supernet.config, len(supernet.train)
    if config.batch_size == "auto":
        return (n_train, n_train) if config.theta_data == "val" else (n_train, 0)
    batch = min(config.batch_size, n_train)
    steps = n_train // batch
    if config.theta_data == "val":
        return steps * batch, steps * min(batch, len(supernet.val))
    return (steps + 1) // 2 * batch, steps // 2 * batch


@contextlib.contextmanager
def inner_run(run: Run | None) -> Iterator[Run]:
    """The folder in which a supernet is trained: inside the search's, or one that is gone afterwards."""
    if run is not None:
        yield Run(run.path / "supernet")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Run(Path(folder) / "supernet")


def _trace(trainer: BilevelTrainer) -> pd.DataFrame:
    """A row an epoch, from what the trainer's checkpoint holds."""
    supernet, rows, images = trainer.supernet, [], 0
    for i, (epoch, theta) in enumerate(zip(trainer.history, trainer.thetas[1:])):
        alpha = torch.softmax(theta.double(), dim=-1)
        log_alpha = torch.log_softmax(theta.double(), dim=-1)
        cells = alpha.expand(len(supernet.config.reductions), -1, -1)
        genotype = derive(cells, supernet.primitives, supernet.config.reductions, supernet.primitive_set)
        images += epoch["images"]
        rows.append(
            {
                **row(i, genotype, epoch["val_accuracy"], images, epoch["seconds"]),
                "alpha_entropy": float(-(alpha * log_alpha).sum(-1).mean()),
                "skips": sum(cell.operations.count("skip_connect") for cell in genotype.cells),
                "theta_loss": epoch["theta_loss"],
            }
        )
    return pd.DataFrame(rows)

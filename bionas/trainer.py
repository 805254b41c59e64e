"""Algorithm 1 (section III-B) and the plain training of what it derives.

`BilevelTrainer` searches: even batches update w on training data, odd batches update theta. `Fit` trains any network by
the same loop (`loop`). Both write one run folder, a checkpoint each epoch, and go on from it.

One reading differs from the listing: it clips the gradients after the update, where clipping does nothing; we clip
before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from bionas import files
from bionas.errors import TrainingError
from bionas.genotype import EDGES
from bionas.loop import Tally, Trainer, adamw
from bionas.network import SearchNetwork
from bionas.recipe import SearchConfig
from bionas.specimens.loader import Batch


class Fit(Trainer):
    """Train a derived network, or any other, from its present weights (retraining after derivation; baselines).

    Args:
        model: called `model(image, metadata) -> logits`.
        train, val: splits; val is watched, never learnt from.
        encoding: of the metadata, fitted on train.
        config: see `FitConfig`.
        run: where everything is written and found again.
        description: what else made this run (network, source, ...): written to config.json, and held against it.

    Raises:
        CheckpointError: the folder holds another run, or its checkpoint is damaged.
    """

    phase = "fit"

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"w": adamw(list(self.model.parameters()), self.config)}

    def count_steps(self) -> int:
        return len(self.train_loader)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        tally, parameters = Tally(self), list(self.model.parameters())
        for step, batch in enumerate(map(self.to_device, self.train_loader.epoch(epoch))):
            loss, right = self.loss(batch)
            tally.add(step, loss, right, len(batch.label))
            self.update("w", parameters, loss)
            bar.set_postfix(step=f"{step + 1}/{self.steps_per_epoch}", refresh=False)
        return tally.row()


class BilevelTrainer(Trainer):
    """Algorithm 1: search by alternating optimisation over w and theta (Eqs. 12-14).

    With theta_data="val" an epoch is one pass over the training split for w, and after each of its batches a
    validation batch for theta; with "train" the training batches alternate, even for w, odd for theta. In the warm-up
    theta's batches are left out.

    Args:
        model: the supernet. The other arguments are those of `Fit`.

    Raises:
        CheckpointError: the folder holds another run, or its checkpoint is damaged.
    """

    phase = "search"
    model: SearchNetwork
    config: SearchConfig

    def __init__(self, model: SearchNetwork, *args, **kwargs):
        self.supernet = model
        self.thetas = [model.theta.detach().cpu().clone()]
        super().__init__(model, *args, **kwargs)
        self.theta_loader = self._loader(self.val_set, self.config.seed + 1, shuffle=True)
        if self.config.theta_data == "train" and len(self.train_loader) < 2:
            raise TrainingError(
                f"theta_data='train' alternates over the training batches, and there is only one of {self.batch_size}. "
                "Use a smaller batch_size."
            )
        if not 0 <= self.config.warmup_epochs < self.config.epochs:
            raise TrainingError(
                f"warmup_epochs={self.config.warmup_epochs} of {self.config.epochs} epochs leaves none to search in. "
                "Give more epochs, or a shorter warm-up."
            )

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        c = self.config
        theta = torch.optim.Adam(
            self.supernet.architecture(), lr=c.theta_learning_rate, weight_decay=c.theta_weight_decay
        )
        return {"w": adamw(self.supernet.weights(), c), "theta": theta}

    def count_steps(self) -> int:
        batches = len(self.train_loader)
        return batches if self.config.theta_data == "val" else (batches + 1) // 2

    def batches(self, epoch: int) -> Iterator[tuple[str, Batch]]:
        """The mini-batches of an epoch in order, each with whose turn it is: "w" on even numbers, "theta" on odd."""
        train = self.train_loader.epoch(epoch)
        warming_up = epoch < self.config.warmup_epochs
        if self.config.theta_data == "train":
            turns = ((("w", "theta")[i % 2], batch) for i, batch in enumerate(train))
            yield from (turn for turn in turns if turn[0] == "w" or not warming_up)
            return
        val = self._theta_batches(epoch)
        for batch in train:
            yield "w", batch
            if not warming_up:
                yield "theta", next(val)

    def _theta_batches(self, epoch: int) -> Iterator[Batch]:
        # Validation is the smaller split: it is gone through as often as an epoch needs, each time in a new order.
        rounds = -(-len(self.train_loader) // len(self.theta_loader))
        for i in range(rounds):
            yield from self.theta_loader.epoch(epoch * rounds + i)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        w, theta = Tally(self), Tally(self)
        weights, architecture = self.supernet.weights(), self.supernet.architecture()
        for step, (turn, batch) in enumerate(self.batches(epoch)):
            batch = self.to_device(batch)
            if turn == "w":
                _freeze(architecture), _unfreeze(weights)
                loss, right = self.loss(batch)
                w.add(step, loss, right, len(batch.label))
                self.update("w", weights, loss)
            else:
                _freeze(weights), _unfreeze(architecture)
                self._batch_norm(self.config.theta_batch_norm == "batch")
                loss, right = self.loss(batch)
                self._batch_norm(True)
                theta.add(step, loss, right, len(batch.label))
                self.update("theta", architecture, loss)
            bar.set_postfix(step=f"{step + 1}", refresh=False)
        _unfreeze(weights), _unfreeze(architecture)
        self.thetas.append(self.supernet.theta.detach().cpu().clone())
        row, scored = w.row(), theta.row()
        theta_loss = scored["train_loss"] if scored["images"] else float("nan")  # in the warm-up theta rests
        return row | {"theta_loss": theta_loss, "images": row["images"] + scored["images"]}

    def _batch_norm(self, training: bool) -> None:
        for module in self.supernet.modules():
            if isinstance(module, _BatchNorm):
                module.train(training)

    def trial_step(self, batch: Batch) -> None:
        _freeze(self.supernet.architecture())  # the w step needs the more memory of the two
        super().trial_step(batch)
        _unfreeze(self.supernet.architecture())

    def state(self) -> dict[str, Any]:
        return super().state() | {"thetas": torch.stack(self.thetas)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.thetas = list(state["thetas"].cpu())
        super().load_state(state)

    def write_tables(self) -> None:
        super().write_tables()
        files.write_csv(self.run.path / "alphas.csv", alpha_table(self.thetas, self.supernet))
        self.supernet.genotype().save(self.run.path / "genotype.json")


def alpha_table(thetas: list[Tensor], supernet: SearchNetwork) -> pd.DataFrame:
    """One row an epoch x cell x edge x primitive; epoch 0 is before training.

    Columns: epoch, cell, reduction, edge, primitive, alpha (softmaxed), theta (raw).
    """
    theta = torch.stack(thetas).double()
    alpha = torch.softmax(theta, dim=-1)
    reductions = supernet.config.reductions
    if theta.shape[1] == 1:  # shared: the same row for every cell
        theta, alpha = (t.expand(-1, len(reductions), -1, -1) for t in (theta, alpha))
    index = pd.MultiIndex.from_product(
        [range(len(thetas)), range(len(reductions)), EDGES, supernet.primitives],
        names=["epoch", "cell", "edge", "primitive"],
    )
    frame = index.to_frame(index=False)
    frame.insert(2, "reduction", frame["cell"].map(dict(enumerate(reductions))))
    return frame.assign(alpha=alpha.reshape(-1).numpy(), theta=theta.reshape(-1).numpy())


def _freeze(parameters: list[nn.Parameter]) -> None:
    for p in parameters:
        p.requires_grad_(False)


def _unfreeze(parameters: list[nn.Parameter]) -> None:
    for p in parameters:
        p.requires_grad_(True)

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

from bionas.errors import TrainingError
from bionas.genotype import EDGES, Genotype, derive
from bionas.network import SearchNetwork
from bionas.specimens.loader import Batch
from bionas.system import files
from bionas.training.loop import Tally, Trainer, adamw
from bionas.training.recipe import SearchConfig
from bionas.training.runs import Run
from bionas.training.skips import Guarded, guard, leading_skips


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
    theta's batches are left out. With `max_skips` the search may end before its last epoch; the weights in the checkpoint
    are then those of the epoch that ended it, the one after that which is derived from.

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
        if self.config.max_skips is not None and self.config.max_skips < 0:
            raise TrainingError(
                f"max_skips={self.config.max_skips}: it is the number of edges that skip_connect may lead. Give 0 or more."
            )

    def train(self) -> Run:
        """As `Trainer.train`; `genotype` is then what the search found.

        Raises:
            TrainingError: with `max_skips`, where skip_connect led more edges after every single epoch.
        """
        run = super().train()
        if self.config.max_skips is not None and self._guarded().epoch is None:
            searched = self._skips().loc[self.config.warmup_epochs + 1 :]
            raise TrainingError(
                f"search: skip_connect led more than max_skips={self.config.max_skips} of {self._edges()} edges after every "
                f"epoch (fewest: {searched.min()}, after epoch {searched.idxmin()}), so none is left to derive from. Search "
                "with a longer warm-up (warmup_epochs), a smaller theta_learning_rate or a larger max_skips. The weights "
                f"of every epoch are in {run.path / 'alphas.csv'}."
            )
        return run

    # --- what is found ------------------------------------------------------------------------------------------

    @property
    def derived_epoch(self) -> int:
        """The epoch whose alphas are derived from: the last one, or with `max_skips` what `skips.guard` says."""
        kept = self._guarded().epoch
        return self.epoch if kept is None else kept

    @property
    def stopped(self) -> str:
        if not self._guarded().stop:
            return ""
        skips, edges = self._skips(), self._edges()
        return (
            f"search: stopped after epoch {self.epoch} of {self.config.epochs}, where skip_connect leads {skips[self.epoch]} "
            f"of {edges} edges, more than max_skips={self.config.max_skips}. Derived from epoch {self.derived_epoch}, where "
            f"it leads {skips[self.derived_epoch]}."
        )

    def genotype(self) -> Genotype:
        """What the alphas of `derived_epoch` derive (section III-B.2)."""
        net = self.supernet
        alpha = torch.softmax(self.thetas[self.derived_epoch].double(), dim=-1).expand(
            net.config.cells, -1, -1
        )
        return derive(alpha, net.primitives, net.config.reductions, net.primitive_set)

    def _guarded(self) -> Guarded:
        if self.config.max_skips is None:
            return Guarded(None, False)
        return guard(self._skips(), self.config.max_skips, self.config.warmup_epochs)

    def _skips(self) -> pd.Series:
        return leading_skips(alpha_table(self.thetas, self.supernet))

    def _edges(self) -> int:
        return self.supernet.config.cells * len(EDGES)

    # --- a search, epoch by epoch -------------------------------------------------------------------------------

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
        self.genotype().save(self.run.path / "genotype.json")


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

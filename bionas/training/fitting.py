"""Search and retraining with a run folder: `Search` drives Algorithm 1 (`bionas.trainer`), `Fit` trains any network.

Both write one run folder, a checkpoint per epoch, and resume from it. `SearchHooks` is where a strategy adds to a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from bionas.errors import TrainingError
from bionas.genotype import EDGES, Genotype, derive
from bionas.network import SearchNetwork
from bionas.specimens.loader import Batch
from bionas.system import files
from bionas.trainer import THETA, BilevelTrainer, WeightTrainer, adam, learnable, turns
from bionas.training import distributed
from bionas.training.loop import Tally, Trainer, optimizer_of_w
from bionas.training.recipe import THETA_BETAS, SearchConfig, theta_rate
from bionas.training.runs import Run
from bionas.training.skips import guard, leading_skips


class Fit(Trainer):
    """Train a derived network, or any other, from its present weights (retraining after derivation; baselines).

    Arguments and errors are those of `Trainer`.
    """

    phase = "fit"

    def make_algorithm(self) -> WeightTrainer:
        w = optimizer_of_w([p for p in self.model.parameters() if p.requires_grad], self.config)
        return WeightTrainer(self.model, w, **self.settings(w))

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        tally = Tally(self)
        for number, batch in enumerate(map(self.to_device, self.train_loader.epoch(epoch))):
            tally.add(number, self.algorithm.step(batch))
            bar.set_postfix(step=f"{number + 1}/{self.steps_per_epoch}", refresh=False)
        return tally.row()


class Ending(NamedTuple):
    """Why a search ends before its last epoch.

    Attributes:
        epoch: the one whose alphas are derived from.
        reason: one sentence.
    """

    epoch: int
    reason: str


class SearchHooks:
    """What a strategy adds to a search, beside the relaxation and the edge form of its supernet. This one adds nothing.

    A resumed search must equal an undisturbed one: what a hook does follows from its arguments, never from an attribute
    that it kept, and random draws come from torch's global generator.
    """

    def before_epoch(self, search: Search, epoch: int) -> None:
        """Called before epoch `epoch`, counted from 0: the place to set a temperature or the weight of a penalty."""

    def penalty(self, supernet: SearchNetwork) -> Tensor:
        """Term added to theta's loss at every theta step."""
        return supernet.theta.new_zeros(())

    def after_epoch(self, search: Search) -> dict[str, float]:
        """Called after an epoch's updates and before its validation; returns further columns of history.csv."""
        return {}

    def ending(self, history: list[dict[str, Any]]) -> Ending | None:
        """Whether the search ends here, from the rows of history.csv up to now."""
        return None


class Search(Trainer):
    """Algorithm 1 over epochs: search by alternating optimisation of w and theta (Eqs. 12-14).

    With theta_data="val" an epoch is one pass over the training split for w, and after each of its batches one
    validation batch for theta; with "train" the training batches alternate, even for w, odd for theta. In the warm-up
    theta's batches are left out. With `max_skips`, or by a hook, the search may end before its last epoch; the weights in
    the checkpoint are then those of the epoch that ended it, which may be later than the one derived from.

    Args:
        model: the supernet. The other arguments, and the errors, are those of `Trainer`.
        hooks: what a strategy adds.
    """

    phase = "search"
    model: SearchNetwork
    config: SearchConfig

    def __init__(self, model: SearchNetwork, *args: Any, hooks: SearchHooks | None = None, **kwargs: Any):
        super().__init__(model, *args, **kwargs)
        self.supernet, self.hooks = model, hooks
        self.rate_warmup_epochs = self.config.rate_warmup_epochs
        self.thetas: list[Tensor] = []

    def require(self) -> None:
        c = self.config
        if not 0 <= c.warmup_epochs < c.epochs:
            raise TrainingError(
                f"warmup_epochs={c.warmup_epochs} of {c.epochs} epochs leaves none to search in. "
                "Give more epochs, or a shorter warm-up."
            )
        if c.rate_warmup_epochs >= c.epochs:
            raise TrainingError(
                f"rate_warmup_epochs={c.rate_warmup_epochs} of {c.epochs} epochs leaves none at the full rate. "
                "Give more epochs, or a shorter warm-up."
            )
        if c.rate_warmup_epochs and c.schedule == "one_cycle":
            raise TrainingError(
                "schedule='one_cycle' has a warm-up of its own. Use 'cosine' or 'constant' with rate_warmup_epochs."
            )

    def setup(self) -> None:
        super().setup()
        self.thetas = [self.supernet.theta.detach().cpu().clone()]
        self.theta_loader = self._loader(self.val_set, self.config.seed + 1, shuffle=True)
        if self.config.theta_data == "train" and len(self.train_loader) < 2:
            raise TrainingError(
                f"theta_data='train' alternates over the training batches, and there is only one of {self.batch_size}. "
                "Use a smaller batch_size."
            )

    def count_steps(self) -> int:
        batches = len(self.train_loader)
        return batches if self.config.theta_data == "val" else (batches + 1) // 2

    @property
    def theta_steps(self) -> int:
        """Updates of theta in the whole search."""
        batches = len(self.train_loader)
        per_epoch = batches if self.config.theta_data == "val" else batches // 2
        return per_epoch * (self.config.epochs - self.config.warmup_epochs)

    def make_algorithm(self) -> BilevelTrainer:
        c = self.config
        w = optimizer_of_w(self.supernet.weights(), c)
        theta = adam(
            self.supernet.architecture(),
            theta_rate(c.theta_learning_rate, self.theta_steps),
            c.theta_weight_decay,
            THETA_BETAS[c.theta_betas],
        )
        return BilevelTrainer(
            self.supernet,
            w,
            theta,
            forward=self.model,
            theta_batch_norm=c.theta_batch_norm,
            penalty=None if self.hooks is None else self.hooks.penalty,
            **self.settings(w),
        )

    def train(self) -> Run:
        """As `Trainer.train`; `genotype` is then what the search found.

        Raises:
            TrainingError: with `max_skips`, where skip_connect led more edges after every single epoch.
        """
        self.prepare()
        rate = self.optimizers[THETA].param_groups[0]["lr"]
        print(
            f"{self.phase}: theta learning rate {rate:.3g} ({self.config.theta_learning_rate}), {self.theta_steps:,} theta "
            f"steps: theta reach {rate * self.theta_steps:.3g}",
            flush=True,
        )
        run = super().train()
        if self.config.max_skips is not None and self._guarded() is None:
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
        """The epoch whose alphas are derived from: the last one, or an earlier one with `max_skips` or by a hook."""
        if ending := self._hooked():
            return ending.epoch
        return self._guarded() or self.epoch

    @property
    def stopped(self) -> str:
        if ending := self._hooked():
            return ending.reason
        if self.config.max_skips is None or not self._verdict().stop:
            return ""
        skips, edges = self._skips(), self._edges()
        return (
            f"search: stopped after epoch {self.epoch} of {self.config.epochs}, where skip_connect leads {skips[self.epoch]} "
            f"of {edges} edges, more than max_skips={self.config.max_skips}. Derived from epoch {self.derived_epoch}, where "
            f"it leads {skips[self.derived_epoch]}."
        )

    @property
    def theta_reach(self) -> float:
        """Sum of the theta learning rate over the theta steps taken: how far a theta can have moved, at most."""
        return self.history[-1]["theta_reach"] if self.history else 0.0

    def genotype(self) -> Genotype:
        """What the alphas of `derived_epoch` derive (section III-B.2)."""
        net = self.supernet
        alpha = net.alpha(self.thetas[self.derived_epoch].double())
        per = self.config.argmax_per
        return derive(alpha, net.primitives, net.config.reductions, net.primitive_set, per=per)

    def _hooked(self) -> Ending | None:
        return None if self.hooks is None or not self.history else self.hooks.ending(self.history)

    def _verdict(self):
        return guard(self._skips(), self.config.max_skips, self.config.warmup_epochs)

    def _guarded(self) -> int | None:
        return None if self.config.max_skips is None else self._verdict().epoch

    def _skips(self) -> pd.Series:
        return leading_skips(alpha_table(self.thetas, self.supernet))

    def _edges(self) -> int:
        return self.supernet.config.cells * len(EDGES)

    # --- a search, epoch by epoch -------------------------------------------------------------------------------

    def batches(self, epoch: int) -> Iterator[tuple[str, Batch]]:
        """The mini-batches of an epoch in order, each with its turn: "w" or "theta"."""
        val = self._theta_batches(epoch) if self.config.theta_data == "val" else None
        return turns(self.train_loader.epoch(epoch), val, epoch < self.config.warmup_epochs)

    def _theta_batches(self, epoch: int) -> Iterator[Batch]:
        # Validation is the smaller split: it is read as often as an epoch needs, each time in a new order.
        rounds = -(-len(self.train_loader) // len(self.theta_loader))
        for i in range(rounds):
            yield from self.theta_loader.epoch(epoch * rounds + i)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        tallies, reach = {"w": Tally(self), THETA: Tally(self)}, self.theta_reach
        if self.hooks is not None:
            self.hooks.before_epoch(self, epoch)
        for number, (turn, batch) in enumerate(self.batches(epoch)):
            if turn == THETA:
                reach += self.optimizers[THETA].param_groups[0]["lr"]
            tallies[turn].add(number, self.algorithm.step(self.to_device(batch), turn))
            if turn == THETA:
                distributed.require_identical(self.supernet.theta, "theta")
            bar.set_postfix(step=f"{number + 1}", refresh=False)
        self.thetas.append(self.supernet.theta.detach().cpu().clone())
        w, theta = tallies["w"].row(), tallies[THETA].row()
        theta_loss = theta["train_loss"] if theta["images"] else float("nan")  # none in the warm-up
        added = {} if self.hooks is None else self.hooks.after_epoch(self)
        return (
            w
            | {"theta_loss": theta_loss, "theta_reach": reach, "images": w["images"] + theta["images"]}
            | added
        )

    def trial_step(self, batch: Batch) -> None:
        learnable(self.supernet.architecture(), False)  # the w step needs more memory than the theta step
        super().trial_step(batch)
        learnable(self.supernet.architecture(), True)

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
    """One row per epoch x cell x edge x primitive; epoch 0 is before training.

    Columns: epoch, cell, reduction, edge, primitive, alpha (as derived from), theta (raw).
    """
    theta = torch.stack(thetas).double()
    alpha = supernet.relaxation.alpha(theta).detach()
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

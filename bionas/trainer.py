"""Algorithm 1 (section III-B): alternating optimisation of the weights w and the architecture theta (Eqs. 12-14).

    trainer = BilevelTrainer(supernet, adamw(supernet.weights()), adam(supernet.architecture()))
    for epoch in range(epochs):
        supernet.train()
        for turn, batch in turns(train_batches, val_batches):
            trainer.step(batch, turn)

Plain torch: batches in, updates out. `WeightTrainer` is the w step alone, which also retrains derived networks. Epochs,
checkpoints, run folders and tables are in `training`.

One reading differs from the listing: it clips the gradients after the update, where clipping has no effect; here they
are clipped before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LRScheduler

from bionas.network import Metadata, SearchNetwork

W, THETA = "w", "theta"


class Batch(Protocol):
    """B specimens on the device: image (B, 3, S, S) or None for records alone, metadata, label int64 (B,)."""

    @property
    def image(self) -> Tensor | None: ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def label(self) -> Tensor: ...


OneBatch = TypeVar("OneBatch", bound=Batch)


class Step(NamedTuple):
    """What one step did, as tensors on the device: reading them makes a GPU wait."""

    loss: Tensor
    right: Tensor
    images: int


class WeightTrainer:
    """Training of w: forward, loss, backward, clip, update.

    Args:
        model: called `model(image, metadata) -> logits`, in training mode; wrapped for mixed precision if wanted.
        w: the optimiser of w.
        w_schedule: of w's rate, stepped after each update of w.
        clip_norm: largest gradient norm; the paper's 1.0.
        label_smoothing: share of the target spread over all classes; the paper's 0.1.
        criterion: (logits, labels) -> loss, in place of cross-entropy with these smoothed labels. Not in the paper.
        scaler: dynamic loss scaling for fp16; a step whose gradients overflow is skipped.
        reduce: called with the parameters after back-propagation, to average their gradients over processes.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        w: torch.optim.Optimizer,
        *,
        w_schedule: LRScheduler | None = None,
        clip_norm: float = 1.0,
        label_smoothing: float = 0.1,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        reduce: Callable[[list[nn.Parameter]], None] | None = None,
    ):
        self.reduce = reduce
        self.model, self.clip_norm = model, clip_norm
        self.criterion = criterion or nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.optimizers = {W: w}
        self.schedules = {} if w_schedule is None else {W: w_schedule}
        self.scaler = torch.amp.GradScaler(enabled=False) if scaler is None else scaler

    def step(self, batch: Batch, turn: str = W) -> Step:
        """One update on one batch."""
        loss, right = self.loss(batch)
        self.update(turn, loss)
        return Step(loss.detach(), right, len(batch.label))

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The criterion, and the number of images classified correctly."""
        logits = self.model(batch.image, batch.metadata)
        loss = self.criterion(logits, batch.label)
        return loss, (logits.detach().argmax(1) == batch.label).sum()

    def update(self, turn: str, loss: Tensor) -> None:
        """Back-propagate the scaled loss, clip the unscaled gradients, step, forget the gradients."""
        optimizer = self.optimizers[turn]
        self.scaler.scale(loss).backward()
        if self.reduce is not None:
            self.reduce(parameters_of(optimizer))
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters_of(optimizer), self.clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if turn in self.schedules:
            self.schedules[turn].step()


class BilevelTrainer(WeightTrainer):
    """Algorithm 1: even batches update w with theta frozen (Eq. 13), odd batches update theta with w frozen (Eq. 12).

    Args:
        supernet: holds w and theta.
        w, theta: the two optimisers, as from `adamw` and `adam`.
        forward: what computes the logits, where that is not the supernet itself but its wrapper.
        theta_batch_norm: in a theta step batch normalisation uses that batch's statistics and updates the running ones,
            as in a w step ("batch"), or uses the running ones and leaves them unchanged ("running"). Not in the paper.
        penalty: term added to theta's loss, called with the supernet (decay on beta, an L0-1 loss). Not in the paper.
        settings: the further arguments of `WeightTrainer`.
    """

    def __init__(
        self,
        supernet: SearchNetwork,
        w: torch.optim.Optimizer,
        theta: torch.optim.Optimizer,
        *,
        forward: Callable[..., Tensor] | None = None,
        theta_batch_norm: str = "batch",
        penalty: Callable[[SearchNetwork], Tensor] | None = None,
        **settings: Any,
    ):
        super().__init__(supernet if forward is None else forward, w, **settings)
        self.optimizers[THETA] = theta
        self.supernet, self.theta_batch_norm, self.penalty = supernet, theta_batch_norm, penalty

    def step(self, batch: Batch, turn: str = W) -> Step:
        """One update of w or of theta on one batch; the other is frozen, so its gradients are never computed."""
        weights, architecture = self.supernet.weights(), self.supernet.architecture()
        learnable(weights, turn == W)
        learnable(architecture, turn == THETA)
        running = turn == THETA and self.theta_batch_norm == "running"
        if running:
            use_running_statistics(self.supernet)
        loss, right = self.loss(batch)
        if running:
            self.supernet.train()  # a frozen stem stays in evaluation mode
        penalised = loss if turn == W or self.penalty is None else loss + self.penalty(self.supernet)
        self.update(turn, penalised)
        learnable(weights, True)
        learnable(architecture, True)
        return Step(loss.detach(), right, len(batch.label))


def turns(
    train: Iterable[OneBatch], val: Iterable[OneBatch] | None = None, warming_up: bool = False
) -> Iterator[tuple[str, OneBatch]]:
    """The batches of an epoch in order, each with its turn.

    Args:
        train: w is updated on each of these batches; without `val` on every even one, and theta on every odd one.
        val: theta is updated on one of these batches after each update of w (Eq. 12). None: Algorithm 1 to the letter.
            It has at least as many batches as `train`.
        warming_up: leave theta's batches out.
    """
    if val is None:
        alternating = ((THETA if i % 2 else W, batch) for i, batch in enumerate(train))
        yield from (turn for turn in alternating if turn[0] == W or not warming_up)
        return
    scored = iter(val)
    for batch in train:
        yield W, batch
        if not warming_up:
            yield THETA, next(scored)


def adamw(
    weights: list[nn.Parameter], rate: float = 1e-3, weight_decay: float = 1e-4
) -> torch.optim.Optimizer:
    """The optimiser of w (section III-B.1)."""
    return torch.optim.AdamW(weights, lr=rate, weight_decay=weight_decay, fused=True)


def adam(
    architecture: list[nn.Parameter],
    rate: float = 3e-4,
    weight_decay: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """The optimiser of theta (section III-B.1). The paper gives no betas: torch's defaults; DARTS has (0.5, 0.999)."""
    # Fused on a GPU: loss scaling then needs no answer from the device in order to skip a step.
    fused = True if architecture[0].is_cuda else None
    return torch.optim.Adam(architecture, lr=rate, weight_decay=weight_decay, betas=betas, fused=fused)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters that an optimiser updates, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def learnable(parameters: Iterable[nn.Parameter], learnable: bool) -> None:
    """Freeze or unfreeze parameters."""
    for p in parameters:
        p.requires_grad_(learnable)


def use_running_statistics(model: nn.Module) -> None:
    """Batch normalisation uses the running statistics in place of the batch's, and leaves them unchanged."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()

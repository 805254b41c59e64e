"""Derivation by perturbation instead of argmax (DARTS-PT; Wang et al., ICLR 2021).

The weight of a primitive says how much it is used, not how much it is worth. Here each edge in turn, in random order, is
decided by what the supernet loses without each of its primitives: the one whose removal costs the most validation accuracy
stays. Then the supernet is tuned with that edge decided. Usable after any differentiable search.

Two readings of ours: the primitives that remain share the weight of the removed one (the softmax without it), and accuracy is
measured on the first `BATCHES` validation batches, with ties decided by the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bionas.genotype import EDGES, Genotype, derive
from bionas.strategies.evaluators import Supernet
from bionas.strategies.one_path import EXCLUDED
from bionas.training.runs import Run

BATCHES = 4
"""Validation batches per measurement."""
TUNING = 8
"""Training batches on which w is updated after each decided edge."""
TUNING_RATE = 0.1
"""Learning rate of tuning, as a share of the search's: the schedule of the search has ended near 0."""

PARTS = ("model", "optimizer", "decided", "position", "random")


def perturbation_images(supernet: Supernet) -> int:
    """Training images that the derivation takes: the tuning of w after each edge."""
    config, n_train = supernet.config, len(supernet.train)
    batch = n_train if isinstance(config.batch_size, str) else min(config.batch_size, n_train)
    return supernet.model.theta.shape[0] * len(EDGES) * TUNING * batch


def perturbed(trainer: Any, run: Run, seed: int) -> tuple[Genotype, int]:
    """Derive from the supernet that a finished differentiable search has trained.

    Args:
        trainer: of the search; its network is tuned in place.
        run: folder of the supernet; the state after each edge is kept in perturbation/ inside it.
        seed: of the order of edges.

    Returns:
        The genotype, and the training images of tuning.
    """
    net, device = trainer.supernet, trainer.device
    inner = Run(run.path / "perturbation")
    rows, names = net.theta.shape[0], net.primitives
    order = np.random.default_rng(seed).permutation(rows * len(EDGES))
    net.theta.requires_grad_(False)
    rate = TUNING_RATE * trainer.config.learning_rate
    optimizer = torch.optim.AdamW(net.weights(), lr=rate, weight_decay=trainer.config.weight_decay)
    decided: dict[int, int] = {}
    begin = 0
    if (state := inner.load_checkpoint(device, parts=PARTS)) is not None:
        net.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        decided = {int(edge): k for edge, k in state["decided"].items()}
        begin = state["position"]
        torch.set_rng_state(state["random"].cpu())
    images = begin * TUNING * trainer.train_loader.batch_size
    for position in range(begin, len(order)):
        edge = int(order[position])
        decided[edge] = _needed(trainer, edge, _candidates(edge, decided, names))
        _decide(net, edge, decided[edge])
        images += _tune(trainer, optimizer, position)
        inner.save_checkpoint(
            {
                "model": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "decided": {str(e): k for e, k in decided.items()},
                "position": position + 1,
                "random": torch.get_rng_state(),
            }
        )
    one_hot = np.eye(len(names))[[decided[edge] for edge in range(len(order))]]
    alphas = np.broadcast_to(
        one_hot.reshape(rows, len(EDGES), -1), (net.config.cells, len(EDGES), len(names))
    )
    return derive(alphas, names, net.config.reductions, net.primitive_set), images


def _candidates(edge: int, decided: dict[int, int], names: tuple[str, ...]) -> list[int]:
    """Every primitive, without `none` where the other edge from x of this cell is already removed."""
    cell, position = divmod(edge, len(EDGES))
    other = cell * len(EDGES) + 1 - position
    blocked = position < 2 and other in decided and names[decided[other]] == "none"
    return [k for k, name in enumerate(names) if not (blocked and name == "none")]


def _needed(trainer: Any, edge: int, candidates: list[int]) -> int:
    """The primitive without which the supernet does worst."""
    theta = trainer.supernet.theta.view(-1, trainer.supernet.theta.shape[-1])
    found = []
    for k in candidates:
        kept = theta[edge, k].item()
        with torch.no_grad():
            trainer.supernet.theta.view_as(theta)[edge, k] = EXCLUDED
        accuracy, loss = _measured(trainer)
        with torch.no_grad():
            trainer.supernet.theta.view_as(theta)[edge, k] = kept
        found.append((accuracy, -loss, k))
    return min(found)[2]


def _measured(trainer: Any) -> tuple[float, float]:
    """Accuracy and loss of the supernet on the first validation batches."""
    right = loss = seen = 0.0
    trainer.model.eval()
    with torch.no_grad():
        for i, batch in enumerate(trainer.val_loader.epoch(0)):
            if i == BATCHES:
                break
            batch = trainer.to_device(batch)
            logits = trainer.model(batch.image, batch.metadata).float()
            right += (logits.argmax(1) == batch.label).sum().item()
            loss += F.cross_entropy(logits, batch.label, reduction="sum").item()
            seen += len(batch.label)
    return right / seen, loss / seen


def _decide(net: Any, edge: int, k: int) -> None:
    with torch.no_grad():
        rows = net.theta.view(-1, net.theta.shape[-1])
        rows[edge] = EXCLUDED
        rows[edge, k] = 0.0


def _tune(trainer: Any, optimizer: torch.optim.Optimizer, position: int) -> int:
    """Update w on a few training batches; returns their images."""
    trainer.model.train()
    images = 0
    for i, batch in enumerate(trainer.train_loader.epoch(position)):
        if i == TUNING:
            break
        batch = trainer.to_device(batch)
        loss, _ = trainer.algorithm.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainer.supernet.weights(), trainer.config.clip_norm)
        optimizer.step()
        images += len(batch.label)
    return images

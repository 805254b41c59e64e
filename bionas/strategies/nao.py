"""Neural architecture optimisation (Luo et al., NeurIPS 2018): ascend a predicted score where it is differentiable.

An encoder turns a genotype's choices into vectors, a predictor reads the score off them, a decoder reads the choices back.
The three are trained together on the candidates scored so far; then the vectors of the best candidates move up the
predictor's gradient, and what the decoder makes of them is trained next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import (
    UPDATES,
    Sampler,
    SearchResult,
    candidates_within,
    generator_state,
    search_candidates,
    set_generator_state,
    strategy,
)
from bionas.strategies.space import Space

INITIAL, BATCH = 10, 5


@strategy("nao")
def nao(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    initial: int | None = None,
    batch: int | None = None,
    parents: int = 5,
    steps: int = 40,
    hidden: int = 64,
) -> SearchResult:
    """Random candidates first; then rounds of training encoder, predictor and decoder and of ascending from the best.

    Luo et al. began with 600 candidates and took the 100 best as parents; here there are tens. A round in which ascent
    finds too few new genotypes is filled up at random. Of the new ones those go first that are predicted to be best.

    Args:
        initial: random candidates before the first round; by default 10, a third of the budget's candidates if fewer.
        batch: candidates per round; by default 5, or fewer for `UPDATES` rounds within the budget. The trace counts the
            rounds so far (`updates`).
        parents: number of best candidates to ascend from; as many more where that leads to too few new genotypes.
        steps: of Adam (rate 1e-2 at first, then 5e-3; decay 1e-3) on all candidates, three times as many in round one.
        hidden: width of the LSTMs.

    Raises:
        SearchError: fewer than two candidates to begin with, or no candidate or parent per round.
    """
    candidates = candidates_within(budget, evaluate)
    if initial is None:
        initial = min(INITIAL, max(2, candidates // 3))
    if batch is None:
        batch = min(BATCH, max(1, (candidates - initial) // UPDATES))
    options = {"initial": initial, "batch": batch, "parents": parents, "steps": steps, "hidden": hidden}
    return search_candidates(
        "nao", Ascent(space, seed, **options), space, evaluate, budget, seed, folder, options
    )


class Autoencoder(nn.Module):
    """Encoder, predictor and decoder over the choices of a space: L choices among K primitives, vectors of width H."""

    def __init__(self, space: Space, hidden: int):
        super().__init__()
        self.space = space
        k = len(space.primitives)
        self.primitive = nn.Embedding(k + 1, hidden)  # the last row: nothing chosen yet
        self.position = nn.Embedding(space.choices, hidden)
        self.encoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.predictor = nn.Sequential(
            nn.Linear(space.choices * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.head = nn.Linear(2 * hidden, k)

    def encode(self, choices: Tensor) -> Tensor:
        """(B, L) -> (B, L, H), each vector of length 1."""
        return F.normalize(self.encoder(self.primitive(choices) + self.position.weight)[0], dim=-1)

    def predict(self, encoded: Tensor) -> Tensor:
        """(B, L, H) -> score in 0..1, (B,).

        Luo et al. read it off the mean of the L vectors; read off all of them, its gradient can differ from edge to edge.
        """
        return torch.sigmoid(self.predictor(encoded.flatten(1)))[:, 0]

    def logits(self, encoded: Tensor, before: Tensor) -> Tensor:
        """(B, L, H) and the choices before each of the first t, (B, t) -> (B, t, K), attending to what was encoded."""
        start = encoded.mean(dim=1)[None].contiguous()
        inputs = self.primitive(before) + self.position.weight[: before.shape[1]]
        decoded = self.decoder(inputs, (start, torch.zeros_like(start)))[0]
        attention = torch.softmax(decoded @ encoded.transpose(1, 2), dim=-1)
        return self.head(torch.cat([decoded, attention @ encoded], dim=-1))

    def decode(self, encoded: Tensor) -> np.ndarray:
        """(B, L, H) -> the likeliest choices that the space allows, (B, L)."""
        chosen = np.empty((len(encoded), 0), dtype=np.int64)
        with torch.no_grad():
            for _ in range(self.space.choices):
                last = self.logits(encoded, self.shifted(torch.from_numpy(chosen)))[:, -1]
                last[torch.from_numpy(~self.space.allowed(chosen))] = -torch.inf
                chosen = np.concatenate([chosen, last.argmax(dim=1, keepdim=True).numpy()], axis=1)
        return chosen

    def loss(self, choices: Tensor, scores: Tensor) -> Tensor:
        """Squared error of the predictor and cross-entropy of the decoder, weighted 0.8 to 0.2 (our choice)."""
        encoded = self.encode(choices)
        error = F.mse_loss(self.predict(encoded), scores)
        logits = self.logits(encoded, self.shifted(choices)[:, :-1])
        return 0.8 * error + 0.2 * F.cross_entropy(logits.flatten(0, 1), choices.flatten())

    def shifted(self, choices: Tensor) -> Tensor:
        """(B, t) -> (B, t + 1), beginning with "nothing chosen yet"."""
        return F.pad(choices, (1, 0), value=len(self.space.primitives))


class Ascent(Sampler):
    """The candidates so far, the networks trained on them, and what they suggest next."""

    STEP_SIZES = tuple(0.1 * 1.5**i for i in range(12))
    """Step lengths for vectors of length 1: from 0.1 to 8.6."""

    def __init__(
        self, space: Space, seed: int, initial: int, batch: int, parents: int, steps: int, hidden: int
    ):
        if initial < 2 or batch < 1 or parents < 1:
            raise SearchError(
                f"initial={initial}, batch={batch}, parents={parents}: at least 2 candidates to begin with, 1 per round, and "
                "1 to ascend from."
            )
        self.space, self.generator = space, np.random.default_rng(seed)
        self.initial, self.batch, self.parents, self.steps = initial, batch, parents, steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Autoencoder(space, hidden)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2, weight_decay=1e-3, fused=True)
        self.choices: list[list[int]] = []
        self.scores: list[float] = []
        self.seen: set[str] = set()
        self.queue: list[list[int]] = []
        self.ascended = 0  # how many of the queue come from ascent; the others are random
        self.rounds, self.loss = 0, float("nan")

    def propose(self) -> Genotype | None:
        if not self.queue:
            wanted = self.initial if not self.scores else self.batch
            if self.scores:
                self._learn()
                self.queue = self._ascend()
            self.ascended = len(self.queue)
            self._fill(wanted)
        return self.space.decode(self.queue[0]) if self.queue else None

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.queue.pop(0)
        from_ascent = self.ascended > 0
        self.ascended -= from_ascent
        self.choices.append(self.space.encode(genotype).tolist())
        self.scores.append(float(score))
        self.seen.add(genotype.key())
        return {
            "updates": self.rounds,
            "origin": "ascent" if from_ascent else "random",
            "predictor_loss": self.loss,
        }

    def _learn(self) -> None:
        choices, scores = torch.tensor(self.choices), torch.tensor(self.scores)
        scores = (scores - scores.min()) / (scores.max() - scores.min()).clamp_min(1e-8)
        for group in self.optimizer.param_groups:
            group["lr"] = 5e-3 if self.rounds else 1e-2
        for _ in range(self.steps * (1 if self.rounds else 3)):
            loss = self.model.loss(choices, scores)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
        self.rounds, self.loss = self.rounds + 1, loss.item()

    def _ascend(self) -> list[list[int]]:
        """New genotypes that ascent from the best candidates leads to, those first that are predicted to score best.

        Where ascent from the best leads to nothing but what is known, it starts from the next best.
        """
        ranked = np.argsort(-np.array(self.scores), kind="stable")
        found: dict[str, list[int]] = {}
        for start in range(0, len(ranked), self.parents):
            known = torch.tensor([self.choices[i] for i in ranked[start : start + self.parents]])
            encoded = self.model.encode(known).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.model.predict(encoded).sum(), encoded)
            direction = F.normalize(gradient.flatten(1), dim=1).view_as(gradient) * self.space.choices**0.5
            moved = torch.cat([encoded.detach() + size * direction for size in self.STEP_SIZES])
            for choices in self.model.decode(moved):
                key = self.space.decode(choices).key()
                if key not in self.seen:
                    found.setdefault(key, choices.tolist())
            if len(found) >= self.batch:
                break
        if not found:
            return []
        new = list(found.values())
        with torch.no_grad():
            predicted = self.model.predict(self.model.encode(torch.tensor(new))).numpy()
        return [new[i] for i in np.argsort(-predicted, kind="stable")[: self.batch]]

    def _fill(self, wanted: int) -> None:
        """Random new genotypes behind the queue, as many as are wanted and left."""
        waiting = {self.space.decode(choices).key() for choices in self.queue}
        while len(self.queue) < wanted and len(self.seen | waiting) < self.space.distinct:
            genotype = self.space.random(self.generator)
            if genotype.key() not in self.seen | waiting:
                waiting.add(genotype.key())
                self.queue.append(self.space.encode(genotype).tolist())

    def state(self) -> dict[str, Any]:
        plain = {
            name: getattr(self, name) for name in ("choices", "scores", "queue", "ascended", "rounds", "loss")
        }
        return plain | {
            "seen": sorted(self.seen),
            "generator": generator_state(self.generator),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("choices", "scores", "queue", "ascended", "rounds", "loss"):
            setattr(self, name, state[name])
        self.seen = set(state["seen"])
        set_generator_state(self.generator, state["generator"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

"""From logits to answers: temperature, refusal, roll-up over the taxonomy, conformal prediction sets.

Everything here is fitted on validation photographs that the network was not trained on. A `Calibration` keeps their
logits, labels and distances, so that any error rate and any list of taxa can be asked for later.

- Temperature (Guo et al. 2017): one divisor of the logits that minimises the negative log likelihood.
- Refusal: the mean cosine distance to the nearest training photographs in feature space (Sun et al. 2022); the
  threshold is the quantile of the validation distances that refuses the share asked for.
- Roll-up: the finest rank at which a taxon's summed probability reaches a threshold, the smallest one at which
  (wrong + 1) / (decided + 1) on validation stays within the error rate (conformal risk control, Angelopoulos et al. 2022).
- Prediction sets: split conformal sets of coverage 1 - error rate (Vovk et al. 2005; score 1 - p of the true class).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from bionas.errors import BionasError
from bionas.lab.taxonomy import Taxonomy

NEIGHBOURS = 10
BANK = 4000
"""Training photographs whose features are kept for the distance, at most."""

LARGEST = 5000
"""Validation photographs that a model keeps, at most."""

BLOCK = 1024
"""Photographs whose distances are computed together."""

UNSURE, REFUSED, DECIDED, UNREADABLE = "unsure", "not recognised", "decided", "unreadable"
"""What `decision` of an answer can be (a decided one holds the name of the taxon)."""


def unit(features: np.ndarray) -> np.ndarray:
    """(N, D) features -> unit vectors of their signed square roots, which no single large value dominates."""
    rooted = np.sign(features) * np.sqrt(np.abs(features, dtype=np.float32))
    return rooted / np.maximum(np.linalg.norm(rooted, axis=1, keepdims=True), 1e-12)


def bank(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """(M, D) float16 unit vectors of at most `BANK` training photographs, every class in proportion (at least one)."""
    share = min(1.0, BANK / max(len(labels), 1))
    generator = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept.append(generator.permutation(own)[: max(1, math.floor(share * len(own)))])
    return unit(features[np.sort(np.concatenate(kept))]).astype(np.float16)


def distances(features: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """(N,) mean cosine distance of features (N, D) to their `NEIGHBOURS` nearest of `neighbours` (M, D) unit vectors."""
    reference = neighbours.astype(np.float32)
    nearest = min(NEIGHBOURS, len(reference))
    found = np.empty(len(features), dtype=np.float32)
    for start in range(0, len(features), BLOCK):
        similar = unit(features[start : start + BLOCK]) @ reference.T
        top = np.partition(similar, -nearest, axis=1)[:, -nearest:]
        found[start : start + BLOCK] = 1 - top.mean(axis=1)
    return found


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of the labels (N,) under the logits (N, C)."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The divisor of the logits with the smallest negative log likelihood of the labels, within 1/20 to 20."""

    def loss(log_temperature: float) -> float:
        return log_loss(logits / math.exp(log_temperature), labels)

    bound = math.log(20)
    return math.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x)


class Rule(NamedTuple):
    """How photographs are answered: thresholds for one error rate, one list of taxa, one finest rank.

    Attributes:
        error_rate: share of wrong answers among decided ones that is aimed at.
        distance: photographs farther than this from the training photographs are refused.
        score: a taxon is named where its summed probability is at least this.
        set_score: classes of at least this probability are in the prediction set.
        allowed: bool (C,), the classes that may be answered.
        finest: the finest rank that may be answered.
    """

    error_rate: float
    distance: float
    score: float
    set_score: float
    allowed: np.ndarray
    finest: str


class Answers(NamedTuple):
    """Of N photographs: decision, decided_rank and reason (lists of text), sets (N, C) bool."""

    decision: list[str]
    decided_rank: list[str]
    reason: list[str]
    sets: np.ndarray

    def with_rows(self, places: np.ndarray, others: Answers) -> Answers:
        """These answers with `others` (M of them) at `places` (M,)."""
        texts = [list(column) for column in self[:3]]
        for column, replacing in zip(texts, others[:3]):
            for place, text in zip(places, replacing):
                column[place] = text
        sets = self.sets.copy()
        sets[places] = others.sets
        return Answers(texts[0], texts[1], texts[2], sets)


@dataclass(frozen=True)
class Calibration:
    """What validation photographs say of a network's logits and distances.

    Attributes:
        temperature: divisor of the logits.
        logits (V, C), labels (V,), distances (V,): of at most `LARGEST` validation photographs.
    """

    temperature: float
    logits: np.ndarray
    labels: np.ndarray
    distances: np.ndarray

    @classmethod
    def fit(cls, logits: np.ndarray, labels: np.ndarray, distance: np.ndarray, seed: int) -> Calibration:
        kept = np.arange(len(labels))
        if len(labels) > LARGEST:
            kept = np.sort(np.random.default_rng(seed).permutation(len(labels))[:LARGEST])
        temperature = fit_temperature(logits, labels)
        return cls(temperature, logits[kept].astype(np.float32), labels[kept], distance[kept])

    def probabilities(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """(N, C) calibrated probabilities; classes that are not `allowed` get none, the others sum to one."""
        scaled = logits.astype(np.float64) / self.temperature
        if allowed is not None and not allowed.all():
            scaled = np.where(allowed, scaled, -np.inf)
        return softmax(scaled, axis=1)

    def rule(
        self,
        taxonomy: Taxonomy,
        error_rate: float = 0.05,
        refuse: float = 0.1,
        allowed: np.ndarray | None = None,
        finest: str | None = None,
    ) -> Rule:
        """The thresholds for an error rate.

        Args:
            error_rate: share of wrong answers among decided ones, above 0 and below 1.
            refuse: share of photographs like the training ones that may be refused; 0 refuses none.
            allowed: bool (C,); None for all classes.
            finest: the finest rank to answer at; None for the target.

        Raises:
            BionasError: an error rate or a share that is none, or no validation photograph of the allowed classes.
            UnknownName: the model has no such rank.
        """
        if not 0 < error_rate < 1:
            raise BionasError(f"--error-rate {error_rate}: give a share above 0 and below 1, as 0.05.")
        if not 0 <= refuse < 1:
            raise BionasError(f"--refuse {refuse}: give a share from 0 to below 1, as 0.1.")
        finest = finest or taxonomy.target
        taxonomy.names(finest)
        allowed = np.ones(len(taxonomy.classes), dtype=bool) if allowed is None else allowed
        distance = float(np.quantile(self.distances, 1 - refuse)) if refuse else math.inf
        seen = allowed[self.labels]
        if not seen.any():
            raise BionasError("the list of taxa names no class that validation photographs show.")
        probabilities = self.probabilities(self.logits[seen], allowed)
        labels, near = self.labels[seen], self.distances[seen] <= distance
        set_score = _set_score(probabilities[np.arange(len(labels)), labels], error_rate)
        if near.any():
            probabilities, labels = probabilities[near], labels[near]
        score = _score(probabilities, labels, taxonomy, finest, error_rate)
        return Rule(error_rate, distance, score, set_score, allowed, finest)


def answer(probabilities: np.ndarray, distance: np.ndarray, taxonomy: Taxonomy, rule: Rule) -> Answers:
    """What a rule says of calibrated probabilities (N, C) and distances (N,)."""
    ranks = ranks_up_to(taxonomy, rule.finest)
    decided = rolled_up(probabilities, taxonomy, rule.finest, rule.score)
    decisions, decided_ranks, reasons = [], [], []
    for row, (rank, taxon, score) in enumerate(decided):
        if distance[row] > rule.distance:
            decisions.append(REFUSED)
            decided_ranks.append("")
            reasons.append(
                f"unlike the training photographs (distance {distance[row]:.3f}, limit {rule.distance:.3f})"
            )
        elif rank < 0:
            decisions.append(UNSURE)
            decided_ranks.append("")
            best = f"best {ranks[0]} {taxonomy.taxa(ranks[0])[taxon]} has {score:.2f}"
            reachable = rule.score <= 1
            reasons.append(
                f"{best}, below {rule.score:.2f}"
                if reachable
                else f"{best}; no score is high enough for the error rate that was asked for"
            )
        else:
            name = ranks[rank]
            decisions.append(taxonomy.taxa(name)[taxon])
            decided_ranks.append(name)
            reasons.append("" if name == rule.finest else f"below {rule.score:.2f} at {ranks[rank + 1]}")
    sets = (probabilities >= rule.set_score) & rule.allowed
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return Answers(decisions, decided_ranks, reasons, sets)


def ranks_up_to(taxonomy: Taxonomy, finest: str) -> tuple[str, ...]:
    """The ranks from the widest to `finest`."""
    return taxonomy.ranks[: taxonomy.ranks.index(finest) + 1]


def rolled_up(
    probabilities: np.ndarray, taxonomy: Taxonomy, finest: str, threshold: float
) -> list[tuple[int, int, float]]:
    """Of each photograph the finest rank (its number, -1 for none), taxon (its number) and score that pass `threshold`.

    Where none passes, taxon and score are the best of the widest rank.
    """
    ranks = ranks_up_to(taxonomy, finest)
    summed = [taxonomy.summed(probabilities, rank) for rank in ranks]
    best = [(part.argmax(axis=1), part.max(axis=1)) for part in summed]
    found = []
    for row in range(len(probabilities)):
        passing = [number for number in range(len(ranks)) if best[number][1][row] >= threshold]
        number = passing[-1] if passing else -1
        shown = max(number, 0)
        found.append((number, int(best[shown][0][row]), float(best[shown][1][row])))
    return found


def _score(
    probabilities: np.ndarray, labels: np.ndarray, taxonomy: Taxonomy, finest: str, error_rate: float
) -> float:
    """The smallest threshold at which (wrong + 1) / (decided + 1) on validation is within the error rate.

    A threshold above 1, which nothing passes, where there is none.
    """
    ranks = ranks_up_to(taxonomy, finest)
    wrong_at, score_at = [], []
    for rank in ranks:
        summed = taxonomy.summed(probabilities, rank)
        position = {name: number for number, name in enumerate(taxonomy.taxa(rank))}
        truth = np.array([position[name] for name in taxonomy.names(rank)])[labels]
        score_at.append(summed.max(axis=1))
        wrong_at.append(summed.argmax(axis=1) != truth)
    scores, wrongs = np.array(score_at), np.array(wrong_at)  # (ranks, V)
    within = math.nextafter(1.0, 2.0)
    candidates = np.unique(scores)[::-1]
    if len(candidates) > LARGEST:
        candidates = candidates[np.linspace(0, len(candidates) - 1, LARGEST).round().astype(int)]
    for threshold in candidates:
        passes = scores >= threshold
        decided = passes.any(axis=0)
        finest_passing = len(ranks) - 1 - passes[::-1].argmax(axis=0)
        wrong = wrongs[finest_passing, np.arange(len(labels))] & decided
        if (wrong.sum() + 1) / (decided.sum() + 1) <= error_rate:
            within = float(threshold)
    return within


def _set_score(true_scores: np.ndarray, error_rate: float) -> float:
    """The probability that a class needs to be in the prediction set: split conformal, score 1 - p of the truth."""
    n = len(true_scores)
    level = math.ceil((n + 1) * (1 - error_rate)) / n
    if level > 1:
        return 0.0
    return float(1 - np.quantile(1 - true_scores, level, method="higher"))

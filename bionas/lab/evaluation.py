"""What a model is worth on photographs of specimens it has never seen, as plain data for the report and `model.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bionas.lab.calibration import DECIDED, REFUSED, UNSURE, Calibration, answer
from bionas.lab.head import fit_head
from bionas.lab.taxonomy import Taxonomy
from bionas.training.evaluation import evaluate, to_plain

Z = 1.959964
"""Standard normal quantile of a 95 % interval."""

RESAMPLES = 2000
CURVE = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Error rates that the report shows."""

REFUSALS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Shares of the validation photographs refused at which the refused share of the test photographs is reported."""

SHARES = (0.25, 0.5, 1.0)
"""Shares of the training photographs of the learning curve."""

REPEATS = 3
CONFUSIONS = 8
"""Confusions that the report names, at most."""

BINS = ("low", "high", "confidence", "accuracy", "n")


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    share, spread = right / n, Z**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(right: np.ndarray, groups: np.ndarray | None, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of an accuracy: Wilson's, or where photographs share specimens, resampled whole groups."""
    if groups is None or len(np.unique(groups)) < 3:
        return wilson(int(right.sum()), len(right))
    _, codes = np.unique(groups, return_inverse=True)
    hits, sizes = np.bincount(codes, right), np.bincount(codes)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(RESAMPLES, len(sizes)))
    low, high = np.percentile(hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def tested(
    calibration: Calibration,
    taxonomy: Taxonomy,
    logits: np.ndarray,
    labels: np.ndarray,
    distance: np.ndarray,
    train_labels: np.ndarray,
    groups: np.ndarray | None,
    error_rate: float,
    refuse: float,
) -> dict[str, Any]:
    """Everything the report says of the test photographs; shares of 1.

    Keys: n, accuracy, interval, balanced_accuracy, majority_class, majority_accuracy, ece_before, ece_after, ranks
    (rank -> accuracy), by_class, confusions, reliability, decisions (at `error_rate`), curve (at the rates of `CURVE`),
    refusals (share refused of validation -> of test).
    """
    names = taxonomy.classes
    before = evaluate(labels, _softmax(logits), names, train_labels=train_labels)
    probabilities = calibration.probabilities(logits)
    after = evaluate(labels, probabilities, names, train_labels=train_labels)
    right = probabilities.argmax(axis=1) == labels
    counts = np.bincount(train_labels, minlength=len(names))
    by_class = [
        {"class": row["class"], "train": int(counts[i])}
        | to_plain({k: row[k] for k in ("n", "precision", "recall", "f1")})
        for i, row in enumerate(after.by_class.to_dict("records"))
    ]
    shown = ("accuracy", "balanced_accuracy", "majority_accuracy")
    decide = [
        {"error_rate": rate} | decisions(calibration, taxonomy, probabilities, labels, distance, rate, refuse)
        for rate in dict.fromkeys((error_rate, *CURVE))
    ]
    return {
        "n": len(labels),
        "interval": list(interval(right, groups)),
        **{name: after.metrics[name] for name in shown},
        "majority_class": names[int(counts.argmax())],
        "ece_before": before.metrics["ece"],
        "ece_after": after.metrics["ece"],
        "ranks": {rank: rank_accuracy(taxonomy, probabilities, labels, rank) for rank in taxonomy.ranks},
        "by_class": by_class,
        "confusions": confusions(after.confusion, names),
        "reliability": {
            "before": [to_plain(row) for row in before.reliability[list(BINS)].to_dict("records")],
            "after": [to_plain(row) for row in after.reliability[list(BINS)].to_dict("records")],
        },
        "refusals": {
            f"{share:g}": float((distance > np.quantile(calibration.distances, 1 - share)).mean())
            for share in REFUSALS
        },
        "decisions": decide[0],
        "curve": decide[1:] if error_rate not in CURVE else sorted(decide, key=lambda row: row["error_rate"]),
    }


def rank_accuracy(taxonomy: Taxonomy, probabilities: np.ndarray, labels: np.ndarray, rank: str) -> float:
    """Share of photographs whose most probable taxon of a rank is the right one."""
    position = {name: number for number, name in enumerate(taxonomy.taxa(rank))}
    truth = np.array([position[name] for name in taxonomy.names(rank)])[labels]
    return float((taxonomy.summed(probabilities, rank).argmax(axis=1) == truth).mean())


def decisions(
    calibration: Calibration,
    taxonomy: Taxonomy,
    probabilities: np.ndarray,
    labels: np.ndarray,
    distance: np.ndarray,
    error_rate: float,
    refuse: float,
) -> dict[str, Any]:
    """What the rule for an error rate does to photographs of known classes.

    Keys: n, refused, unsure, decided (shares of all), decided_n, wrong (share of the decided), wrong_interval, ranks
    (rank -> share of all decided there), coverage (share of prediction sets with the truth), set_size (mean).
    """
    rule = calibration.rule(taxonomy, error_rate, refuse)
    found = answer(probabilities, distance, taxonomy, rule)
    n = len(labels)
    decided = np.array([rank != "" for rank in found.decided_rank])
    wrong = np.array(
        [
            bool(rank) and taxonomy.names(rank)[label] != taxon
            for rank, taxon, label in zip(found.decided_rank, found.decision, labels)
        ]
    )
    return {
        "n": n,
        "refused": found.decision.count(REFUSED) / n,
        UNSURE: found.decision.count(UNSURE) / n,
        DECIDED: float(decided.mean()),
        "decided_n": int(decided.sum()),
        "wrong": float(wrong.sum() / max(decided.sum(), 1)),
        "wrong_interval": list(wilson(int(wrong.sum()), int(decided.sum()))),
        "ranks": {rank: found.decided_rank.count(rank) / n for rank in taxonomy.ranks},
        "coverage": float(found.sets[np.arange(n), labels].mean()),
        "set_size": float(found.sets.sum(axis=1).mean()),
    }


def confusions(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest confusions: truth, taken_for, n, of (photographs of the truth)."""
    counts = matrix.copy()
    np.fill_diagonal(counts, 0)
    found = []
    for place in np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS]:
        truth, taken = np.unravel_index(place, counts.shape)
        if counts[truth, taken]:
            found.append(
                {
                    "truth": names[truth],
                    "taken_for": names[taken],
                    "n": int(counts[truth, taken]),
                    "of": int(matrix[truth].sum()),
                }
            )
    return found


def learning_curve(
    features: np.ndarray, labels: np.ndarray, sides: Sequence[np.ndarray], n_classes: int, seed: int
) -> list[dict[str, Any]]:
    """Test accuracy of a logistic regression on a quarter, half and all of the training photographs.

    Returns one entry per share: photographs, per_class (their mean number), accuracy (mean over draws).
    """
    train, val, test = sides
    generator = np.random.default_rng(seed)
    found = []
    for share in SHARES:
        accuracies, n = [], 0
        for _ in range(REPEATS if share < 1 else 1):
            drawn = _stratified(train, labels, share, generator)
            head = fit_head(features[drawn], labels[drawn], features[val], labels[val], n_classes)
            accuracies.append(float((head.logits(features[test]).argmax(axis=1) == labels[test]).mean()))
            n = len(drawn)
        per_class = round(n / len(np.unique(labels[train])), 1)
        found.append({"photographs": n, "per_class": per_class, "accuracy": float(np.mean(accuracies))})
    return found


def _stratified(
    train: np.ndarray, labels: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    parts = []
    for label in np.unique(labels[train]):
        own = generator.permutation(train[labels[train] == label])
        parts.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(parts))


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)

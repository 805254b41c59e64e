"""Evaluation of a classifier (section V-A): metrics, a table by class, confusion, ROC, calibration.

`evaluate` turns labels and probabilities into an `Evaluation`; `write_evaluation` writes it to a run folder,
`read_evaluation` reads it. The paper does not say over which classes its precision, recall and F1 are averaged (weighted
and macro readings of its tables both occur), so both are always given, with balanced accuracy and the score of always
predicting the most frequent class. Metrics are computed by scikit-learn.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from bionas.errors import BionasError, UnknownName
from bionas.system import files

ECE_BINS = 15
"""Equal-width bins of the top-label confidence."""

ROC_POINTS = 500
"""Corners of a ROC curve that are kept for drawing; its area is computed from all of them."""


@dataclass(frozen=True)
class Evaluation:
    """A classifier on one split.

    Attributes:
        metrics: n, accuracy, balanced_accuracy, precision / recall / f1 weighted and macro, auc_macro, ece,
            majority_accuracy, majority_balanced_accuracy. Shares of 1, not per cent; NaN where undefined.
        by_class: one row per class: class, n (in this split), precision, recall, f1, auc; NaN for a class with n = 0.
        confusion: (C, C) counts, rows the truth, columns the prediction.
        roc: corners of the one-vs-rest curves: class, fpr, tpr, auc.
        reliability: one row per bin of confidence: bin, low, high, confidence (mean), accuracy, n; NaN if it is empty.
        class_names: C names.
        notes: what a reader of the metrics must know, in sentences.
    """

    metrics: dict[str, Any]
    by_class: pd.DataFrame
    confusion: np.ndarray
    roc: pd.DataFrame
    reliability: pd.DataFrame
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def evaluate(
    labels: Any, probabilities: Any, class_names: Sequence[str], *, train_labels: Any | None = None
) -> Evaluation:
    """Every metric of section V-A.

    Classes without a specimen in this split have no recall and no ROC curve: they are left out of every macro average,
    and a note says so, as it does of a class that the training split lacks. A class that is never predicted has precision 0.

    Args:
        labels: (N,) integers in 0 .. C-1.
        probabilities: (N, C), rows summing to 1; an array or a tensor on any device.
        class_names: C names.
        train_labels: labels of the training split, which decide what the majority class is and which classes could be learned; without them, this split's.

    Raises:
        BionasError: nothing to evaluate, shapes that do not agree, labels out of range, rows that are not probabilities.
    """
    names = tuple(class_names)
    labels, probabilities = _checked(labels, probabilities, len(names))
    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    confusion = sk.confusion_matrix(labels, predicted, labels=np.arange(len(names)))
    auc = [_auc(labels == c, probabilities[:, c]) for c in range(len(names))]
    reliability = calibration_table(labels, probabilities)
    majority = _majority(labels if train_labels is None else train_labels, len(names))

    metrics: dict[str, Any] = {
        "n": len(labels),
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "balanced_accuracy": _balanced(labels, predicted),
    }
    for average in ("weighted", "macro"):
        scores = sk.precision_recall_fscore_support(
            labels, predicted, labels=present, average=average, zero_division=0
        )
        metrics |= {
            f"{name}_{average}": float(score) for name, score in zip(("precision", "recall", "f1"), scores)
        }
    metrics |= {
        "auc_macro": float(np.nanmean(auc)) if not np.isnan(auc).all() else math.nan,
        "ece": expected_calibration_error(reliability),
        "majority_accuracy": float(np.mean(labels == majority)),
        "majority_balanced_accuracy": float(majority in present) / len(present),
    }
    return Evaluation(
        metrics=metrics,
        by_class=_by_class(labels, predicted, names, auc),
        confusion=confusion,
        roc=_roc(labels, probabilities, names, auc),
        reliability=reliability,
        class_names=names,
        notes=_notes(labels, predicted, names, majority, train_labels),
    )


def top_k_error(labels: Any, probabilities: Any, k: int) -> float:
    """Share of specimens whose class is not among the k most probable; ties: the first wins, as in `argmax`.

    Args:
        labels: (N,) integers. probabilities: (N, C).
    """
    most_probable = np.argsort(-np.asarray(probabilities, dtype=float), axis=1, kind="stable")[:, :k]
    return 1 - float((most_probable == np.asarray(labels)[:, None]).any(axis=1).mean())


def majority_row(train_labels: Any, test_labels: Any, n_classes: int) -> dict[str, Any]:
    """The metrics of always predicting the training split's most frequent class, its frequencies as confidences.

    It is the first row of every table: only a network above it has learned something.
    """
    train_labels = np.asarray(train_labels)
    prior = np.bincount(train_labels, minlength=n_classes) / len(train_labels)
    constant = np.tile(prior, (len(test_labels), 1))
    return evaluate(
        test_labels, constant, tuple(map(str, range(n_classes))), train_labels=train_labels
    ).metrics


def calibration_table(labels: Any, probabilities: Any, bins: int = ECE_BINS) -> pd.DataFrame:
    """Top-label confidence against the share that is right, in `bins` equal widths; a bin holds its upper end.

    Returns:
        bin, low, high, confidence, accuracy, n; `bins` rows, NaN where n is 0.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    right = probabilities.argmax(axis=1) == np.asarray(labels)
    edges = np.linspace(0, 1, bins + 1)
    which = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(which, confidence, bins) / n
        accuracy = np.bincount(which, right, bins) / n
    frame = {"bin": range(bins), "low": edges[:-1], "high": edges[1:]}
    return pd.DataFrame(frame | {"confidence": mean_confidence, "accuracy": accuracy, "n": n})


def expected_calibration_error(reliability: pd.DataFrame) -> float:
    """ECE = sum over bins of n_b / N x |accuracy_b - confidence_b|."""
    gap = (reliability["accuracy"] - reliability["confidence"]).abs()
    return float((gap * reliability["n"]).sum() / reliability["n"].sum())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, predictions: float(np.mean(labels == predictions)),
    "balanced_accuracy": lambda labels, predictions: _balanced(labels, predictions),
    "f1_weighted": lambda labels, predictions: float(
        sk.f1_score(labels, predictions, average="weighted", zero_division=0)
    ),
}
"""Metrics that `bootstrap_interval` takes by name."""


def bootstrap_interval(
    labels: Any,
    predictions: Any,
    metric: str | Callable[[np.ndarray, np.ndarray], float] = "accuracy",
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A 95 % percentile interval: the specimens of each class drawn anew, with replacement, `n` times.

    It says how far the figure depends on which specimens were tested; the spread over seeds says the rest. Drawing
    within classes keeps every class in the split, without which balanced accuracy would drift; a class of one specimen
    then adds nothing to the width, so with many of those the interval is too narrow.

    Args:
        labels, predictions: (N,) integers.
        metric: a name from `METRICS` or a function of labels and predictions.

    Raises:
        UnknownName: no such metric.
    """
    if isinstance(metric, str):
        if metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
        metric = METRICS[metric]
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    draws = np.concatenate([generator.choice(own, size=(n, len(own))) for own in classes], axis=1)
    low, high = np.percentile([metric(labels[draw], predictions[draw]) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


SHOWN = ("accuracy", "balanced_accuracy", "f1_weighted", "f1_macro", "auc_macro", "ece")
"""The metrics of a table of models by default."""


def predictions_frame(
    specimens_records: pd.DataFrame, labels: Any, probabilities: Any, class_names: Sequence[str]
) -> pd.DataFrame:
    """One row per specimen: processid and file where the records have them, truth, predicted, confidence, p_<class>.

    `labels` may hold -1 where the truth is not known; `truth` is then empty.
    """
    names = np.asarray(tuple(class_names), dtype=object)
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, dtype=float)
    records = specimens_records.reset_index(drop=True)
    identity = [c for c in ("processid", "sampleid", "file") if c in records and records[c].notna().any()]
    frame = records[identity].copy() if identity else pd.DataFrame({"specimen": range(len(labels))})
    frame["truth"] = np.where(labels >= 0, names[labels], "")
    frame["predicted"] = names[probabilities.argmax(axis=1)]
    frame["confidence"] = probabilities.max(axis=1).round(6)
    shares = pd.DataFrame(probabilities.round(6), columns=[f"p_{name}" for name in names])
    return pd.concat([frame, shares], axis=1)


def write_evaluation(
    folder: str | os.PathLike, evaluation: Evaluation, predictions: pd.DataFrame | None = None
) -> None:
    """Write metrics.json, by_class.csv, confusion.csv, roc.csv, reliability.csv and, where given, predictions.csv.

    metrics.json goes last: where it stands, the others do too. What is undefined is null in it.
    """
    folder = Path(folder)
    names = list(evaluation.class_names)
    confusion = pd.DataFrame(evaluation.confusion, columns=names)
    confusion.insert(0, "truth \\ predicted", names)
    files.write_csv(folder / "by_class.csv", evaluation.by_class)
    files.write_csv(folder / "confusion.csv", confusion)
    files.write_csv(folder / "roc.csv", evaluation.roc)
    files.write_csv(folder / "reliability.csv", evaluation.reliability)
    if predictions is not None:
        files.write_csv(folder / "predictions.csv", predictions)
    files.write_json(
        folder / "metrics.json", to_plain(evaluation.metrics) | {"notes": list(evaluation.notes)}
    )


def read_evaluation(folder: str | os.PathLike) -> Evaluation:
    """The evaluation that `write_evaluation` wrote.

    Raises:
        BionasError: the folder holds no evaluation.
    """
    folder = Path(folder)
    metrics = files.read_json(folder / "metrics.json")
    notes = tuple(metrics.pop("notes", ()))
    frames = {}
    for name in ("by_class", "confusion", "roc", "reliability"):
        if not (folder / f"{name}.csv").exists():
            raise BionasError(f"{folder / name}.csv is not there: this folder holds no complete evaluation.")
        frames[name] = files.read_csv(folder / f"{name}.csv")
    return Evaluation(
        metrics={name: math.nan if value is None else value for name, value in metrics.items()},
        by_class=frames["by_class"],
        confusion=frames["confusion"].iloc[:, 1:].to_numpy(),
        roc=frames["roc"],
        reliability=frames["reliability"],
        class_names=tuple(frames["by_class"]["class"]),
        notes=notes,
    )


def to_plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same mapping as JSON can hold it: numpy scalars unwrapped, NaN and infinities as None."""
    plain = {}
    for name, value in values.items():
        value = value.item() if isinstance(value, np.generic) else value
        plain[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain


def _checked(labels: Any, probabilities: Any, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = (
        np.asarray(a.detach().cpu() if hasattr(a, "detach") else a) for a in (labels, probabilities)
    )
    probabilities = probabilities.astype(float)
    if not len(labels):
        raise BionasError("there is no specimen to evaluate on: the split is empty.")
    if labels.ndim != 1 or probabilities.shape != (len(labels), n_classes):
        raise BionasError(
            f"labels of shape {labels.shape} and probabilities of shape {probabilities.shape} do not fit "
            f"{n_classes} classes; expected (N,) and (N, {n_classes})."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= n_classes:
        raise BionasError(
            f"labels must be integers from 0 to {n_classes - 1}; found {labels.min()} to {labels.max()}."
        )
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise BionasError(f"{bad} of {len(labels)} specimens have a probability that is not finite.")
    if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-2:
        raise BionasError("probabilities do not sum to one in every row; pass the softmax of the logits.")
    return labels.astype(np.int64), probabilities


def _majority(labels: Any, n_classes: int) -> int:
    return int(np.bincount(np.asarray(labels), minlength=n_classes).argmax())


def _balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    with (
        warnings.catch_warnings()
    ):  # scikit-learn warns where a class is predicted that the split does not hold
        warnings.simplefilter("ignore", UserWarning)
        return float(sk.balanced_accuracy_score(labels, predicted))


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the one-vs-rest curve; NaN where the split holds no specimen of the class, or no other."""
    return float(sk.roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else math.nan


def _by_class(
    labels: np.ndarray, predicted: np.ndarray, names: tuple[str, ...], auc: list[float]
) -> pd.DataFrame:
    precision, recall, f1, n = sk.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), average=None, zero_division=0
    )
    frame = pd.DataFrame(
        {"class": names, "n": n, "precision": precision, "recall": recall, "f1": f1, "auc": auc}
    )
    frame.loc[frame["n"] == 0, ["precision", "recall", "f1", "auc"]] = math.nan
    return frame


def _roc(
    labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...], auc: list[float]
) -> pd.DataFrame:
    curves = [pd.DataFrame({"class": [], "fpr": [], "tpr": [], "auc": []}).astype({"class": object})]
    for c, name in enumerate(names):
        if math.isnan(auc[c]):
            continue
        fpr, tpr, _ = sk.roc_curve(labels == c, probabilities[:, c])
        keep = np.unique(np.linspace(0, len(fpr) - 1, min(len(fpr), ROC_POINTS)).round().astype(int))
        curves.append(pd.DataFrame({"class": name, "fpr": fpr[keep], "tpr": tpr[keep], "auc": auc[c]}))
    return pd.concat(curves[1:] or curves, ignore_index=True)


def _notes(
    labels: np.ndarray, predicted: np.ndarray, names: tuple[str, ...], majority: int, train_labels: Any | None
) -> tuple[str, ...]:
    notes = []
    counts = np.bincount(labels, minlength=len(names))
    if absent := [names[c] for c in np.flatnonzero(counts == 0)]:
        notes.append(
            f"{_listed(absent)} {'has' if len(absent) == 1 else 'have'} no specimen in this split: no recall, no AUC, "
            "and left out of the macro averages and of balanced accuracy."
        )
    if unseen := sorted({names[c] for c in np.unique(predicted) if counts[c] == 0}):
        notes.append(
            f"{_listed(unseen)} was predicted nevertheless; each such prediction counts as an error."
        )
    if scarce := [names[c] for c in np.flatnonzero((counts > 0) & (counts < 10))]:
        notes.append(
            f"Fewer than 10 specimens in this split: {_listed(scarce)}; their own metrics say little."
        )
    if train_labels is not None:
        learned = np.bincount(np.asarray(train_labels), minlength=len(names))
        if unlearned := np.flatnonzero((counts > 0) & (learned == 0)).tolist():
            best = 1 - counts[unlearned].sum() / len(labels)
            notes.append(
                f"{_listed([names[c] for c in unlearned])} {'has' if len(unlearned) == 1 else 'have'} no specimen in the "
                f"training split and cannot be predicted: accuracy is at most {best:.1%}."
            )
    if len(np.unique(labels)) == 1:
        notes.append(
            "This split holds a single class: there is no ROC curve, and accuracy is the recall of that class."
        )
    split = "evaluated" if train_labels is None else "training"
    notes.append(f"The majority class is the {split} split's: {names[majority]}.")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Leakage: how far metadata fields determine the target, without any network (section III-A.2 lists the order as input).

Values are looked up in the training records and scored on held-out records. `lookup_leakage` has one row per field,
`preset_leakage` one per preset. `leakage_report` adds the information a field carries and whether it determines the
target; `warning` states that in one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.metadata import METADATA_PRESETS, numbers_of, preset_fields
from bionas.specimens.schema import NUMERIC, coded

INTERVALS = 20
"""Number of intervals into which a numeric field is binned."""

DETERMINES = 0.95
"""A field determines the target if its look-up avoids this share of the errors of always answering the majority class,
on the held-out specimens whose value training has shown."""

ENOUGH = 10
"""Held-out specimens with a known value below which nothing is said about a field."""


def lookup_leakage(train: SpecimenSet, test: SpecimenSet, fields: Iterable[str]) -> pd.DataFrame:
    """How well each field predicts the class by looking its value up in the training records.

    A test specimen gets the most frequent class among the training specimens with the same value (equal frequencies:
    the class that is larger in training); a value that is missing or was never seen gets the majority class. A number
    is looked up by the one of `INTERVALS` intervals that it falls in, each holding equally many training specimens.

    Returns one row per field that the records have:
        field; coverage: share of test specimens that have a value; unseen: share of those that training never showed;
        accuracy: of the look-up, over all test specimens; majority: accuracy of always answering the majority class;
        balanced: balanced accuracy of the look-up when a training specimen's vote counts as the inverse of its class's
        size, so that the commonest class does not hide what a column predicts (a constant column gives 1 / classes).
    """
    largest = int(np.bincount(train.labels, minlength=len(train.class_names)).argmax())
    majority = float(np.mean(test.labels == largest)) if len(test) else math.nan
    rows = []
    for name in fields:
        if name not in train.records or name not in test.records:
            continue
        found = _look_up(name, train, test)
        rows.append(
            {
                "field": name,
                "coverage": found.has_value.mean(),
                "unseen": 1 - found.seen.sum() / found.has_value.sum() if found.has_value.any() else math.nan,
                "accuracy": float((found.answer == test.labels).mean()),
                "balanced": _balanced(test.labels, found.answer_by_share),
                "majority": majority,
            }
        )
    return pd.DataFrame(rows, columns=["field", "coverage", "unseen", "accuracy", "balanced", "majority"])


def preset_leakage(train: SpecimenSet, test: SpecimenSet) -> pd.DataFrame:
    """A lower bound for each preset: its most predictive field, looked up alone (see `lookup_leakage`).

    Returns one row per preset: preset; fields: how many these records can fill; most_telling: the field whose look-up has
    the highest balanced accuracy; accuracy and balanced of that look-up. Without fields: the majority class.
    """
    rows = []
    for preset in METADATA_PRESETS:
        fields = preset_fields(preset, train.records, train.target)
        answers = lookup_leakage(train, test, fields)
        if answers.empty:
            share = float(np.mean(test.labels == np.bincount(train.labels).argmax()))
            rows.append((preset, 0, "-", share, 1 / len(np.unique(test.labels))))
            continue
        best = answers.loc[answers["balanced"].idxmax()]
        rows.append((preset, len(fields), best["field"], best["accuracy"], best["balanced"]))
    return pd.DataFrame(rows, columns=["preset", "fields", "most_telling", "accuracy", "balanced"])


def leakage_report(collection: Splits, target: str, fields: Iterable[str]) -> pd.DataFrame:
    """What each field gives away of a target, and whether it determines it.

    Looked up among the training specimens, answered on the validation specimens; the test split is not read.

    Args:
        collection: a divided collection, as `specimens.split("bin_disjoint")` gives it.
        target: the column that is predicted. For the collection's own target the classes are its classes (rare ones
            folded into Other); for another column its values, and records that have none are left out.
        fields: columns to judge; those that the records lack are left out.

    Returns:
        The columns of `lookup_leakage` and
        accuracy_seen, majority_seen: of the look-up and of the majority class, over the held-out specimens whose value
        training has shown (NaN where there is none);
        information: mutual information of field and target in bits, counted over the training specimens, "no value"
        being a value; many rare values make it an over-estimate, so it is to be read beside the accuracy;
        entropy: of the target in bits, the most that `information` can be;
        verdict: "is the target"; "determines the target" (see `DETERMINES`); "does not determine it"; "cannot be told"
        where fewer than `ENOUGH` held-out specimens have a value that training has shown, or all of these are of the
        majority class;
        determines_target: true for the first two.
    """
    train, held_out = _towards(collection, target)
    sizes = np.bincount(train.labels, minlength=len(train.class_names))
    table = lookup_leakage(train, held_out, fields)
    more = []
    for name in table["field"]:
        found = _look_up(name, train, held_out)
        seen_labels = held_out.labels[found.seen]
        right = int((found.answer[found.seen] == seen_labels).sum())
        by_majority, n = int((seen_labels == sizes.argmax()).sum()), len(seen_labels)
        if name == target:
            verdict = "is the target"
        elif n < ENOUGH or by_majority == n:
            verdict = "cannot be told"
        else:
            determines = n - right <= (1 - DETERMINES) * (n - by_majority)
            verdict = "determines the target" if determines else "does not determine it"
        more.append(
            {
                "accuracy_seen": right / n if n else math.nan,
                "majority_seen": by_majority / n if n else math.nan,
                "information": _information(found.known, train.labels),
                "entropy": _entropy(sizes),
                "verdict": verdict,
                "determines_target": verdict in ("is the target", "determines the target"),
            }
        )
    columns = ["accuracy_seen", "majority_seen", "information", "entropy", "verdict", "determines_target"]
    return pd.concat([table, pd.DataFrame(more, columns=columns)], axis=1)


def warning(report: pd.DataFrame, target: str) -> str:
    """One line on the fields of a `leakage_report` that determine the target; "" where none does."""
    telling = report[report["determines_target"].astype(bool)]
    if telling.empty:
        return ""
    best = telling["accuracy"].max()
    return (
        f"metadata: {', '.join(telling['field'])} determine{'s' if len(telling) == 1 else ''} {target}: a look-up table "
        f"without images names {best:.1%} of the validation specimens, the majority class {telling['majority'].iloc[0]:.1%}."
    )


class _LookUp(NamedTuple):
    """A field looked up; per training specimen its code (-1: no value), the rest per specimen that was asked."""

    known: np.ndarray
    has_value: np.ndarray
    seen: np.ndarray
    answer: np.ndarray
    answer_by_share: np.ndarray


def _look_up(name: str, train: SpecimenSet, test: SpecimenSet) -> _LookUp:
    n_labels = len(train.class_names)
    sizes = np.bincount(train.labels, minlength=n_labels)
    known, asked, n_values = _look_up_codes(name, train.records[name], test.records[name])
    given = known >= 0
    pairs, votes = np.unique(
        known[given].astype(np.int64) * n_labels + train.labels[given], return_counts=True
    )
    value, label = np.divmod(pairs, n_labels)
    answers = (
        _answers(value, label, weight, sizes, n_values)[asked] for weight in (votes, votes / sizes[label])
    )
    return _LookUp(known, asked >= 0, np.isin(asked, value), *answers)


def _answers(
    value: np.ndarray, label: np.ndarray, weight: np.ndarray, sizes: np.ndarray, n_values: int
) -> np.ndarray:
    """The label (n_values + 1,) to answer for each value: that of the heaviest vote; of equal ones that of the larger
    class, then the smaller label. Without a vote, and in the last place (no value): the largest class."""
    answers = np.full(n_values + 1, sizes.argmax())
    ranked = np.lexsort((label, -sizes[label], -weight, value))
    of_value, first = np.unique(value[ranked], return_index=True)
    answers[of_value] = label[ranked][first]
    return answers


def _look_up_codes(name: str, train: pd.Series, test: pd.Series) -> tuple[np.ndarray, np.ndarray, int]:
    """What both columns are looked up by, as codes (-1: missing), and how many codes there are.

    A code stands for a text, or for the interval of a number.
    """
    if name not in NUMERIC:
        (known, texts), (asked, others) = coded(train), coded(test)
        place = {text: code for code, text in enumerate(texts)}
        own = np.array([*(place.setdefault(text, len(place)) for text in others), -1])
        return known, own[asked], len(place)
    known, asked = numbers_of(train), numbers_of(test)
    inner = np.linspace(0, 1, INTERVALS + 1)[1:-1]
    edges = (
        np.unique(np.quantile(known[~np.isnan(known)], inner)) if not np.isnan(known).all() else np.zeros(0)
    )
    known_in, asked_in = (
        np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
        for numbers in (known, asked)
    )
    return known_in, asked_in, len(edges) + 1


def _balanced(labels: np.ndarray, answer: np.ndarray) -> float:
    of_class = np.bincount(labels)
    right = np.bincount(labels, weights=answer == labels, minlength=len(of_class))
    return float((right[of_class > 0] / of_class[of_class > 0]).mean())


def _towards(collection: Splits, target: str) -> tuple[SpecimenSet, SpecimenSet]:
    """Training and held-out specimens with `target` as their label."""
    train, held_out = collection.train, collection.val
    if target == train.target:
        return train, held_out
    (known, texts), (asked, others) = coded(train.records[target]), coded(held_out.records[target])
    place = {text: label for label, text in enumerate(texts)}
    labels = np.array([*(place.setdefault(text, len(place)) for text in others), -1])[asked]
    towards_train, towards_held_out = (
        SpecimenSet(side.records[own >= 0], own[own >= 0], tuple(place), target=target)
        for side, own in ((train, known), (held_out, labels))
    )
    return towards_train, towards_held_out


def _information(codes: np.ndarray, labels: np.ndarray) -> float:
    """I(field; target) = H(field) + H(target) - H(field, target), in bits."""
    both = (codes.astype(np.int64) + 1) * (labels.max() + 1) + labels
    one, two, joint = (np.unique(x, return_counts=True)[1] for x in (codes, labels, both))
    return max(0.0, _entropy(one) + _entropy(two) - _entropy(joint))


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())

"""Labels: a column of the records as class numbers, and the folding of rare classes.

`labelled` makes a `SpecimenSet` from what a source collected, for any column as target. `fold_rare` is the paper's rule
(section IV: orders with fewer than 500 records become Other). Each distinct name is processed once.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.collection import OTHER, SpecimenSet
from bionas.specimens.notes import LeftOut, some
from bionas.specimens.schema import DOUBTFUL_LABELS, coded
from bionas.specimens.sources import Collected

UNLABELLED = "Unlabelled"
UNLABELLED_CHOICES = ("drop", "class")
SHOWN = 40
"""Folded classes that a note lists: enough for all orders of BIOSCAN-5M, not for all its genera."""


def fold_rare(labels: np.ndarray | pd.Series, min_records: int) -> np.ndarray:
    """Labels (N,) with every class of fewer than `min_records` specimens renamed "Other" (section IV, 500 there)."""
    codes, names = pd.factorize(pd.Series(labels), use_na_sentinel=False)
    return _folded(np.asarray(names, dtype=object), np.bincount(codes, minlength=len(names)), min_records)[
        codes
    ]


def labelled(
    found: Collected, source: str, target: str, min_records: int, unlabelled: str = "drop"
) -> SpecimenSet:
    """The collection with labels from the target column, rare classes folded.

    Args:
        found: records and images as collected by the source named `source`.
        target: any column of the records.
        min_records: classes of fewer records become "Other".
        unlabelled: records without a value are left out ("drop") or form the class "Unlabelled" ("class"), which is
            never folded. Either way a note says how many they are.

    Raises:
        UnknownName: no such column, no such choice of `unlabelled`.
        SpecimenError: no record has a label, or one class is spelt in several ways.
    """
    if unlabelled not in UNLABELLED_CHOICES:
        raise UnknownName("choice of unlabelled", unlabelled, UNLABELLED_CHOICES)
    if target not in found.records:
        raise UnknownName("target column", target, map(str, found.records.columns))
    codes, texts = coded(found.records[target])
    if not texts:
        raise SpecimenError(
            f"no record has a value in the column {target!r}: there is nothing to learn from."
        )
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    _refuse_two_spellings(texts, counts, target)
    names = np.array(texts, dtype=object)
    folded = _folded(names, counts, min_records)
    notes = [
        *found.notes,
        *_about_unlabelled(codes, target, unlabelled),
        *_about_doubtful(texts, counts, target),
    ]
    notes += _about_folded(names[folded != names], counts[folded != names], target, min_records)

    own_class = [UNLABELLED] if unlabelled == "class" and (codes < 0).any() else []
    last = [OTHER] * (OTHER in folded) + own_class
    class_names = sorted(set(folded) - set(last)) + last
    position = {name: index for index, name in enumerate(class_names)}
    label_of = np.array([*map(position.get, folded), position.get(UNLABELLED, -1)], dtype=np.int64)
    records, images = found.records, found.images
    if not own_class and (codes < 0).any():
        kept = np.flatnonzero(codes >= 0)
        records, images = records.iloc[kept], None if images is None else images.subset(kept)
        codes = codes[kept]
    return SpecimenSet(
        records=records.reset_index(drop=True),
        labels=label_of[codes],  # code -1 (no label) takes the last entry
        class_names=tuple(class_names),
        images=images,
        source=source,
        synthetic=found.synthetic,
        target=target,
        notes=tuple(notes),
        origin=found.origin,
        min_records=min_records,
    )


def _folded(names: np.ndarray, counts: np.ndarray, min_records: int) -> np.ndarray:
    """The class of each of the names (n,) under the rule, `counts` (n,) being their specimens."""
    return np.where(counts < min_records, np.array(OTHER, dtype=object), names)


def _about_unlabelled(codes: np.ndarray, target: str, unlabelled: str) -> list[str]:
    n = int((codes < 0).sum())
    if not n:
        return []
    found = f"{n:,} of {len(codes):,} records have no {target}"
    if unlabelled == "class":
        return [f"{found} and are a class of their own, {UNLABELLED!r}."]
    return [LeftOut(f"{found} and were left out.", n)]


def _about_doubtful(texts: list[str], counts: np.ndarray, target: str) -> list[str]:
    doubtful = [
        f"{text!r} ({n:,})"
        for text, n in zip(texts, counts, strict=True)
        if text.casefold() in DOUBTFUL_LABELS
    ]
    if not doubtful:
        return []
    return [
        f'column {target!r}: {some(doubtful)} count as classes. If they mean "not known", empty these cells.'
    ]


def _about_folded(names: np.ndarray, counts: np.ndarray, target: str, min_records: int) -> list[str]:
    if not len(names):
        return []
    largest_first = sorted(zip(names, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{name} ({count:,})" for name, count in largest_first[:SHOWN])
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    rule = f"{len(names)} {target} classes of fewer than {min_records:,} records ({counts.sum():,} in all)"
    return [f"{rule} are {OTHER!r}: {listed}{more}."]


def _refuse_two_spellings(texts: list[str], counts: np.ndarray, target: str) -> None:
    spellings: dict[str, list[str]] = {}
    number = dict(zip(texts, counts, strict=True))
    for text in sorted(texts):
        spellings.setdefault(" ".join(text.casefold().split()), []).append(text)
    doubtful = [same for same in spellings.values() if len(same) > 1]
    if doubtful:
        listed = "; ".join(" and ".join(f"{name!r} ({number[name]:,})" for name in same) for same in doubtful)
        raise SpecimenError(
            f"column {target!r}: one class is spelt in several ways: {listed}. Use one spelling."
        )

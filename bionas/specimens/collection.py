"""A collection of specimens: records, labels and images that stay aligned, whatever is selected from them.

`SpecimenSet` is what every source becomes and what every notebook, split and loader takes. `compare_splits` holds the
ways to divide one side by side; `limited` is a small stratified share of a collection, for a run of seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.grouping import SHARES
from bionas.specimens.images import ImageStore
from bionas.specimens.schema import coded, joined, members
from bionas.specimens.splits import OF_COMPANIONS, SPLITS, Sides, divide

OTHER = "Other"
MIN_SPECIMENS = 3
"""Specimens a class needs to be in training, validation and test at once."""
SLICE = 1 << 16
"""Values of a column that are written out together where they are hashed."""


@dataclass(frozen=True, eq=False)
class SpecimenSet:
    """N specimens.

    Attributes:
        records: one row a specimen, columns by `schema`, index 0..N-1.
        labels: (N,) int64, positions in `class_names`.
        class_names: all classes of the collection; a subset keeps them, so that labels mean the same on every side.
        images: image i belongs to row i; None for a collection of records alone.
        source: registered name of the source; `origin` says it in words (used by `caption`).
        min_records: the rule that made "Other": classes of fewer records are in it.
        synthetic: the specimens were drawn by the program.
        target: the column the labels come from.
        notes: what was skipped, folded or dropped on the way here, in plain sentences.

    Raises:
        SpecimenError: the parts do not have the same length, or a label is outside `class_names`.
    """

    records: pd.DataFrame
    labels: np.ndarray
    class_names: tuple[str, ...]
    images: ImageStore | None = None
    source: str = "memory"
    synthetic: bool = False
    target: str = "order"
    notes: tuple[str, ...] = ()
    origin: str = field(default="", kw_only=True)
    min_records: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, dtype=np.int64)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not isinstance(self.records.index, pd.RangeIndex) or self.records.index.start != 0:
            object.__setattr__(self, "records", self.records.reset_index(drop=True))
        n_images = len(self.records) if self.images is None else len(self.images)
        if not len(self.records) == len(labels) == n_images:
            raise SpecimenError(
                f"{len(self.records)} records, {len(labels)} labels, {n_images} images: not one each."
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise SpecimenError(
                f"labels run to {labels.max()}, but there are {len(self.class_names)} class names."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def caption(self) -> str:
        """What a figure of these specimens must say about where they come from."""
        return "Synthetic specimens drawn by the program" if self.synthetic else self.origin or self.source

    @property
    def label_names(self) -> np.ndarray:
        """(N,) the class name of each specimen."""
        return np.array(self.class_names, dtype=object)[self.labels]

    def counts(self) -> pd.Series:
        """Specimens a class, largest first (equal ones by name); a class without any counts 0."""
        counts = pd.Series(
            np.bincount(self.labels, minlength=len(self.class_names)), index=list(self.class_names)
        )
        order = sorted(counts.index, key=lambda name: (-counts[name], name))
        return counts[order].rename("specimens").rename_axis(self.target)

    def counts_as_recorded(self) -> pd.Series:
        """Specimens a value of the target column, before the rule, largest first (equal ones by name)."""
        codes, texts = coded(self.records[self.target])
        counts = pd.Series(np.bincount(codes[codes >= 0], minlength=len(texts)), index=texts)
        return (
            counts[sorted(texts, key=lambda name: (-counts[name], name))]
            .rename("specimens")
            .rename_axis(self.target)
        )

    def subset(self, positions: np.ndarray) -> SpecimenSet:
        """The specimens at `positions`, in that order, with the same class names."""
        positions = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            records=self.records.iloc[positions].reset_index(drop=True),
            labels=self.labels[positions],
            images=None if self.images is None else self.images.subset(positions),
        )

    def split(self, scheme: str = "paper", seed: int = 0) -> Splits:
        """Training, validation and test specimens by a scheme of `splits.SPLITS`; records keep their order.

        `official` can be told which of the records' names make a side: "official:pretrain+train/val/test+test_unseen".

        Raises:
            UnknownName: no such scheme, no such name in the records.
            SpecimenError: the scheme does not fit these records; the message names what was found.
        """
        return Splits(*(self.subset(side) for side in divide(scheme, self.records, self.labels, seed)))

    def examples(self, per_class: int = 1, seed: int = 0) -> np.ndarray:
        """Positions of a few specimens of every class, drawn at random, the largest class first."""
        generator = np.random.default_rng(seed)
        of_class = dict(zip(self.class_names, members(self.labels, len(self.class_names)), strict=True))
        drawn = {name: generator.permutation(of_class[name]) for name in sorted(self.class_names)}
        return np.concatenate([drawn[name][:per_class] for name in self.counts().index])

    def require_trainable(self) -> None:
        """Raises SpecimenError where no network can be trained, naming the classes at fault and what to do."""
        counts = self.counts()
        if len(self) == 0:
            raise SpecimenError("there is no specimen to train on.")
        if (counts > 0).sum() < 2:
            raise SpecimenError(
                f"all {len(self):,} specimens are {counts.index[0]!r}: with one class only there is nothing to learn. "
                f"Add specimens of another {self.target}, choose another column with target=..., or lower min_records."
            )
        small = counts[counts < MIN_SPECIMENS]
        if small.empty:
            return
        names = ", ".join(f"{name} ({n})" for name, n in small.sort_index().items())
        folds_to_one = len(small) == (counts > 0).sum()
        remedy = (
            "Folding them would leave one class only, so add photographs"
            if folds_to_one
            else f'Add photographs, or fold them into "{OTHER}" with min_records={MIN_SPECIMENS} or more'
        )
        raise SpecimenError(
            f"{len(small)} of {len(counts)} classes have fewer than {MIN_SPECIMENS} specimens and cannot be in "
            f"training, validation and test at once: {names}. {remedy}."
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex over records, labels and images: the same data give the same digest on any machine."""
        digest = hashlib.sha256()
        for name in self.records.columns:
            codes, values = pd.factorize(self.records[name])
            digest.update(str(name).encode())
            for start in range(0, len(values), SLICE):
                digest.update(b"\0" + joined(values[start : start + SLICE]))
            digest.update(np.ascontiguousarray(codes, dtype="<i8"))
        digest.update("\0".join(self.class_names).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8"))
        if self.images is not None:
            digest.update(self.images.fingerprint.encode())
        return digest.hexdigest()


class Splits(NamedTuple):
    """The three sides of a split."""

    train: SpecimenSet
    val: SpecimenSet
    test: SpecimenSet

    def table(self) -> pd.DataFrame:
        """One row a class, largest first: class, train, val, test (what `figures.split_sizes` draws)."""
        sides = {name: side.counts() for name, side in self._asdict().items()}
        frame = pd.DataFrame(sides).fillna(0).astype(int)
        frame = frame.loc[sorted(frame.index, key=lambda name: (-frame.loc[name].sum(), name))]
        return frame.rename_axis("class").reset_index()


def compare_splits(specimens: SpecimenSet, seed: int = 0) -> pd.DataFrame:
    """Every scheme of `SPLITS` but the companions' on one collection: what it gives, and what it lets through.

    Returns one row a scheme: scheme; train, val, test: specimens; drift: the largest distance of a class's share of a
    side from 70 / 20 / 10, in points; bins_seen: share of the test specimens with a BIN whose BIN is also in training
    (NaN where there are no BINs); bins_crossing, countries_crossing: how many BINs and countries are on more than one
    side (missing where there are none); refused: why the scheme does not fit these records, else "".
    """
    known = {
        name: coded(specimens.records[name]) for name in ("dna_bin", "country") if name in specimens.records
    }
    rows = []
    for scheme in (name for name in SPLITS if name not in OF_COMPANIONS):
        try:
            sides = divide(scheme, specimens.records, specimens.labels, seed)
        except SpecimenError as error:
            rows.append({"scheme": scheme, "refused": str(error).split(". ")[0]})
            continue
        where = {name: _sides_of_values(*column, sides) for name, column in known.items() if column.texts}
        row = {"scheme": scheme, **dict(zip(Splits._fields, map(len, sides), strict=True))}
        row["drift"] = _drift(specimens.labels, sides)
        if "dna_bin" in where:
            in_test = known["dna_bin"].codes[sides[2]]
            seen = where["dna_bin"][in_test[in_test >= 0], 0]
            row |= {"bins_seen": seen.mean() if len(seen) else np.nan}
        row |= {f"{name}_crossing": (on.sum(axis=1) > 1).sum() for name, on in where.items()}
        rows.append(row | {"refused": ""})
    crossing = {"dna_bin_crossing": "bins_crossing", "country_crossing": "countries_crossing"}
    columns = ["scheme", *Splits._fields, "drift", "bins_seen", *crossing.values(), "refused"]
    frame = pd.DataFrame(rows).rename(columns=crossing).reindex(columns=columns)
    return frame.astype(dict.fromkeys((*Splits._fields, *crossing.values()), "Int64") | {"bins_seen": float})


def _sides_of_values(codes: np.ndarray, texts: list[str], sides: Sides) -> np.ndarray:
    """bool (values, 3): on which sides each value of a column is."""
    on = np.zeros((len(texts) + 1, 3), dtype=bool)
    for side, positions in enumerate(sides):
        on[codes[positions], side] = True
    return on[:-1]  # the last row was for specimens without a value


def _drift(labels: np.ndarray, sides: Sides) -> float:
    counts = np.stack([np.bincount(labels[positions], minlength=labels.max() + 1) for positions in sides])
    counts = counts[:, counts.any(axis=0)]
    return 100 * float(np.abs(counts / counts.sum(axis=0) - SHARES[:, None]).max())


def limited(specimens: SpecimenSet, limit: int, seed: int) -> SpecimenSet:
    """A stratified share of `limit` specimens, records in their order.

    Strata are the classes (and the sides of a `split` column where there is one), in proportion by largest remainder,
    but never fewer than three specimens of a class (one of a class and side) while it has them.

    Raises:
        SpecimenError: `limit` is too small for the number of classes.
    """
    if limit >= len(specimens):
        return specimens
    strata, at_least = specimens.labels, MIN_SPECIMENS
    if "split" in specimens.records:
        sides, names = pd.factorize(_sorted_categories(specimens.records["split"]), sort=True)
        if 1 < len(names) <= MIN_SPECIMENS:
            strata, at_least = strata * (len(names) + 1) + sides + 1, 1
    _, strata, counts = np.unique(strata, return_inverse=True, return_counts=True)
    floors = np.minimum(counts, at_least)
    if limit < floors.sum():
        raise SpecimenError(
            f"limit={limit} is too small for {len(specimens.class_names)} classes: {floors.sum()} specimens are needed."
        )
    exact = counts * (limit / counts.sum())
    share = np.maximum(np.floor(exact).astype(np.int64), floors)
    while share.sum() != limit:  # a handful of single steps: at most one a stratum
        gap = exact - share
        if share.sum() < limit:
            share[np.argmax(np.where(share < counts, gap, -np.inf))] += 1
        else:
            share[np.argmin(np.where(share > floors, gap, np.inf))] -= 1
    generator = np.random.default_rng([seed, limit])
    chosen = [
        generator.permutation(own)[:n] for own, n in zip(members(strata, len(share)), share, strict=True)
    ]
    part = specimens.subset(np.sort(np.concatenate(chosen)))
    return replace(
        part, notes=(*part.notes, f"{limit:,} of {len(specimens):,} specimens were drawn (limit={limit}).")
    )


def _sorted_categories(column: pd.Series) -> pd.Series:
    """A Categorical whose categories sort as its texts would; any other column as it is."""
    stored = isinstance(column.dtype, pd.CategoricalDtype)
    return column.cat.set_categories(sorted(column.cat.categories)) if stored else column

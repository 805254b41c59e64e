"""A collection of specimens: aligned records, labels and images.

`SpecimenSet` is the result of every source and the input of every notebook, split and loader. `compare_splits` compares
the split schemes on one collection; `limited` draws a small stratified share of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.copies import identical_images
from bionas.specimens.grouping import SHARES
from bionas.specimens.images import Images
from bionas.specimens.notes import LeftOut, some
from bionas.specimens.schema import coded, joined, members
from bionas.specimens.splits import NOT_COMPARED, SPLITS, Sides, divide

OTHER = "Other"
MIN_SPECIMENS = 3
"""Specimens a class needs to be in training, validation and test at once."""
SLICE = 1 << 16
"""Values of a column that are hashed at once."""


@dataclass(frozen=True, eq=False)
class SpecimenSet:
    """N specimens.

    Attributes:
        records: one row per specimen, columns by `schema`, index 0..N-1.
        labels: (N,) int64, positions in `class_names`.
        class_names: all classes of the collection; a subset keeps them, so that labels mean the same on every side.
        images: image i belongs to row i; None for a collection of records alone.
        source: registered name of the source; `origin` names it in captions.
        min_records: classes of fewer records are in "Other".
        synthetic: the specimens were drawn by the program.
        target: the column of the labels.
        notes: what was skipped, folded or dropped, in sentences (`specimens.notes`).

    Raises:
        SpecimenError: the parts do not have the same length, or a label is outside `class_names`.
    """

    records: pd.DataFrame
    labels: np.ndarray
    class_names: tuple[str, ...]
    images: Images | None = None
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
        """The origin of these specimens, as every figure of them must state it."""
        return "Synthetic specimens drawn by the program" if self.synthetic else self.origin or self.source

    def require_images(self) -> Images:
        """The images.

        Raises:
            SpecimenError: these are records alone.
        """
        if self.images is None:
            raise SpecimenError(
                f"{self.source}: these are records without images, and images are needed here."
            )
        return self.images

    @property
    def label_names(self) -> np.ndarray:
        """(N,) the class name of each specimen."""
        return np.array(self.class_names, dtype=object)[self.labels]

    def counts(self) -> pd.Series:
        """Specimens per class, largest first (ties: by name), classes without any included."""
        counts = pd.Series(
            np.bincount(self.labels, minlength=len(self.class_names)), index=list(self.class_names)
        )
        order = sorted(counts.index, key=lambda name: (-counts[name], name))
        return counts[order].rename("specimens").rename_axis(self.target)

    def counts_as_recorded(self) -> pd.Series:
        """Specimens per value of the target column, before rare ones are folded, largest first (ties: by name)."""
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

    @cached_property
    def copies(self) -> np.ndarray | None:
        """int64 (N,): equal for specimens with identical photographs, -1 for others; None where that was not compared."""
        return None if self.synthetic else identical_images(self.images)

    def split(self, scheme: str = "paper", seed: int = 0, group: str | None = None) -> Splits:
        """Training, validation and test specimens by a scheme of `splits.SPLITS`; records keep their order.

        Identical photographs stay on one side, unless the records decide the sides. `Splits.notes` says what limits the
        use of the result: specimens on no side, classes that training or test lack.

        Args:
            scheme: "paper", "bin_disjoint", ...; "official:pretrain+train/val/test+test_unseen" names the sides.
            seed: of the random draw.
            group: a column whose values must not be on two sides (the animal, the trap, the session).

        Raises:
            UnknownName: no such scheme, no such name or column in the records.
            SpecimenError: the scheme does not fit these records; the message names what was found.
        """
        sides = divide(scheme, self.records, self.labels, seed, together=self.copies, group=group)
        notes = tuple(_about_sides(self, sides))
        return Splits(*(replace(part, notes=(*part.notes, *notes)) for part in map(self.subset, sides)))

    def examples(self, per_class: int = 1, seed: int = 0) -> np.ndarray:
        """Positions of up to `per_class` specimens of every class, drawn at random, the largest class first."""
        generator = np.random.default_rng(seed)
        of_class = dict(zip(self.class_names, members(self.labels, len(self.class_names)), strict=True))
        drawn = {name: generator.permutation(of_class[name]) for name in sorted(self.class_names)}
        return np.concatenate([drawn[name][:per_class] for name in self.counts().index])

    def require_trainable(self, target: str = "target", min_records: str = "min_records") -> None:
        """Raises SpecimenError where no network can be trained, naming the classes at fault and what to do.

        Args:
            target, min_records: what the caller's user passes to choose the column and the least size of a class.
        """
        counts = self.counts()
        if len(self) == 0:
            raise SpecimenError("there is no specimen to train on.")
        if (counts > 0).sum() < 2:
            raise SpecimenError(
                f"all {len(self):,} specimens are {counts.index[0]!r}: with one class only there is nothing to learn. "
                f"Add specimens of another {self.target}, choose another column with {target}, or lower {min_records}."
            )
        small = counts[counts < MIN_SPECIMENS]
        if small.empty:
            return
        names = ", ".join(f"{name} ({n})" for name, n in small.sort_index().items())
        folds_to_one = len(small) == (counts > 0).sum()
        remedy = (
            "Folding them would leave one class only, so add photographs"
            if folds_to_one
            else f'Add photographs, or fold them into "{OTHER}" with {min_records} {MIN_SPECIMENS} or more'
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
            digest.update(np.ascontiguousarray(codes, dtype="<i8").data)
        digest.update("\0".join(self.class_names).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        if self.images is not None:
            digest.update(self.images.fingerprint.encode())
        return digest.hexdigest()


def _about_sides(specimens: SpecimenSet, sides: Sides) -> list[str]:
    """Notes on a split: specimens on no side, identical photographs on two, classes absent from training or test."""
    notes: list[str] = []
    unused = len(specimens) - sum(map(len, sides))
    if unused:
        notes.append(
            LeftOut(f"{unused:,} of {len(specimens):,} specimens are on no side of the split.", unused)
        )
    if specimens.copies is not None:
        seen = np.isin(specimens.copies[sides[2]], np.setdiff1d(specimens.copies[sides[0]], [-1]))
        if seen.any():
            notes.append(
                f"{seen.sum():,} of {len(seen):,} test photographs are also in training, pixel by pixel."
            )
    train, _, test = (
        np.bincount(specimens.labels[side], minlength=len(specimens.class_names)) for side in sides
    )
    names = np.array(specimens.class_names, dtype=object)
    unlearned = (test > 0) & (train == 0)
    if unlearned.any():
        best = 1 - test[unlearned].sum() / test.sum()
        listed = some(f"{name} ({n:,})" for name, n in zip(names[unlearned], test[unlearned], strict=True))
        notes.append(
            f"classes in test but not in training: {listed}. No model can name more than {best:.1%} of the test."
        )
    untested = (train > 0) & (test == 0)
    if untested.any() and test.any():
        notes.append(
            f"classes in training but not in test: {some(names[untested])}. Their accuracy is not measured."
        )
    if (test > 0).sum() == 1:
        notes.append(f"all test specimens are {names[test > 0][0]!r}: accuracy on them says little.")
    return notes


class Splits(NamedTuple):
    """The three sides of a split. The notes of each side end with those on the split."""

    train: SpecimenSet
    val: SpecimenSet
    test: SpecimenSet

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or read with a reservation, by the collection and by the split."""
        return self.train.notes

    def table(self) -> pd.DataFrame:
        """One row per class, largest first: class, train, val, test (the input of `figures.split_sizes`)."""
        sides = {name: side.counts() for name, side in self._asdict().items()}
        frame = pd.DataFrame(sides).fillna(0).astype(int)
        frame = frame.loc[sorted(frame.index, key=lambda name: (-frame.loc[name].sum(), name))]
        return frame.rename_axis("class").reset_index()


def compare_splits(specimens: SpecimenSet, seed: int = 0) -> pd.DataFrame:
    """Every scheme of `SPLITS` (except `NOT_COMPARED`) on one collection: sizes, drift and what crosses the sides.

    Returns one row per scheme: scheme; train, val, test: specimens; drift: the largest distance of a class's share of a
    side from 70 / 20 / 10, in points; bins_seen: share of the test specimens with a BIN whose BIN is also in training
    (NaN where there are no BINs); bins_crossing, countries_crossing: how many BINs and countries are on more than one
    side (missing where there are none); refused: why the scheme does not fit these records, else "".
    """
    known = {
        name: coded(specimens.records[name]) for name in ("dna_bin", "country") if name in specimens.records
    }
    rows: list[dict[str, Any]] = []
    for scheme in (name for name in SPLITS if name not in NOT_COMPARED):
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
    """bool (values, 3): the sides on which each value of a column is."""
    on = np.zeros((len(texts) + 1, 3), dtype=bool)
    for side, positions in enumerate(sides):
        on[codes[positions], side] = True
    return on[:-1]  # the last row stands for specimens without a value


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
    while share.sum() != limit:  # at most one step per stratum
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
        part,
        notes=(
            *part.notes,
            LeftOut(
                f"{limit:,} of {len(specimens):,} specimens were drawn (limit={limit}).",
                len(specimens) - limit,
            ),
        ),
    )


def _sorted_categories(column: pd.Series) -> pd.Series:
    """A Categorical whose categories sort as its texts would; any other column as it is."""
    stored = isinstance(column.dtype, pd.CategoricalDtype)
    return column.cat.set_categories(sorted(column.cat.categories)) if stored else column

"""Schemes that divide a collection into training, validation and test specimens (section IV; others are ours).

A scheme is a function `(records, labels, seed) -> (train, val, test)` of sorted positions, registered in `SPLITS`. The
result depends on its arguments alone. A scheme may declare two keywords: `argument`, the text after a colon in its name
(`official:pretrain+train/val/test`, `grouped:trap`), and `together`, (N,) codes of specimens that must stay on one side
(-1: none). `divide` is the entry point.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError, UnknownName
from bionas.registry import Registry
from bionas.specimens.barcodes import barcode_keys
from bionas.specimens.grouping import balanced_sides, disjoint, linked
from bionas.specimens.schema import SPLIT_NAMES, Coded, coded, members, missing

SPLITS: Registry = Registry("split scheme")
SIDES = ("train", "val", "test")
Sides = tuple[np.ndarray, np.ndarray, np.ndarray]

NOT_COMPARED = ("seran", "long_tailed", "grouped")
"""Schemes left out of `collection.compare_splits`: other shares than 70 / 20 / 10, and one that needs a column."""

FEW_GROUPS = 64
"""Up to this many groups, whole groups are placed by exchange (`balanced_sides`); more are placed one by one."""

METASPLITS = {"seen": ("train", "val", "test"), "unseen": ("key_unseen", "val_unseen", "test_unseen")}
"""`bioscan_dataset`'s names for several of BIOSCAN-5M's splits together."""


def divide(
    scheme: str,
    records: pd.DataFrame,
    labels: np.ndarray,
    seed: int,
    *,
    together: np.ndarray | None = None,
    group: str | None = None,
) -> Sides:
    """The sides of a scheme.

    Args:
        scheme: a name of `SPLITS`, for some followed by a colon and a text.
        together: (N,) codes of specimens that must stay on one side (identical photographs), -1 for none. Schemes whose
            sides the records decide (`official`, `geography_disjoint`) do not use it.
        group: a column whose values must not be on two sides (a trap, an animal). With `paper` this is `grouped:COLUMN`;
            with `bin_disjoint` both hold; with `official` it is checked.

    Raises:
        UnknownName: no such scheme, or no such column.
        SpecimenError: the scheme does not fit these records; the message names what was found.
    """
    name, colon, argument = scheme.partition(":")
    if group is not None and scheme == "paper":
        name, colon, argument, group = "grouped", ":", group, None
    sides = SPLITS[name]
    takes = inspect.signature(sides).parameters
    if colon and "argument" not in takes:
        raise SpecimenError(f"split={scheme!r}: {name!r} takes nothing after a colon. Use split={name!r}.")
    groups = None if group is None else _groups(records, group)
    if groups is not None and name not in ("bin_disjoint", "official"):
        raise SpecimenError(f"split={scheme!r} cannot be combined with group={group!r}. Use split='paper'.")
    if groups is not None and name != "official":
        together = linked(groups, together)
    options: dict[str, object] = {"argument": argument} if colon else {}
    if "together" in takes:
        options["together"] = together
    found = sides(records, labels, seed, **options)
    if groups is not None and group is not None and name == "official":
        _refuse_crossing(groups, found, group)
    return found


def _groups(records: pd.DataFrame, column: str) -> np.ndarray:
    """(N,) codes of the values of a column, -1 where it is empty."""
    if column not in records:
        raise UnknownName("column to group by", column, map(str, records.columns))
    return coded(records[column]).codes.astype(np.int64)


def _refuse_crossing(groups: np.ndarray, sides: Sides, column: str) -> None:
    side_of = np.full(len(groups), -1)
    for side, positions in enumerate(sides):
        side_of[positions] = side
    used = (groups >= 0) & (side_of >= 0)
    pairs = np.unique(np.stack([groups[used], side_of[used]]), axis=1)
    crossing = int((np.bincount(pairs[0]) > 1).sum())
    if crossing:
        raise SpecimenError(
            f"split='official' has {crossing:,} values of {column!r} on more than one side. Correct the column `split`, "
            f"or use split='grouped:{column}'."
        )


@SPLITS.register("paper")
def paper(
    records: pd.DataFrame, labels: np.ndarray, seed: int, *, together: np.ndarray | None = None
) -> Sides:
    """70 / 20 / 10 within every class, specimens drawn at random: what the paper's printed counts imply.

    The counts of a class are those of `paper_counts`, except for specimens of `together`. A BIN, and so a species, may be
    on all three sides.
    """
    return _within_classes(paper_counts, labels, seed, together)


def paper_counts(n: int) -> tuple[int, int, int]:
    """Training, validation and test specimens of a class of n.

    Training gets 70 % rounded down, validation 20 % rounded down, test what is left. This rule gives the counts the
    paper prints (Hymenoptera 114,809 and Mesostigmata 937 in validation, Anomopoda 164 in training; rounding to the
    nearest would not). From n = 3 on no side is empty (3: 1, 1, 1; 4: 2, 1, 1). With n = 2 validation stays
    empty, with n = 1 only training has it.
    """
    if n < 3:
        return (n > 0) + 0, 0, (n > 1) + 0
    train, val = n * 7 // 10, n // 5
    test = n - train - val
    if val == 0:  # n is 3 or 4
        return (1, 1, 1) if n == 3 else (2, 1, 1)
    return train, val, test


@SPLITS.register("seran")
def seran(
    records: pd.DataFrame, labels: np.ndarray, seed: int, *, together: np.ndarray | None = None
) -> Sides:
    """70 / 15 / 15 within every class, specimens drawn at random: the split of SERAN (its section 4.1), "each species"."""
    return _within_classes(seran_counts, labels, seed, together)


def seran_counts(n: int) -> tuple[int, int, int]:
    """Training, validation and test specimens of a class of n: 15 % each rounded down, and what is left to train on.

    Rounding down the two equal sides is what its printed counts imply: 24,287 / 5,119 / 5,119 of 34,525 in 123 classes,
    each side half a specimen per class below 15 %. From n = 3 on no side is empty; below as in `paper_counts`.
    """
    if n < 3:
        return paper_counts(n)
    held_out = max(1, n * 15 // 100)
    return n - 2 * held_out, held_out, held_out


@SPLITS.register("long_tailed")
def long_tailed(
    records: pd.DataFrame,
    labels: np.ndarray,
    seed: int,
    *,
    argument: str = "20",
    together: np.ndarray | None = None,
) -> Sides:
    """`long_tailed:RATIO`: `paper`, its training side thinned so that class sizes fall by powers to 1 / RATIO of the first.

    The i-th largest of C classes keeps n_1 RATIO^(-i / (C - 1)) specimens (Cui et al. 2019), at least one and at most what
    it has; what is left over is on no side. Validation and test keep the shares of the collection.

    Raises:
        SpecimenError: the ratio is not a number of at least 1.
    """
    try:
        ratio = float(argument)
    except ValueError:
        ratio = 0.0
    if not 1 <= ratio < np.inf:
        raise SpecimenError(
            f"split='long_tailed:{argument}': write a ratio of at least 1, as in long_tailed:20."
        )
    train, val, test = paper(records, labels, seed, together=together)
    generator = np.random.default_rng([seed, 1])
    counts = np.bincount(labels[train])
    by_size = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
    kept = []
    for i, c in enumerate(by_size):
        wanted = int(counts[by_size[0]] * ratio ** (-i / max(len(by_size) - 1, 1)))
        own = generator.permutation(train[labels[train] == c])
        kept.append(own[: max(1, wanted)])
    return np.sort(np.concatenate(kept)), val, test


@SPLITS.register("official")
def official(
    records: pd.DataFrame, labels: np.ndarray, seed: int, *, argument: str = "train/val/test"
) -> Sides:
    """The sides named in the records' column `split`: train, val (or validation), test.

    Rows of another name (BIOSCAN-5M has `pretrain` and others) or without one are on none of the three, unless `argument`
    includes it: the names of the three sides, in this order, with / between the sides and + between names. For example
    `official:pretrain+train/val/test+test_unseen`. `seen` and `unseen` are `bioscan_dataset`'s groups of splits.

    Raises:
        SpecimenError: there is no such column, a name is on two sides, no record has it, or a name looks like a misspelt
            side ("tarin"); the message lists what the column holds.
        UnknownName: a name that is neither BIOSCAN-5M's nor in the column.
    """
    scheme = "official" if argument == "/".join(SIDES) else f"official:{argument}"
    if "split" not in records:
        raise SpecimenError(
            f"split={scheme!r} needs a column `split` in the records; there is none. "
            f"Columns: {', '.join(map(str, records.columns))}. split='paper' divides any collection."
        )
    held = _split_names(records["split"])
    wanted = _side_names(argument, scheme, held.texts)
    found = np.bincount(held.codes + 1, minlength=len(held.texts) + 1)
    count = dict(zip(held.texts, found[1:], strict=True)) | ({"no value": found[0]} if found[0] else {})
    absent = [name for side in wanted for name in side if not count.get(name)]
    if absent:
        listed = ", ".join(f"{name} ({n:,})" for name, n in sorted(count.items())) or "nothing"
        raise SpecimenError(
            f"split={scheme!r}: no record is marked {' or '.join(map(repr, absent))}. The column `split` holds: "
            f"{listed}. split='paper' divides any collection."
        )
    _refuse_misspelt(count, wanted, scheme)
    side_named = {name: number for number, side in enumerate(wanted) for name in side}
    return _positions(
        np.array([*(side_named.get(name, -1) for name in held.texts), -1], dtype=np.int8)[held.codes]
    )


SAME_SIDE = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
"""Other names of a side -> ours."""


def _refuse_misspelt(count: dict[str, int], wanted: list[list[str]], scheme: str) -> None:
    """Raises SpecimenError for names of the column that are nearly a side's: their rows would be on none."""
    sides = [name for side in wanted for name in side]
    for name in count:
        if name in (*sides, *SPLIT_NAMES, "no value"):
            continue
        near = difflib.get_close_matches(name, sides, n=1, cutoff=0.6)
        if near:
            raise SpecimenError(
                f"split={scheme!r}: {count[name]:,} records are marked {name!r} in the column `split`. Is it {near[0]!r}? "
                "Correct it, or rename it to a word that is unlike a side, such as 'unused'."
            )


def _split_names(column: pd.Series) -> Coded:
    """The column in lower case, other names of a side replaced by ours."""
    codes, texts = coded(column)
    place: dict[str, int] = {}
    lower = [SAME_SIDE.get(text.lower(), text.lower()) for text in texts]
    own = [place.setdefault(name, len(place)) for name in lower]
    return Coded(np.array([*own, -1], dtype=np.int32)[codes], list(place))


def _side_names(argument: str, scheme: str, held: list[str]) -> list[list[str]]:
    """The names of each side, as in "pretrain+train/val/test"."""
    known = dict.fromkeys((*SPLIT_NAMES, *held))
    sides: list[list[str]] = []
    for part in argument.lower().split("/"):
        names = [SAME_SIDE.get(name.strip(), name.strip()) for name in part.split("+")]
        for name in names:
            if name and name not in known and name not in METASPLITS:
                raise UnknownName(f"name in split={scheme!r}:", name, (*known, *METASPLITS))
        sides.append([one for name in names for one in METASPLITS.get(name, (name,))])
    if len(sides) != 3 or not all(name for side in sides for name in side):
        raise SpecimenError(
            f"split={scheme!r}: name training, validation and test, in this order, with / between them and + between "
            "names of one side, as in official:pretrain+train/val/test."
        )
    every = [name for side in sides for name in side]
    doubled = sorted({name for name in every if every.count(name) > 1})
    if doubled:
        raise SpecimenError(
            f"split={scheme!r}: {' and '.join(map(repr, doubled))} would be named twice. Name each once."
        )
    return sides


@SPLITS.register("bin_disjoint")
def bin_disjoint(
    records: pd.DataFrame, labels: np.ndarray, seed: int, *, together: np.ndarray | None = None
) -> Sides:
    """About 70 / 20 / 10 of every class, no BIN and no barcode on two sides.

    Where the records have `dna_barcode`, specimens with one barcode stay together even if their BINs differ or one has
    none, and so does everything linked through them. A specimen with neither is a group of its own.

    Raises:
        SpecimenError: no record has a BIN.
    """
    if "dna_bin" not in records or missing(records["dna_bin"]).all():
        raise SpecimenError(
            "split='bin_disjoint' needs the column `dna_bin`; no record has one. Use split='paper'."
        )
    barcodes = None
    if "dna_barcode" in records:
        keys = barcode_keys(records["dna_barcode"])
        barcodes = np.where(keys == 0, -1, pd.factorize(keys)[0])
    groups = linked(coded(records["dna_bin"]).codes, barcodes)
    return _positions(disjoint(_linked_further(groups, together), labels, seed))


@SPLITS.register("grouped")
def grouped(
    records: pd.DataFrame,
    labels: np.ndarray,
    seed: int,
    *,
    argument: str = "",
    together: np.ndarray | None = None,
) -> Sides:
    """`grouped:COLUMN`: no value of the column on two sides, as near 70 / 20 / 10 of every class as whole groups allow.

    For photographs of one animal, trap or session. A specimen without a value is a group of its own.

    Raises:
        UnknownName: no such column.
        SpecimenError: no column was named, or it has fewer than three groups.
    """
    if not argument:
        raise SpecimenError(
            f"split='grouped' needs a column, as in split='grouped:{records.columns[0]}'. "
            f"Columns: {', '.join(map(str, records.columns))}."
        )
    groups = _linked_further(linked(_groups(records, argument)), together)
    n_groups = int(groups.max(initial=-1)) + 1
    if n_groups < len(SIDES):
        raise SpecimenError(
            f"split='grouped:{argument}' needs at least three groups, one per side; the column {argument!r} has {n_groups}."
        )
    if n_groups <= FEW_GROUPS:
        return _positions(balanced_sides(groups, labels, n_groups, seed)[groups])
    return _positions(disjoint(groups, labels, seed))


def _linked_further(groups: np.ndarray, together: np.ndarray | None) -> np.ndarray:
    return groups if together is None or (together < 0).all() else linked(groups, together)


@SPLITS.register("geography_disjoint")
def geography_disjoint(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """No country on two sides, sizes and shares of the classes as near 70 / 20 / 10 as whole countries allow.

    Records without a country are in training, since they may come from any. `seed` determines the order in which
    countries are first tried; `collection.compare_splits` reports how near a split comes.

    Raises:
        SpecimenError: fewer than three countries.
    """
    countries = coded(records["country"]) if "country" in records else Coded(np.full(len(records), -1), [])
    if len(countries.texts) < 3:
        found = ", ".join(sorted(countries.texts)) or "none"
        raise SpecimenError(
            "split='geography_disjoint' needs specimens of at least three countries in the column `country`, one a side; "
            f"found: {found}. Use split='paper'."
        )
    side_of_country = balanced_sides(countries.codes, labels, len(countries.texts), seed)
    return _positions(np.append(side_of_country, 0)[countries.codes])


def _within_classes(
    counts: Callable[[int], tuple[int, int, int]],
    labels: np.ndarray,
    seed: int,
    together: np.ndarray | None = None,
) -> Sides:
    """Every class divided at random into `counts` of its size; then specimens of `together` join the first of their sides,
    training before validation before test."""
    generator = np.random.default_rng(seed)
    side_of = np.zeros(len(labels), dtype=np.int8)
    for own in members(labels, labels.max(initial=-1) + 1):
        drawn = generator.permutation(own) if len(own) else own
        train, val, _ = counts(len(own))
        side_of[drawn[train : train + val]] = 1
        side_of[drawn[train + val :]] = 2
    if together is not None:
        linked_ones = np.flatnonzero(together >= 0)
        first_side = np.full(int(together.max(initial=-1)) + 1, len(SIDES), dtype=np.int8)
        np.minimum.at(first_side, together[linked_ones], side_of[linked_ones])
        side_of[linked_ones] = first_side[together[linked_ones]]
    return _positions(side_of)


def _positions(side_of: np.ndarray) -> Sides:
    """Positions of the specimens of side 0, 1 and 2, ascending; other values of `side_of` are on none."""
    train, val, test = (np.flatnonzero(side_of == side) for side in range(3))
    return train, val, test

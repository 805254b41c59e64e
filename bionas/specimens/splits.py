"""How a collection is divided into training, validation and test specimens (section IV, and what it leaves out).

A scheme is a function `(records, labels, seed) -> (train, val, test)` of sorted positions, registered in `SPLITS`. What
it returns depends on its arguments alone. `divide` is the way in: it also understands what a scheme is told after a
colon, as in `official:pretrain+train/val/test`.
"""

from __future__ import annotations

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

OF_COMPANIONS = ("seran",)
"""Schemes that aim at other shares than 70 / 20 / 10: they are not compared by their distance from it."""

METASPLITS = {"seen": ("train", "val", "test"), "unseen": ("key_unseen", "val_unseen", "test_unseen")}
"""Names that `bioscan_dataset` has for several of BIOSCAN-5M's splits together."""


def divide(scheme: str, records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """The sides of a scheme, which may be told more after a colon (only `official` takes it).

    Raises:
        UnknownName: no such scheme.
        SpecimenError: the scheme does not fit these records; the message names what was found.
    """
    name, colon, told = scheme.partition(":")
    sides = SPLITS[name]
    if not colon:
        return sides(records, labels, seed)
    if "told" not in inspect.signature(sides).parameters:
        raise SpecimenError(f"split={scheme!r}: {name!r} takes nothing after a colon. Use split={name!r}.")
    return sides(records, labels, seed, told=told)


@SPLITS.register("paper")
def paper(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """70 / 20 / 10 within every class, specimens drawn at random: what the paper's printed counts imply.

    The counts of a class are those of `paper_counts`. A BIN, and so a species, may lie on all three sides.
    """
    return _within_classes(paper_counts, labels, seed)


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
def seran(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """70 / 15 / 15 within every class, specimens drawn at random: the split of SERAN (its section 4.1), "each species"."""
    return _within_classes(seran_counts, labels, seed)


def seran_counts(n: int) -> tuple[int, int, int]:
    """Training, validation and test specimens of a class of n: 15 % each rounded down, and what is left to train on.

    Rounding down the two equal sides is what its printed counts imply: 24,287 / 5,119 / 5,119 of 34,525 in 123 classes,
    each side half a specimen a class below 15 %. From n = 3 on no side is empty; below as in `paper_counts`.
    """
    if n < 3:
        return paper_counts(n)
    held_out = max(1, n * 15 // 100)
    return n - 2 * held_out, held_out, held_out


@SPLITS.register("official")
def official(records: pd.DataFrame, labels: np.ndarray, seed: int, *, told: str = "train/val/test") -> Sides:
    """The sides the records themselves name in their `split` column: train, val (or validation), test.

    Rows that name another side (BIOSCAN-5M has `pretrain` and others) are on none of the three, unless `told` says so:
    the names of the three sides, in this order, with / between the sides and + between names. BIOSCAN-5M's training
    records with the unlabelled ones, and both of its tests: `official:pretrain+train/val/test+test_unseen`. `seen` and
    `unseen` stand for the splits that `bioscan_dataset` means by them.

    Raises:
        SpecimenError: there is no such column, a name is on two sides, or no record has it; the message lists what the
            column holds.
        UnknownName: a name that is neither BIOSCAN-5M's nor in the column.
    """
    scheme = "official" if told == "/".join(SIDES) else f"official:{told}"
    if "split" not in records:
        raise SpecimenError(
            f"split={scheme!r} needs a column `split` in the records; there is none. "
            f"Columns: {', '.join(map(str, records.columns))}. split='paper' divides any collection."
        )
    held = _split_names(records["split"])
    wanted = _told_names(told, scheme, held.texts)
    found = np.bincount(held.codes + 1, minlength=len(held.texts) + 1)
    count = dict(zip(held.texts, found[1:], strict=True)) | ({"no value": found[0]} if found[0] else {})
    absent = [name for side in wanted for name in side if not count.get(name)]
    if absent:
        listed = ", ".join(f"{name} ({n:,})" for name, n in sorted(count.items())) or "nothing"
        raise SpecimenError(
            f"split={scheme!r}: no record is marked {' or '.join(map(repr, absent))}. The column `split` holds: "
            f"{listed}. split='paper' divides any collection."
        )
    side_named = {name: number for number, side in enumerate(wanted) for name in side}
    return _positions(
        np.array([*(side_named.get(name, -1) for name in held.texts), -1], dtype=np.int8)[held.codes]
    )


def _split_names(column: pd.Series) -> Coded:
    """The column in lower case, `validation` being `val`."""
    codes, texts = coded(column)
    place: dict[str, int] = {}
    lower = [{"validation": "val"}.get(text.lower(), text.lower()) for text in texts]
    own = [place.setdefault(name, len(place)) for name in lower]
    return Coded(np.array([*own, -1], dtype=np.int32)[codes], list(place))


def _told_names(told: str, scheme: str, held: list[str]) -> list[list[str]]:
    """The names of each side, as in "pretrain+train/val/test"."""
    known = dict.fromkeys((*SPLIT_NAMES, *held))
    sides: list[list[str]] = []
    for part in told.lower().split("/"):
        names = ["val" if name.strip() == "validation" else name.strip() for name in part.split("+")]
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
def bin_disjoint(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """About 70 / 20 / 10 of every class, no BIN and no barcode on two sides.

    Where the records have `dna_barcode`, specimens with one barcode stay together even if their BINs differ or one has
    none, and so does everything linked through them. A specimen with neither stands for itself.

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
    return _positions(disjoint(linked(coded(records["dna_bin"]).codes, barcodes), labels, seed))


@SPLITS.register("geography_disjoint")
def geography_disjoint(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """No country on two sides, sizes and shares of the classes as near 70 / 20 / 10 as whole countries allow.

    Records without a country are in training: nobody can say that they come from elsewhere. `seed` decides in which
    order countries are first tried; how near a split comes, `collection.compare_splits` says.

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


def _within_classes(counts: Callable[[int], tuple[int, int, int]], labels: np.ndarray, seed: int) -> Sides:
    """Every class divided at random into as many as `counts` says of its size."""
    generator = np.random.default_rng(seed)
    side_of = np.zeros(len(labels), dtype=np.int8)
    for own in members(labels, labels.max(initial=-1) + 1):
        drawn = generator.permutation(own) if len(own) else own
        train, val, _ = counts(len(own))
        side_of[drawn[train : train + val]] = 1
        side_of[drawn[train + val :]] = 2
    return _positions(side_of)


def _positions(side_of: np.ndarray) -> Sides:
    """The specimens on side 0, 1 and 2, ascending; others are on none."""
    return tuple(np.flatnonzero(side_of == side) for side in range(3))

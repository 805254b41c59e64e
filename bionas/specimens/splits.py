"""How a collection is divided into training, validation and test specimens (section IV, and what it leaves out).

A scheme is a function `(records, labels, seed) -> (train, val, test)` of sorted positions, registered in `SPLITS`. What
it returns depends on its arguments alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.registry import Registry
from bionas.specimens.schema import missing

SPLITS: Registry = Registry("split scheme")
SIDES = ("train", "val", "test")
SHARES = np.array([0.7, 0.2, 0.1])
Sides = tuple[np.ndarray, np.ndarray, np.ndarray]


@SPLITS.register("paper")
def paper(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """70 / 20 / 10 within every class, specimens drawn at random: what the paper's printed counts imply.

    The counts of a class are those of `paper_counts`. A BIN, and so a species, may lie on all three sides.
    """
    generator = np.random.default_rng(seed)
    sides: list[list[np.ndarray]] = [[], [], []]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        train, val, _ = paper_counts(len(members))
        for side, part in zip(sides, np.split(members, [train, train + val]), strict=True):
            side.append(part)
    return tuple(np.sort(np.concatenate(side)) if side else np.zeros(0, np.int64) for side in sides)


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


@SPLITS.register("official")
def official(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """The sides the records themselves name in their `split` column: train, val (or validation), test.

    Rows that name another side (BIOSCAN-5M has `pretrain` and others) are on none of the three.

    Raises:
        SpecimenError: there is no such column, or a side is empty; the message lists what the column holds.
    """
    if "split" not in records:
        raise SpecimenError(
            "split='official' needs a column `split` in the records; there is none. "
            f"Columns: {', '.join(map(str, records.columns))}. split='paper' divides any collection."
        )
    names = records["split"].astype(object).map(lambda value: str(value).strip().lower()).replace("validation", "val")
    sides = tuple(np.flatnonzero(names == side) for side in SIDES)
    empty = [side for side, members in zip(SIDES, sides, strict=True) if len(members) == 0]
    if empty:
        found = ", ".join(f"{name} ({n:,})" for name, n in names.value_counts().sort_index().items()) or "nothing"
        raise SpecimenError(
            f"split='official': no record is marked {' or '.join(map(repr, empty))}. The column `split` holds: "
            f"{found}. split='paper' divides any collection."
        )
    return sides


@SPLITS.register("bin_disjoint")
def bin_disjoint(records: pd.DataFrame, labels: np.ndarray, seed: int) -> Sides:
    """About 70 / 20 / 10 of every class, no BIN on two sides; a specimen without a BIN stands for itself.

    Raises:
        SpecimenError: no record has a BIN.
    """
    if "dna_bin" not in records or missing(records["dna_bin"]).all():
        raise SpecimenError("split='bin_disjoint' needs the column `dna_bin`; no record has one. Use split='paper'.")
    return disjoint(records["dna_bin"], labels, seed)


def disjoint(groups: pd.Series, labels: np.ndarray, seed: int) -> Sides:
    """Sides that share no value of `groups`, near 70 / 20 / 10 within every class.

    Greedy, a class at a time. Groups larger than the class's share of the test side come first, the largest first;
    the others in an order drawn from `seed`. Each goes to the side where it leaves the smallest squared distance from
    the wanted counts, relative to them. A class of at least three groups is on all sides. A group of several classes
    is placed with its most frequent one.
    """
    unknown = missing(groups)
    codes = pd.factorize(groups.astype(object).map(lambda value: str(value).strip()).mask(unknown))[0]
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(unknown.sum())
    n_groups = codes.max(initial=-1) + 1

    pairs = pd.DataFrame({"group": codes, "label": labels}).value_counts().reset_index(name="n")
    pairs = pairs.sort_values(["group", "n", "label"], ascending=[True, False, True])
    home = pairs.drop_duplicates("group").set_index("group")["label"].reindex(range(n_groups)).to_numpy()
    sizes = np.bincount(codes, minlength=n_groups)

    drawn = np.random.default_rng(seed).permutation(n_groups)
    side_of = np.zeros(n_groups, dtype=np.int64)
    for label in np.unique(home):
        members = drawn[home[drawn] == label]
        large = sizes[members] > sizes[members].sum() * SHARES[-1]
        first = members[large]
        members = np.concatenate([first[np.argsort(-sizes[first], kind="stable")], members[~large]])
        side_of[members] = _place(sizes[members].tolist())
    return tuple(np.flatnonzero(side_of[codes] == side) for side in range(3))


def _place(sizes: list[int]) -> list[int]:
    """The side (0, 1, 2) of each group of one class, in the order given."""
    wanted = [float(share) * sum(sizes) for share in SHARES]
    filled, placed = [0, 0, 0], []
    for rank, size in enumerate(sizes):
        # What placing it on a side adds to sum((filled - wanted)^2 / wanted), up to the factor `size`.
        growth = [(2 * (filled[side] - wanted[side]) + size) / wanted[side] for side in range(3)]
        empty = [side for side in range(3) if not filled[side]]
        open_sides = empty if len(sizes) - rank <= len(empty) and empty else range(3)
        side = min(open_sides, key=lambda s: (growth[s], s))
        filled[side] += size
        placed.append(side)
    return placed

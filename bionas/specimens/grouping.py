"""Groups that must stay on one side (BINs, barcodes, countries, traps), and sides made of whole groups.

`linked` finds connected specimens. `disjoint` is for very many groups that are mostly within one class, `balanced_sides`
for few groups that each hold all classes. Both aim at `SHARES` of every class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bionas.specimens.schema import members

SHARES = np.array([0.7, 0.2, 0.1])
"""Training, validation, test."""

STARTS = 6
"""Restarts of `balanced_sides`: a single one can end two or three times as far from the optimum as the best."""


def linked(bins: np.ndarray, barcodes: np.ndarray | None = None) -> np.ndarray:
    """The group of each specimen, int64 (N,): the connected components over BINs and barcodes.

    Args:
        bins, barcodes: (N,) codes, -1 where there is none. A specimen with neither is a group of its own.

    Groups that hold a BIN are numbered first, in the order in which they appear, then the others.
    """
    barcodes = np.full_like(bins, -1) if barcodes is None else barcodes
    n_bins, n_barcodes = int(bins.max(initial=-1)) + 1, int(barcodes.max(initial=-1)) + 1
    has_both = (bins >= 0) & (barcodes >= 0)
    bin_of_barcode = np.full(n_barcodes + 1, -1)  # one of its BINs, to which its others are tied
    bin_of_barcode[barcodes[has_both]] = bins[has_both]
    tied = bin_of_barcode[barcodes]
    ties = has_both & (bins != tied)
    graph = coo_array(
        (np.ones(ties.sum(), dtype=bool), (bins[ties], tied[ties])), shape=(n_bins + 1, n_bins + 1)
    )
    n_components, component = connected_components(graph, directed=False)

    by_barcode = np.where(barcodes >= 0, barcodes, n_barcodes + np.arange(len(bins)))
    own_bin = np.where(bins >= 0, bins, tied)
    group = np.where(own_bin >= 0, component[own_bin], n_components + by_barcode)
    in_turn = np.concatenate([np.flatnonzero(bins >= 0), np.flatnonzero(bins < 0)])
    numbered = np.empty(len(bins), dtype=np.int64)
    numbered[in_turn] = pd.factorize(group[in_turn])[0]
    return numbered


def disjoint(groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The side of each specimen, int8 (N,), every group on one, near 70 / 20 / 10 within every class.

    Greedy, a class at a time. Groups larger than the class's share of the test side come first, the largest first;
    the others in an order drawn from `seed`. Each goes to the side where it leaves the smallest squared distance from
    the wanted counts, relative to them. A class of at least three groups is on all sides. A group of several classes
    is placed with its most frequent one.

    Args:
        groups: (N,) numbered from 0 without gaps.
    """
    n_groups, n_labels = groups.max(initial=-1) + 1, labels.max(initial=-1) + 1
    pairs, counts = np.unique(groups * n_labels + labels, return_counts=True)
    group, label = np.divmod(pairs, max(n_labels, 1))
    ranked = np.lexsort(
        (label, -counts, group)
    )  # of a group the most frequent label first, then the smaller one
    home = label[ranked][np.unique(group[ranked], return_index=True)[1]]
    sizes = np.bincount(groups, minlength=n_groups)

    drawn = np.random.default_rng(seed).permutation(n_groups)
    side_of = np.zeros(n_groups, dtype=np.int8)
    for places in members(home[drawn], n_labels):
        own = drawn[places]
        large = sizes[own] > sizes[own].sum() * SHARES[-1]
        first = own[large]
        own = np.concatenate([first[np.argsort(-sizes[first], kind="stable")], own[~large]])
        side_of[own] = _place(sizes[own].tolist())
    return side_of[groups]


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


def balanced_sides(groups: np.ndarray, labels: np.ndarray, n_groups: int, seed: int) -> np.ndarray:
    """The side of each group, int64 (n_groups,), for few groups that hold many classes each.

    What is made small is the squared distance of the shares of the three sides from `SHARES`, relative to them: of all
    specimens, and of the classes on average, both alike. Of `STARTS` tries, each from an order drawn from `seed`, the
    best is taken. No side stays without a group.

    Args:
        groups: (N,) codes, -1 for specimens that belong to none and stay in training.
        n_groups: at least 3.
    """
    n_labels = labels.max() + 1
    table = np.bincount(
        (groups.astype(np.int64) + 1) * n_labels + labels, minlength=(n_groups + 1) * n_labels
    )
    table = table.reshape(n_groups + 1, n_labels)
    table = table[:, table.any(axis=0)]
    n_classes = table.shape[1]
    table = np.column_stack([table.sum(axis=1), table])  # column 0: all specimens
    balance = _Balance(table / table.sum(axis=0), np.array([1.0] + [1 / n_classes] * n_classes))
    generator = np.random.default_rng(seed)
    tries = [balance.search(generator.permutation(n_groups)) for _ in range(STARTS)]
    return min(tries, key=lambda found: found[0])[1]


class _Balance(NamedTuple):
    """shares (groups + 1, classes): of each class the share that each group holds, first those of no group; weights
    (classes,) of the classes in the distance."""

    shares: np.ndarray
    weights: np.ndarray

    def distance(self, filled: np.ndarray) -> float:
        """Of what the sides hold, (3, classes), from what they should."""
        return float((((filled - SHARES[:, None]) ** 2 / SHARES[:, None]).sum(axis=0) * self.weights).sum())

    def search(self, drawn: np.ndarray) -> tuple[float, np.ndarray]:
        """Distance reached and side of each group: placed one by one in the order `drawn`; then single ones are moved
        and pairs exchanged as long as that helps."""
        of_group = self.shares[1:]
        filled = np.zeros((3, len(self.weights)))
        filled[0] = self.shares[0]
        side_of = np.full(len(drawn), -1)
        for rank, group in enumerate(drawn):
            empty = [side for side in range(3) if not (side_of == side).any()]
            placed = {}
            for side in empty if len(drawn) - rank <= len(empty) and empty else range(3):
                tried = filled.copy()
                tried[side] += of_group[group]
                placed[side] = self.distance(tried)
            side_of[group] = min(placed, key=lambda side: (placed[side], side))
            filled[side_of[group]] += of_group[group]

        best, improved = self.distance(filled), True
        while improved:
            improved = False
            for group in drawn:
                for change in _changes(group, side_of):
                    tried = filled.copy()
                    for moved, side in change:
                        tried[side_of[moved]] -= of_group[moved]
                        tried[side] += of_group[moved]
                    reached = self.distance(tried)
                    if reached < best - 1e-12:
                        filled, best, improved = tried, reached, True
                        for moved, side in change:
                            side_of[moved] = side
                        break
        return best, side_of


def _changes(group: int, side_of: np.ndarray) -> list[list[tuple[int, int]]]:
    """What can be done with a group: moved to another side, unless its own would be empty; or exchanged for another."""
    own = side_of[group]
    moves = [[(group, side)] for side in range(3) if side != own] if (side_of == own).sum() > 1 else []
    return moves + [
        [(group, side_of[other]), (other, own)] for other in np.flatnonzero(side_of != own).tolist()
    ]

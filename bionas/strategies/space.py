"""The search space as a strategy sees it: integer choices, and what two genotypes have in common.

A genotype is a vector of choices, three per cell in the order of `EDGES`, each the index of a primitive in its set. Two rules
of `genotype` are kept here so that no strategy has to: of the two edges from x one carries something, and where z1 is
empty z1->z2 is `none`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from bionas.errors import GenotypeError, SearchError
from bionas.genotype import EDGES, CellGenotype, Genotype, cell_key, space_size
from bionas.operators import primitive_set as members

LISTED = 100_000
"""`Space.all` lists no more genotypes than that: a larger space is searched, not enumerated."""


@dataclass(frozen=True)
class Space:
    """Every genotype of a depth and a primitive set.

    Attributes:
        reductions: which cells halve the map, from the input to the head; their number is the depth.
        primitive_set: name of the set that every edge chooses from.
        shared: the same three primitives in all cells.

    Raises:
        UnknownName: no such primitive set.
        SearchError: no cells, or a set in which no cell has a path from its input to its output.
    """

    reductions: tuple[bool, ...]
    primitive_set: str = "full"
    shared: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reductions", tuple(map(bool, self.reductions)))
        if not self.reductions:
            raise SearchError("reductions is empty; a space has genotypes of at least one cell.")
        if set(members(self.primitive_set)) <= {"none"}:
            raise SearchError(
                f"the primitive set {self.primitive_set!r} has nothing but 'none': no genotype of this space has a path "
                "from input to output. Choose a set with at least one other primitive."
            )

    # --- sizes --------------------------------------------------------------------------------------------------

    @property
    def primitives(self) -> tuple[str, ...]:
        """K names, in the order of alpha's last axis."""
        return members(self.primitive_set)

    @property
    def choices(self) -> int:
        """L, the length of a genotype's encoding: three per cell, or three where all cells share one choice."""
        return len(EDGES) * (1 if self.shared else len(self.reductions))

    @property
    def size(self) -> int:
        """K^L: all choices, including those without a path and those isomorphic to others."""
        return space_size(self.choices // len(EDGES), self.primitive_set)

    @property
    def distinct(self) -> int:
        """How many genotypes compute something different (`Genotype.key`): the number that can be scored."""
        return math.prod(len(set(of_cell.values())) for of_cell in self._representatives())

    # --- drawing and changing -------------------------------------------------------------------------------------------

    def random(self, generator: np.random.Generator) -> Genotype:
        """Every edge drawn uniformly, cells without a path drawn again (`Genotype.random`)."""
        own = self.reductions[: self.choices // len(EDGES)]
        drawn = Genotype.random(len(own), own, self.primitive_set, generator)
        return self._built([cell.operations for cell in drawn.cells])

    def mutate(self, genotype: Genotype, generator: np.random.Generator) -> Genotype:
        """Another primitive on one edge, both drawn uniformly among those that change what the genotype computes.

        Raises:
            GenotypeError: the genotype is not of this space.
            SearchError: there is no other genotype in this space.
        """
        before, key = self.encode(genotype), genotype.key()
        if self.distinct == 1:
            raise SearchError("this space has one genotype: there is nothing to mutate it into.")
        while True:
            after = before.copy()
            edge = generator.integers(self.choices)
            after[edge] = (after[edge] + generator.integers(1, len(self.primitives))) % len(self.primitives)
            if self.has_path(after) and (mutant := self.decode(after)).key() != key:
                return mutant

    def all(self) -> Iterator[Genotype]:
        """One genotype of each kind that computes the same (`canonical`), in the order of their choices.

        Raises:
            SearchError: more than `LISTED` of them.
        """
        if self.distinct > LISTED:
            raise SearchError(
                f"this space has {self.distinct:,} distinct genotypes, too many to list (at most {LISTED:,}). "
                "Search it, or take fewer cells, a smaller primitive set or shared=True."
            )
        kinds = [dict.fromkeys(of_cell.values()) for of_cell in self._representatives()]
        return (self._built(operations) for operations in itertools.product(*kinds))

    def canonical(self, genotype: Genotype) -> Genotype:
        """The first in the order of choices of all that compute the same, so that isomorphic ones are trained alike."""
        self.encode(genotype)
        own = genotype.cells[: self.choices // len(EDGES)]
        return self._built([of[cell.operations] for of, cell in zip(self._representatives(), own)])

    # --- as numbers ---------------------------------------------------------------------------------------------

    def encode(self, genotype: Genotype) -> np.ndarray:
        """(L,) int64, the index of each edge's primitive.

        Raises:
            GenotypeError: another depth, other reductions, another primitive set, or cells that differ where they
                are shared.
        """
        genotype.require(self.reductions, self.primitive_set)
        if self.shared and len({cell.operations for cell in genotype.cells}) > 1:
            raise GenotypeError("the cells differ, and in this space one choice is repeated in all of them.")
        indices = [self.primitives.index(name) for cell in genotype.cells for name in cell.operations]
        return np.array(indices[: self.choices], dtype=np.int64)

    def decode(self, choices: Sequence[int] | np.ndarray) -> Genotype:
        """The inverse of `encode`; z1->z2 becomes `none` where z1 is empty.

        Raises:
            GenotypeError: not L indices under K, or a cell without a path.
        """
        choices = np.asarray(choices)
        if choices.shape != (self.choices,) or not all(0 <= int(k) < len(self.primitives) for k in choices):
            raise GenotypeError(
                f"{choices.tolist()} are not {self.choices} indices of {len(self.primitives)} primitives."
            )
        names = [self.primitives[int(k)] for k in choices]
        cells = [tuple(names[i : i + len(EDGES)]) for i in range(0, len(names), len(EDGES))]
        return self._built([(a, b, "none" if a == "none" else c) for a, b, c in cells])

    def has_path(self, choices: Sequence[int] | np.ndarray) -> bool:
        """Whether something reaches the output of every cell."""
        names = [self.primitives[int(k)] for k in choices]
        return all(names[i : i + 2] != ["none", "none"] for i in range(0, len(names), len(EDGES)))

    def one_hot(self, genotype: Genotype) -> np.ndarray:
        """(L, K) float32, 1 for the chosen primitive of each edge."""
        return np.eye(len(self.primitives), dtype=np.float32)[self.encode(genotype)]

    def allowed(self, chosen: np.ndarray) -> np.ndarray:
        """The primitives that the next choice may take: chosen (B, t) with t < L -> (B, K) bool.

        Choices made so from t = 0 on give a genotype with a path, and `none` on z1->z2 where z1 is empty.
        """
        allowed = np.ones((len(chosen), len(self.primitives)), dtype=bool)
        edge = chosen.shape[1] % len(EDGES)
        if edge and "none" in self.primitives:
            none = self.primitives.index("none")
            z1_empty = chosen[:, -edge] == none
            allowed[z1_empty] = (
                np.arange(len(self.primitives)) != none if edge == 1 else np.eye(len(self.primitives))[none]
            )
        return allowed

    # --- inside -------------------------------------------------------------------------------------------------

    def _built(self, operations: Sequence[tuple[str, ...]]) -> Genotype:
        each = list(operations) * len(self.reductions) if self.shared else operations
        return Genotype(
            tuple(map(CellGenotype, cast(Sequence[tuple[str, str, str]], each), self.reductions)),
            self.primitive_set,
        )

    def _representatives(self) -> list[dict[tuple[str, ...], tuple[str, ...]]]:
        """For each own cell: its three primitives -> the first three that compute the same."""
        if self.shared:  # the same in every kind of cell that there is
            return [_representatives(self.primitives, tuple(sorted(set(self.reductions))))]
        return [_representatives(self.primitives, (reduction,)) for reduction in self.reductions]


@functools.cache
def _representatives(
    primitives: tuple[str, ...], kinds: tuple[bool, ...]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    first: dict[tuple[str, ...], tuple[str, ...]] = {}
    found = {}
    for operations in itertools.product(primitives, repeat=len(EDGES)):
        if operations[:2] != ("none", "none"):
            key = tuple(cell_key(operations, reduction) for reduction in kinds)
            found[operations] = first.setdefault(key, operations)
    return found

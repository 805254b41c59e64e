"""The classes of a model with their wider ranks, and probabilities summed up to those ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.collection import OTHER, SpecimenSet
from bionas.specimens.schema import RANKS, coded

AGREEING = 0.9
"""Share of a class's photographs that must name the same wider taxon for the class to count as part of it."""


@dataclass(frozen=True)
class Taxonomy:
    """C classes of a target column, and for each wider rank the taxon every class belongs to.

    Attributes:
        target: the column the classes come from.
        classes: C names, in the order of the logits.
        lineage: rank -> C names, the widest rank first, without the target. Only ranks known for every class.
    """

    target: str
    classes: tuple[str, ...]
    lineage: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, specimens: SpecimenSet) -> Taxonomy:
        """The taxonomy that the records of a collection imply.

        A wider rank is kept where every class (but Other) has one taxon for it; Other is its own taxon at every rank.
        """
        target = specimens.target
        wider = RANKS[: RANKS.index(target)] if target in RANKS else RANKS
        lineage = {}
        for rank in wider:
            if rank == target or rank not in specimens.records:
                continue
            names = _taxon_of_each_class(specimens, rank)
            if names is not None and len(set(names)) < len(names):
                lineage[rank] = names
        return cls(target, tuple(specimens.class_names), lineage)

    @property
    def ranks(self) -> tuple[str, ...]:
        """All ranks, the widest first, the target last."""
        return (*self.lineage, self.target)

    def taxa(self, rank: str) -> tuple[str, ...]:
        """The taxa of a rank, in the order in which the classes name them."""
        return tuple(dict.fromkeys(self.names(rank)))

    def names(self, rank: str) -> tuple[str, ...]:
        """C names: the taxon of each class at a rank.

        Raises:
            UnknownName: the model has no such rank.
        """
        if rank == self.target:
            return self.classes
        if rank not in self.lineage:
            raise UnknownName("rank of this model", rank, self.ranks)
        return self.lineage[rank]

    def summed(self, probabilities: np.ndarray, rank: str) -> np.ndarray:
        """(N, C) probabilities of the classes -> (N, T) of the taxa of a rank."""
        taxa = {name: position for position, name in enumerate(self.taxa(rank))}
        member = np.zeros((len(self.classes), len(taxa)))
        member[np.arange(len(self.classes)), [taxa[name] for name in self.names(rank)]] = 1
        return probabilities @ member

    def allowed(self, wanted: Collection[str]) -> np.ndarray:
        """bool (C,): the classes that are, or belong to, one of the taxa `wanted` (compared without case).

        Raises:
            SpecimenError: no class of the model is among them.
        """
        folded = {name.strip().casefold() for name in wanted}
        held = [[names[c].casefold() for names in (*self.lineage.values(), self.classes)] for c in self._all]
        chosen = np.array([bool(folded.intersection(names)) for names in held])
        if not chosen.any():
            raise SpecimenError(
                f"the list of taxa names none of this model's classes ({', '.join(self.classes)}). Write one name of "
                f"the ranks {', '.join(self.ranks)} per line."
            )
        return chosen

    @property
    def _all(self) -> range:
        return range(len(self.classes))

    def to_plain(self) -> dict[str, Any]:
        return {"target": self.target, "classes": list(self.classes), "lineage": _lists(self.lineage)}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Taxonomy:
        lineage = {rank: tuple(names) for rank, names in content["lineage"].items()}
        return cls(content["target"], tuple(content["classes"]), lineage)


def _taxon_of_each_class(specimens: SpecimenSet, rank: str) -> tuple[str, ...] | None:
    codes, texts = coded(specimens.records[rank])
    names = []
    for position, name in enumerate(specimens.class_names):
        if name == OTHER:
            names.append(OTHER)
            continue
        own = codes[(specimens.labels == position) & (codes >= 0)]
        if not len(own):
            return None
        counts = np.bincount(own, minlength=len(texts))
        if counts.max() < AGREEING * len(own):
            return None
        names.append(texts[counts.argmax()])
    return tuple(names)


def _lists(lineage: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {rank: list(names) for rank, names in lineage.items()}

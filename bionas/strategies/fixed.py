"""Control without search: a hand-drawn network, Table I's E012 ("No NAS (Fixed), Manual Design")."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.strategies.evaluators import Evaluator
from bionas.strategies.searching import Sampler, SearchResult, search_candidates, strategy
from bionas.strategies.space import Space

NORMAL = ("sep_conv_3x3", "skip_connect", "sep_conv_3x3")
REDUCTION = ("sep_conv_3x3", "max_pool_3x3", "sep_conv_3x3")


@strategy("fixed")
def fixed(
    space: Space, evaluate: Evaluator, budget: int, seed: int = 0, *, folder: Path | None = None
) -> SearchResult:
    """The hand-drawn network is scored once, whatever the budget, and is the result.

    The paper does not say what its manual design is. Ours follows Xception (Chollet, CVPR 2017): two separable
    convolutions in sequence with a shortcut around them, x -> sep_conv_3x3 -> sep_conv_3x3 plus x; in a reduction cell the shortcut is a max pooling, and where all cells share one choice, a skip everywhere.

    Raises:
        SearchError: the primitive set lacks one of its primitives.
    """
    return search_candidates("fixed", ByHand(space), space, evaluate, budget, seed, folder, {})


def manual_genotype(space: Space) -> Genotype:
    """The hand-drawn network of a space's depth.

    Raises:
        SearchError: the primitive set lacks one of its primitives.
    """
    kinds = (
        [NORMAL] if space.shared else [REDUCTION if reduction else NORMAL for reduction in space.reductions]
    )
    names = [name for kind in kinds for name in kind]
    require_primitives(space, names)
    return space.decode([space.primitives.index(name) for name in names])


def require_primitives(space: Space, names: Iterable[str]) -> None:
    """Raises SearchError where a space lacks primitives of a hand-drawn network."""
    if missing := sorted(set(names) - set(space.primitives)):
        raise SearchError(
            f"the hand-drawn network uses {', '.join(missing)}, which the primitive set {space.primitive_set!r} does not "
            "have. Take a set that has them (full, reduced)."
        )


class ByHand(Sampler):
    """Proposes the hand-drawn network once."""

    def __init__(self, space: Space):
        self.genotype, self.proposed = manual_genotype(space), False

    def propose(self) -> Genotype | None:
        return None if self.proposed else self.genotype

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        self.proposed = True
        return {}

    def state(self) -> dict[str, Any]:
        return {"proposed": self.proposed}

    def load_state(self, state: dict[str, Any]) -> None:
        self.proposed = state["proposed"]

"""PC-DARTS: partial channels and edge normalisation (Xu et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.cells import FoldedSum, Relaxation, Source
from bionas.errors import SearchError
from bionas.strategies.differentiable import Variant, search_by_gradient
from bionas.strategies.evaluators import SUPERNET, Evaluator
from bionas.strategies.searching import SearchResult, strategy
from bionas.strategies.space import Space


@strategy("pc_darts", needs=SUPERNET)
def pc_darts(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    share: int = 4,
    derivation: str = "argmax",
) -> SearchResult:
    """Algorithm 1 on a supernet in which one of `share` channels goes through the primitives and the others bypass them.

    The supernet costs less time and memory, and primitives without parameters lose their early advantage. A weight per
    edge, normalised over the edges of a node, evens out what the choice of channels disturbs. Every edge of our cell stays,
    so derivation reads alpha alone.

    Args:
        share: K of the paper; the width of each cell has to be a multiple of it.
        derivation: as of `gradient`.

    Raises:
        SearchError: channels that are no multiple of `share`, or as `gradient`.
    """
    variant = Variant(
        relaxation=lambda space: EdgeNormalised(1 if space.shared else len(space.reductions)),
        edge=lambda channels, stride, names: PartialChannels(channels, stride, names, share),
        options={"share": share},
    )
    return search_by_gradient("pc_darts", space, evaluate, budget, seed, folder, variant, derivation)


class PartialChannels(FoldedSum):
    """A mixed edge over the first 1/K of the channels; the others pass, max-pooled at stride 2, and all are shuffled."""

    def __init__(self, channels: int, stride: int, primitives: Sequence[str], share: int):
        if channels % share or channels // share < 2:
            raise SearchError(
                f"a cell has {channels} channels, which do not divide into {share} shares of at least 2. Give another share, or a wider preset."
            )
        super().__init__(channels // share, stride, primitives)
        self.share = share

    def forward(self, source: Source, alpha: Tensor, keep: Sequence[bool]) -> Tensor:
        first, others = source.x.tensor_split([source.x.shape[1] // self.share], dim=1)
        mixed = super().forward(Source(first), alpha, keep)
        if self.stride > 1:
            others = F.max_pool2d(others, self.stride, self.stride, ceil_mode=True)
        joined = torch.cat([mixed, others], dim=1)
        b, c, h, w = joined.shape
        return joined.view(b, self.share, c // self.share, h, w).transpose(1, 2).reshape(b, c, h, w)


class EdgeNormalised(Relaxation):
    """The softmax of theta, and beta: a weight per edge, softmaxed over the edges that enter a node."""

    def __init__(self, rows: int):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(rows, 3))

    def edge_weights(self) -> Tensor:
        """(cells, 3): z1 has one edge, of weight 1; the two edges of z2 share a sum of 1."""
        to_z2 = torch.softmax(self.beta[:, 1:], dim=1)
        return torch.cat([torch.ones_like(self.beta[:, :1]), to_z2], dim=1)

"""The searchable cell (section III-A.1, Eqs. 6-9) and the cell that remains after derivation.

A cell is three mixed edges over two nodes: z1 = e1(x), z2 = e2(x) + e3(z1), out = project([z1, z2]). A mixed edge is
the weighted sum of its primitives, in two exact forms: `WeightedSum` is Eq. 7 as written, the oracle of the tests;
`FoldedSum`, the default, gives the same values and gradients with fewer operations. Both hold the same parameters under
the same names. Shapes are (batch, C, H, W) throughout; alpha is an argument.

Two things are exchangeable without editing this file: the form of the mixed edge (`SearchCell(edge=...)`, a subclass of
`MixedEdge`: partial channels), and how theta becomes alpha (`Relaxation`: sampling one path, sigmoids, weights per edge).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bionas.genotype import EDGES
from bionas.operators import Primitive, build

PRUNE_BELOW = 1e-6
"""Operations with a smaller alpha are omitted in the forward pass (section III-A.1)."""


class Relaxation(nn.Module):
    """How theta becomes the weights of a mixed edge; this one is the paper's softmax (Eqs. 6 and 14).

    A strategy subclasses it and passes it to `SearchNetwork(relaxation=...)`. Its parameters are architecture
    parameters: they are updated with theta, and are in the network's state_dict. Random draws come from torch's global
    generator, whose state is in every checkpoint. `self.training` follows the network's mode.

    Attributes:
        varies: the weights can differ while theta is the same (they are sampled, or depend on a temperature), so that
            the pruning mask is read in every forward pass.
    """

    varies = False

    def forward(self, theta: Tensor) -> Tensor:
        """theta (cells, 3, K) -> weights >= 0 of one forward pass, same shape. Override to sample or to change the map."""
        return torch.softmax(theta, dim=-1)

    def alpha(self, theta: Tensor) -> Tensor:
        """theta (..., 3, K) -> what is reported and derived from: same shape, each edge summing to one, never sampled."""
        return torch.softmax(theta, dim=-1)

    def edge_weights(self) -> Tensor | None:
        """Factors of whole edges, (cells, 3) in the order of `EDGES`; None leaves every edge as it is."""
        return None


def kept(alpha: Tensor) -> list:
    """alpha (..., K) -> the same shape as nested lists of bool: which operations are computed.

    Lists and not a tensor, because the answer steers Python. Reading it makes a GPU wait.
    """
    return (alpha.detach() >= PRUNE_BELOW).tolist()


class Source:
    """A tensor that edges leave from. Parameter-free operations are computed on it once for all of these edges."""

    def __init__(self, x: Tensor):
        self.x = x
        self._results: dict[str, Tensor] = {}

    def result(self, name: str, operation: Primitive) -> Tensor:
        """operation(x); the stored result where a parameter-free operation of that name was computed before."""
        if not operation.parameter_free:
            return operation(self.x)
        if name not in self._results:
            self._results[name] = operation(self.x)
        return self._results[name]


class MixedEdge(nn.Module):
    """One edge of the supernet: sum_k alpha_k o_k(x) over its primitives (Eqs. 6-8). Subclasses implement `forward`.

    Args:
        channels: C, in and out.
        stride: 1 or 2.
        primitives: names, in the order of alpha's last axis. `none` keeps its weight but has no module.

    Raises:
        UnknownName: a name that is not a primitive; the message lists the nearest.
    """

    def __init__(self, channels: int, stride: int, primitives: Sequence[str]):
        super().__init__()
        self.stride = stride
        self.primitives = tuple(primitives)
        self.operations = nn.ModuleDict(
            {n: build(n, channels, stride) for n in self.primitives if n != "none"}
        )

    def forward(self, source: Source, alpha: Tensor, keep: Sequence[bool]) -> Tensor:
        """source of (B, C, H, W), alpha (K,), keep (K,) -> (B, C, H/stride, W/stride)."""
        raise NotImplementedError

    def active(self, keep: Sequence[bool]) -> list[tuple[int, str, Primitive]]:
        """(k, name, operation) of what is computed: kept, and not `none`."""
        return [
            (k, n, cast(Primitive, self.operations[n]))
            for k, n in enumerate(self.primitives)
            if keep[k] and n != "none"
        ]

    def zero(self, x: Tensor) -> Tensor:
        """The output of an edge none of whose operations is computed."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class WeightedSum(MixedEdge):
    """Eq. 7 to the letter: each output times its alpha, then added up."""

    def forward(self, source: Source, alpha: Tensor, keep: Sequence[bool]) -> Tensor:
        terms = [alpha[k] * operation(source.x) for k, _, operation in self.active(keep)]
        return sum(terms) if terms else self.zero(source.x)


class FoldedSum(MixedEdge):
    """The same sum with fewer passes over the maps, by the capabilities that each primitive declares (`Primitive`).

    - `gates` (squeeze-and-excitation and skip at stride 1): the weighted gates are added, then multiplied with x once.
    - `parameter_free` (pools): computed once for all edges that leave the same tensor.
    - otherwise `scaled`: for alpha > 0, alpha relu(bn(x; gamma, beta)) = relu(bn(x; alpha gamma, alpha beta)), so the
      weight of a convolution costs C multiplications and not B C H W.
    """

    def forward(self, source: Source, alpha: Tensor, keep: Sequence[bool]) -> Tensor:
        summands, weighted = [], []  # tensors to add as they are; (tensor, weight) pairs to multiply and add
        gate = None
        for k, name, operation in self.active(keep):
            if operation.gates:
                own = alpha[k] * operation.gate(source.x)
                gate = own if gate is None else gate + own
            elif operation.parameter_free:
                weighted.append((source.result(name, operation), alpha[k]))
            else:
                summands.append(operation.scaled(source.x, alpha[k]))
        if gate is not None:
            weighted.append((source.x, gate))
        return _accumulate(summands, weighted, otherwise=self.zero, x=source.x)


def _accumulate(
    summands: list[Tensor],
    weighted: list[tuple[Tensor, Tensor]],
    otherwise: Callable[[Tensor], Tensor],
    x: Tensor,
) -> Tensor:
    """sum(summands) + sum(t * w for t, w in weighted), in place from the second term on; otherwise(x) without any."""
    if not summands and not weighted:
        return otherwise(x)
    if summands:
        total, rest = summands[0], summands[1:]
    else:
        (tensor, weight), weighted = weighted[0], weighted[1:]
        total, rest = tensor * weight, []
    own = False  # the first term belongs to autograd (a relu keeps its output): never add into it
    for term in rest:
        total, own = (total.add_(term) if own else total + term), True
    for tensor, weight in weighted:
        total, own = (total.addcmul_(tensor, weight) if own else torch.addcmul(total, tensor, weight)), True
    return total


class SearchCell(nn.Module):
    """One cell of the supernet: z1 = e1(x), z2 = e2(x) + e3(z1), out = project([z1, z2])   (Eqs. 7-9).

    Args:
        channels: C, of x and of both nodes.
        stride: 2 for a reduction cell: the edges that leave x are strided, z1 -> z2 never is.
        primitives: names from `operators.PRIMITIVES`, in the order of alpha's last axis.
        out_channels: of the 1x1 convolution after the concatenation; C unless the next cell is wider.
        edge: the form of the mixed edge.

    Raises:
        UnknownName: a name that is not a primitive; the message lists the nearest.
    """

    EDGES = EDGES

    def __init__(
        self,
        channels: int,
        stride: int,
        primitives: Sequence[str],
        out_channels: int | None = None,
        edge: type[MixedEdge] = FoldedSum,
    ):
        super().__init__()
        strides = (stride, stride, 1)
        self.edges = nn.ModuleList(edge(channels, s, primitives) for s in strides)
        self.project = projection(2 * channels, out_channels or channels)

    def forward(
        self,
        x: Tensor,
        alpha: Tensor,
        keep: Sequence[Sequence[bool]] | None = None,
        edge_weights: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, H, W) -> (B, out_channels, H/stride, W/stride).

        Args:
            alpha: (3, K), the weights of the operations.
            keep: which of them are computed; `kept(alpha)` unless given.
            edge_weights: (3,), factors of whole edges (`Relaxation.edge_weights`).
        """
        keep = kept(alpha) if keep is None else keep
        to_z1, skip_to_z2, z1_to_z2 = self.edges
        source = Source(x)
        if edge_weights is None:
            z1 = to_z1(source, alpha[0], keep[0])
            z2 = skip_to_z2(source, alpha[1], keep[1]) + z1_to_z2(Source(z1), alpha[2], keep[2])
        else:
            z1 = edge_weights[0] * to_z1(source, alpha[0], keep[0])
            z2 = edge_weights[1] * skip_to_z2(source, alpha[1], keep[1])
            z2 = z2 + edge_weights[2] * z1_to_z2(Source(z1), alpha[2], keep[2])
        return self.project(torch.cat([z1, z2], dim=1))


def projection(channels: int, out_channels: int) -> nn.Sequential:
    """The point-wise convolution after Eq. 9; normalised, since nothing else bounds a path of pools and skips."""
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


class DerivedCell(nn.Module):
    """A cell after derivation: at most one primitive per edge; edges that chose `none` are removed (section III-B.2).

    Args:
        channels: C, of x and of both nodes.
        stride: 2 for a reduction cell.
        operations: the primitive of x->z1, x->z2, z1->z2; "none" where the edge is removed.
        out_channels: as in `SearchCell`.

    Raises:
        ValueError: both edges that leave x are removed, so nothing reaches the output.
    """

    EDGES = EDGES

    def __init__(
        self, channels: int, stride: int, operations: Sequence[str], out_channels: int | None = None
    ):
        super().__init__()
        if operations[0] == "none" and operations[1] == "none":
            raise ValueError(f"no path from x to the output: {dict(zip(EDGES, operations))}")
        if operations[0] == "none":  # z1 is empty, so z1->z2 is removed with it
            operations = (operations[0], operations[1], "none")
        self.operations = tuple(operations)
        strides = (stride, stride, 1)
        self.edges = nn.ModuleDict(
            {
                str(e): build(n, channels, s)
                for e, (n, s) in enumerate(zip(operations, strides))
                if n != "none"
            }
        )
        self.nodes = [
            name for name, fed in (("z1", "0" in self.edges), ("z2", {"1", "2"} & set(self.edges))) if fed
        ]
        self.project = projection(len(self.nodes) * channels, out_channels or channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, out_channels, H/stride, W/stride)."""
        z1 = self.edges["0"](x) if "0" in self.edges else None
        to_z2 = [self.edges["1"](x)] if "1" in self.edges else []
        if "2" in self.edges:
            to_z2.append(self.edges["2"](z1))
        nodes = ([] if z1 is None else [z1]) + ([sum(to_z2)] if to_z2 else [])
        return self.project(torch.cat(nodes, dim=1))

    @torch.no_grad()
    def inherit(self, cell: SearchCell) -> None:
        """Copy the weights that the supernet's cell trained: each chosen primitive, and its part of the 1x1."""
        for e, operation in self.edges.items():
            edge = cast(MixedEdge, cell.edges[int(e)])
            trained = edge.operations[self.operations[int(e)]]
            operation.load_state_dict(trained.state_dict())
        (convolution, bn), (own_convolution, own_bn) = cell.project, self.project
        assert isinstance(convolution, nn.Conv2d) and isinstance(own_convolution, nn.Conv2d)
        parts = dict(zip(("z1", "z2"), convolution.weight.chunk(2, dim=1)))
        own_convolution.weight.copy_(torch.cat([parts[node] for node in self.nodes], dim=1))
        own_bn.load_state_dict(bn.state_dict())

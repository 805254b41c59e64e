"""Cells: the two forms of the mixed edge against each other, Eqs. 7-9 by hand, and what derivation leaves of a cell."""

from __future__ import annotations

import itertools

import pytest
import torch

from bionas.cells import PRUNE_BELOW, DerivedCell, FoldedSum, SearchCell, Source, WeightedSum, kept
from bionas.errors import UnknownName
from bionas.genotype import EDGES
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES, Primitive, primitive_set

C = 4
STRIDES = [1, 2]
FULL = primitive_set("full")


def features(height=6, width=5, batch=3, seed=0):
    return torch.randn(
        batch, C, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def drawn(module, seed=1):
    """The module in float64 with every parameter and running statistic drawn."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, dtype=torch.float64, generator=generator) + 0.2)
        for name, parameter in module.named_parameters():
            if not name.endswith("bn.weight"):
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    return module


def twins(*args):
    """The same cell in both forms, with the same weights."""
    folded, plain = drawn(SearchCell(*args, edge=FoldedSum)), SearchCell(*args, edge=WeightedSum).double()
    plain.load_state_dict(
        folded.state_dict()
    )  # also: both forms hold the same parameters under the same names
    return folded, plain


def alphas(kind, k, seed=0):
    """(3, K) alphas that sum to one on each edge."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(3, k, dtype=torch.float64, generator=generator)
    alpha = torch.softmax({"start": 1e-3, "random": 1.0, "late": 2.0, "pruned": 1.0}[kind] * theta, dim=-1)
    if kind == "late":  # close to the threshold, and above it
        alpha[:, torch.randperm(k, generator=generator)[: k // 2]] = 1.1e-6
    if kind == "pruned":  # below it, other operations on each edge
        for edge in range(3):
            alpha[edge, torch.randperm(k, generator=generator)[: k // 2]] = 9e-7
    biggest = alpha.argmax(dim=-1, keepdim=True)
    return alpha.scatter_add(-1, biggest, 1 - alpha.sum(dim=-1, keepdim=True))


def relative_difference(a, b):
    scale = max(a.abs().max().item(), b.abs().max().item())
    return (a - b).abs().max().item() / scale if scale else 0.0


# --- the two forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("primitives", list(PRIMITIVE_SETS))
@pytest.mark.parametrize("kind", ["start", "random", "late", "pruned"])
def test_the_folded_sum_is_the_weighted_sum(kind, primitives, stride, training):
    """Eq. 7: outputs and every gradient of the fast form equal those of the plain one; the statistics advance alike."""
    names = primitive_set(primitives)
    folded, plain = (cell.train(training) for cell in twins(C, stride, names, C + 2))
    for cell in (
        folded,
        plain,
    ):  # its normalisation makes some gradients zero: only their rounding could be compared
        cell.project = cell.project[0]
    for seed in range(2):
        alpha = alphas(kind, len(names), seed)
        direction, results = None, []
        for cell in (folded, plain):
            cell.zero_grad()
            x, a = features(seed=seed).requires_grad_(), alpha.clone().requires_grad_()
            out = cell(x, a)
            if direction is None:
                direction = torch.randn(
                    out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
                )
            out.backward(direction)
            gradients = {"x": x.grad, "alpha": a.grad, **{n: p.grad for n, p in cell.named_parameters()}}
            results.append({"out": out, **{f"gradient of {name}": g for name, g in gradients.items()}})
        fast, oracle = results
        assert fast["gradient of alpha"].abs().max() > 0
        for name, tensor in oracle.items():
            assert (tensor is None) == (fast[name] is None), name  # what is not computed gets no gradient
            if tensor is not None:
                assert relative_difference(fast[name], tensor) <= 1e-12, name
    for (name, a), (_, b) in zip(folded.state_dict().items(), plain.state_dict().items(), strict=True):
        at_x = (
            name.startswith(("edges.0", "edges.1")) or "tracked" in name
        )  # further on the sums differ by rounding
        assert torch.equal(a, b) if at_x else relative_difference(a, b) <= 1e-12, name


# --- what is computed, and how often --------------------------------------------------------------------------------


def calls(cell, x, alpha):
    """(edge, operation) -> how often it was called, whichever of its two ways."""
    counts = {}

    def counted(key, function):
        def call(*args):
            counts[key] = counts.get(key, 0) + 1
            return function(*args)

        return call

    for e, edge in enumerate(cell.edges):
        for name, operation in edge.operations.items():
            for way in ("forward", "scaled"):
                setattr(operation, way, counted((e, name), getattr(operation, way)))
            if name == "squeeze_excite" and edge.stride == 1:  # there the folded sum asks for the gate alone
                operation.gate = counted((e, name), operation.gate)
                if isinstance(edge, WeightedSum):
                    operation.forward = type(operation).forward.__get__(operation)
    cell(x, alpha)
    return counts


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", [FoldedSum, WeightedSum])
def test_operations_below_the_threshold_are_not_computed(
    form, stride
):  # text after Eq. 9: below 1e-6, omitted
    cell, alpha = SearchCell(C, stride, FULL, edge=form).double(), alphas("random", 10)
    dropped = {(0, "sep_conv_3x3"), (0, "avg_pool_3x3"), (1, "avg_pool_3x3"), (1, "squeeze_excite")}
    dropped |= {(2, "dil_conv_5x5")}
    for e, name in dropped:
        alpha[e, FULL.index(name)] = 0.99e-6
    alpha[2, FULL.index("conv_1x1")] = 1e-6  # not below
    called = calls(cell, features(), alpha)
    assert PRUNE_BELOW == 1e-6 and not dropped & called.keys() and (2, "conv_1x1") in called
    convolutions = {(e, n) for e in range(3) for n in FULL if "conv" in n} - dropped
    assert convolutions <= called.keys() and all(called[key] == 1 for key in convolutions)


@pytest.mark.parametrize("form", [FoldedSum, WeightedSum])
def test_none_takes_weight_and_is_never_computed(form):  # text under Eq. 5
    cell = SearchCell(C, 2, FULL, edge=form).double()
    assert not any("none" in edge.operations for edge in cell.edges)
    only_none = torch.zeros(3, 10, dtype=torch.float64)
    only_none[:, FULL.index("none")] = 1
    zeros = form(C, 2, FULL).double()(Source(features(7, 5)), only_none[0], kept(only_none[0]))
    assert zeros.shape == (3, C, 4, 3) and not zeros.any()


@pytest.mark.parametrize("stride", STRIDES)
def test_what_has_no_parameters_is_computed_once_a_source(stride):  # DESIGN, speed
    called = calls(SearchCell(C, stride, FULL).double(), features(), alphas("random", 10))
    for name in ("avg_pool_3x3", "max_pool_3x3"):  # two edges leave x, one leaves z1
        assert called.get((0, name), 0) + called.get((1, name), 0) == 1 and called[2, name] == 1


def test_kept_is_asked_per_operation():
    assert kept(torch.tensor([[1e-6, 9.9e-7, 0.5, 0.0]], dtype=torch.float64)) == [[True, False, True, False]]


# --- the cell -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", STRIDES)
def test_a_cell_by_hand(stride):  # Eqs. 7, 8, 9 and the 1x1 convolution after them
    cell, alpha, x = drawn(SearchCell(C, stride, FULL)), alphas("random", 10), features()
    cell.eval()

    def edge(e, source):
        operations = cell.edges[e].operations
        return sum(alpha[e, k] * operations[name](source) for k, name in enumerate(FULL) if name != "none")

    z1 = edge(0, x)
    z2 = edge(1, x) + edge(2, z1)
    joint = torch.cat([z1, z2], dim=1)
    convolution, bn = cell.project
    mixed = torch.einsum("oc,bchw->bohw", convolution.weight[:, :, 0, 0], joint)
    mean, var, gamma, beta = (t[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
    expected = (mixed - mean) / torch.sqrt(var + bn.eps) * gamma + beta
    torch.testing.assert_close(cell(x, alpha), expected, rtol=1e-10, atol=1e-10)
    assert joint.shape[1] == 2 * C and expected.shape[1] == C


def test_only_the_edges_that_leave_x_are_strided():  # section III-A.1; z1 and z2 have one size
    cell = SearchCell(C, 2, FULL, out_channels=6).double()
    assert SearchCell.EDGES == EDGES and [edge.stride for edge in cell.edges] == [2, 2, 1]
    assert cell(features(7, 5), alphas("random", 10)).shape == (3, 6, 4, 3)


def test_alpha_is_an_argument_and_learns():  # Eq. 6: the gradient reaches every alpha that is computed
    cell, alpha = SearchCell(C, 1, FULL).double(), alphas("random", 10).requires_grad_()
    cell(features(), alpha).square().sum().backward()
    computed = [k for k, name in enumerate(FULL) if name != "none"]
    assert (alpha.grad[:, computed] != 0).all() and not alpha.grad[:, FULL.index("none")].any()


def test_an_unknown_primitive_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'max_pool_3x3'"):
        SearchCell(C, 1, ("conv_1x1", "maxpool_3x3"))


# --- what is left of it ---------------------------------------------------------------------------------------------

CELLS = [
    ("sep_conv_3x3", "dil_conv_5x5", "conv_1x1"),
    ("skip_connect", "squeeze_excite", "max_pool_3x3"),
    ("dil_conv_3x3", "skip_connect", "skip_connect"),
    ("conv_1x1", "none", "sep_conv_5x5"),
    ("avg_pool_3x3", "conv_1x1", "none"),
    ("sep_conv_3x3", "none", "none"),
    ("none", "dil_conv_3x3", "none"),
]


def one_hot(operations):
    alpha = torch.zeros(3, 10, dtype=torch.float64)
    for e, name in enumerate(operations):
        alpha[e, FULL.index(name)] = 1
    return alpha


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("operations", CELLS)
def test_a_derived_cell_by_plain_composition(operations, stride):  # Eqs. 7-9 with one operation an edge
    cell, x = drawn(DerivedCell(C, stride, operations, 6)).eval(), features()
    assert set(cell.edges) == {str(e) for e, name in enumerate(operations) if name != "none"}
    run = lambda e, source: cell.edges[str(e)](source)  # noqa: E731
    z1 = None if operations[0] == "none" else run(0, x)
    terms = [run(1, x)] if operations[1] != "none" else []
    terms += [run(2, z1)] if operations[2] != "none" else []
    nodes = ([] if z1 is None else [z1]) + ([torch.stack(terms).sum(0)] if terms else [])
    expected = cell.project(torch.cat(nodes, dim=1))
    torch.testing.assert_close(cell(x), expected, rtol=1e-12, atol=1e-12)
    assert cell.project[0].in_channels == C * len(nodes) and expected.shape[1] == 6


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("operations", CELLS)
def test_inherited_weights_compute_what_the_supernet_computed(operations, stride):
    """A supernet's cell with all weight on one operation an edge equals the derived cell that inherited from it."""
    searched = drawn(SearchCell(C, stride, FULL, 6)).eval()
    derived = DerivedCell(C, stride, operations, 6).double().eval()
    derived.inherit(searched)
    torch.testing.assert_close(
        derived(features()), searched(features(), one_hot(operations)), rtol=1e-12, atol=1e-12
    )


def test_inheriting_copies_and_does_not_share():
    searched = drawn(SearchCell(C, 2, FULL))
    derived = DerivedCell(C, 2, ("conv_1x1", "skip_connect", "sep_conv_3x3")).double()
    derived.inherit(searched)
    for parameter in searched.parameters():
        parameter.data.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in derived.parameters())


def test_an_edge_out_of_a_removed_node_is_removed():  # derivation rule: z1 is absent, and with it what would leave it
    cell = DerivedCell(C, 1, ("none", "conv_1x1", "sep_conv_3x3"))
    assert set(cell.edges) == {"1"} and cell.nodes == ["z2"]


def test_a_cell_without_a_path_is_refused():
    with pytest.raises(ValueError, match="no path"):
        DerivedCell(C, 1, ("none", "none", "conv_1x1"))


# --- what a primitive declares --------------------------------------------------------------------------------------


def test_the_folded_sum_dispatches_on_what_a_primitive_declares():
    """A primitive registered from outside is computed by the form it declares, whatever its name and class."""
    called = []

    @PRIMITIVES.register("twice")
    class Twice(Primitive):
        def forward(self, x):
            return 2 * x

        def scaled(self, x, weight):
            called.append("scaled")
            return 2 * weight * x

    @PRIMITIVES.register("thrice")
    class Thrice(Primitive):
        gates = True

        def forward(self, x):
            return 3 * x

        def gate(self, x):
            called.append("gate")
            return x.new_full((), 3.0)

    @PRIMITIVES.register("negative")
    class Negative(Primitive):
        parameter_free = True

        def forward(self, x):
            called.append("forward")
            return -x

    try:
        names = ("twice", "thrice", "negative")
        cell = SearchCell(C, 1, names).double()
        x, alpha = features(), torch.softmax(torch.randn(3, 3, dtype=torch.float64), dim=-1)
        z1 = cell.edges[0](Source(x), alpha[0], [True] * 3)
        torch.testing.assert_close(z1, (2 * alpha[0, 0] + 3 * alpha[0, 1] - alpha[0, 2]) * x)
        assert called == ["scaled", "gate", "forward"]
        cell(x, alpha)
        assert called.count("forward") == 1 + 2  # the two edges from x share one
    finally:
        for name in ("twice", "thrice", "negative"):
            del PRIMITIVES._things[name]


def test_edge_weights_multiply_whole_edges():  # `Relaxation.edge_weights`
    cell, alpha, x = drawn(SearchCell(C, 1, FULL)).eval(), alphas("random", 10), features()
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(cell(x, alpha, None, ones), cell(x, alpha))
    only_skip = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    z1 = cell.edges[0](Source(x), alpha[0], kept(alpha)[0])
    expected = cell.project(torch.cat([z1, torch.zeros_like(z1)], dim=1))
    torch.testing.assert_close(cell(x, alpha, None, only_skip), expected)

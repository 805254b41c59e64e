"""The ten primitives against plain computations: loops over positions in NumPy, float64 (section III-A.1, Eqs. 1-5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bionas.errors import UnknownName
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES, build, primitive_set

C = 4
SIZES = [(6, 6), (7, 5)]
STRIDES = [1, 2]


def features(height, width, batch=2, channels=C, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)


def primitive(name, stride, channels=C):
    """A primitive in float64 whose every parameter is drawn, so that gamma = 1 and beta = 0 hide nothing."""
    torch.manual_seed(1)
    operation = build(name, channels, stride).double()
    with torch.no_grad():
        for parameter in operation.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return operation


# --- the plain computations -----------------------------------------------------------------------------------------


def convolved(x, weight, stride, padding, dilation=1, groups=1):
    """Convolution as a loop over output positions and kernel taps; x (B, C, H, W), weight (O, C/groups, k, k)."""
    x, weight = np.asarray(x), weight.detach().numpy()
    b, c, h, w = x.shape
    o, per_group, k, _ = weight.shape
    reach = dilation * (k - 1) + 1
    padded = np.zeros((b, c, h + 2 * padding, w + 2 * padding))
    padded[:, :, padding : padding + h, padding : padding + w] = x
    rows, columns = (h + 2 * padding - reach) // stride + 1, (w + 2 * padding - reach) // stride + 1
    out = np.zeros((b, o, rows, columns))
    for channel in range(o):
        inputs = slice(channel // (o // groups) * per_group, (channel // (o // groups) + 1) * per_group)
        for i in range(rows):
            for j in range(columns):
                top, left = i * stride, j * stride
                patch = padded[:, inputs, top : top + reach : dilation, left : left + reach : dilation]
                out[:, channel, i, j] = (patch * weight[channel]).sum(axis=(1, 2, 3))
    return out


def normalised(x, bn):
    """Batch normalisation in training: the batch's own mean and (biased) variance a channel."""
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    gamma, beta = (p.detach().numpy()[None, :, None, None] for p in (bn.weight, bn.bias))
    return (x - mean) / np.sqrt(var + bn.eps) * gamma + beta


def neighbourhoods(x, stride, outside):
    """The nine values around each sampled position: (9, B, C, H', W'), `outside` beyond the border."""
    b, c, h, w = x.shape
    padded = np.full((b, c, h + 2, w + 2), outside)
    padded[:, :, 1:-1, 1:-1] = x
    return np.stack(
        [padded[:, :, u : u + h : stride, v : v + w : stride] for u in range(3) for v in range(3)]
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def agree(found, expected):
    return np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-11)


# --- the equations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "k"), [("sep_conv_3x3", 3), ("sep_conv_5x5", 5)])
def test_separable_convolution(name, k, size, stride):  # Eq. 1: ReLU(BN(W_pw * (x *_dw W_dw,k)))
    x, operation = features(*size), primitive(name, stride)
    depthwise, pointwise = (layer.weight for layer in operation.convolution)
    assert depthwise.shape == (C, 1, k, k) and pointwise.shape == (C, C, 1, 1)
    plain = convolved(convolved(x, depthwise, stride, k // 2, groups=C), pointwise, 1, 0)
    agree(operation(x), np.maximum(normalised(plain, operation.bn), 0))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "k"), [("dil_conv_3x3", 3), ("dil_conv_5x5", 5)])
def test_dilated_convolution(name, k, size, stride):  # Eq. 2: D = 2
    x, operation = features(*size), primitive(name, stride)
    assert operation.convolution.weight.shape == (
        C,
        C,
        k,
        k,
    )  # over all channels: the equation separates nothing
    plain = convolved(x, operation.convolution.weight, stride, padding=k - 1, dilation=2)
    agree(operation(x), np.maximum(normalised(plain, operation.bn), 0))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
def test_pointwise_convolution(size, stride):  # Eq. 3: Conv_1x1 with stride s
    x, operation = features(*size), primitive("conv_1x1", stride)
    weight = operation.convolution.weight.detach().numpy()[:, :, 0, 0]
    plain = np.einsum("oc,bchw->bohw", weight, x.numpy()[:, :, ::stride, ::stride])
    agree(operation(x), np.maximum(normalised(plain, operation.bn), 0))


@pytest.mark.parametrize("channels", [4, 32])
def test_squeeze_and_excitation(channels):  # Eq. 4: g = sigmoid(W2 relu(W1 GAP(x))), y = x . g, r = 4
    x, operation = features(6, 5, channels=channels), primitive("squeeze_excite", 1, channels)
    assert operation.w1.out_features == max(channels // 4, 4)
    layers = (operation.w1, operation.w2)
    w1, b1, w2, b2 = (p.detach().numpy() for layer in layers for p in (layer.weight, layer.bias))
    squeezed = x.numpy().mean(axis=(2, 3))
    gate = sigmoid(np.maximum(squeezed @ w1.T + b1, 0) @ w2.T + b2)
    agree(operation(x), x.numpy() * gate[:, :, None, None])


@pytest.mark.parametrize("size", SIZES)
def test_squeeze_and_excitation_at_stride_two_gates_the_halved_map(
    size,
):  # Eq. 4 has no stride: declared assumption
    x, operation = features(*size), primitive("squeeze_excite", 2)
    gate = operation.gate(x).detach().numpy()  # of the whole map
    rows, columns = (-(-side // 2) for side in size)
    halved = np.zeros((2, C, rows, columns))
    for i in range(rows):
        for j in range(columns):
            halved[:, :, i, j] = x.numpy()[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(2, 3))
    agree(operation(x), halved * gate)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
def test_pools(size, stride):  # Eq. 5: the mean over |N| = 9 and the maximum over the neighbourhood
    x = features(*size)
    around = neighbourhoods(x.numpy(), stride, outside=0.0)
    agree(build("avg_pool_3x3", C, stride)(x), around.sum(axis=0) / 9)
    around = neighbourhoods(x.numpy(), stride, outside=-np.inf)  # a zero of the padding is no maximum
    agree(build("max_pool_3x3", C, stride)(x), around.max(axis=0))


def test_average_pool_counts_the_padding():  # Eq. 5: |N| = 9, also at the border
    y = build("avg_pool_3x3", C)(torch.ones(1, C, 3, 3))[0, 0]
    assert y[0, 0] == pytest.approx(4 / 9) and y[0, 1] == pytest.approx(6 / 9) and y[1, 1] == 1


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
def test_none_gives_zeros_down_sampled_at_stride_two(size, stride):  # text under Eq. 5
    y = build("none", C, stride)(features(*size))
    assert y.shape == (2, C, *(-(-side // stride) for side in size)) and not y.any()


def test_skip_at_stride_one_is_the_input():  # text under Eq. 5: y = x
    x = features(6, 5)
    assert build("skip_connect", C)(x) is x


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("size", SIZES)
def test_skip_at_stride_two_concatenates_shifted_features(size, channels):  # text under Eq. 5
    x, operation = features(*size, channels=channels), primitive("skip_connect", 2, channels)
    even, odd = (layer.weight.detach().numpy()[:, :, 0, 0] for layer in (operation.even, operation.odd))
    assert len(even) == channels // 2 and len(even) + len(odd) == channels
    beyond = np.zeros((2, channels, size[0] + 1, size[1] + 1))
    beyond[:, :, :-1, :-1] = x.numpy()
    shifted = beyond[:, :, 1:, 1:]
    halves = [
        np.einsum("oc,bchw->bohw", w, part[:, :, ::2, ::2]) for w, part in ((even, x.numpy()), (odd, shifted))
    ]
    agree(operation(x), normalised(np.concatenate(halves, axis=1), operation.bn))


def test_the_shifted_half_sees_what_the_other_half_cannot():  # why the features are shifted: no position is lost
    operation = primitive("skip_connect", 2).eval()
    plain, marked = features(6, 6), features(6, 6)
    marked[:, :, 3, 3] += 1  # an odd position
    difference = (operation(marked) - operation(plain)).abs().sum(dim=(0, 2, 3)) > 0
    assert difference.tolist() == [False, False, True, True]


# --- what every primitive promises ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", [*SIZES, (2, 2), (1, 1)])
@pytest.mark.parametrize("name", list(PRIMITIVES))
def test_every_primitive_keeps_channels_and_divides_sides_upwards(name, size, stride):
    assert build(name, C, stride).double()(features(*size)).shape == (
        2,
        C,
        *(-(-side // stride) for side in size),
    )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("name", list(PRIMITIVES))
def test_scaled_is_the_weight_times_forward(name, stride, training):  # running statistics included
    one, other = primitive(name, stride).train(training), primitive(name, stride).train(training)
    for weight in (0.7, 1e-5):
        for seed in range(2):
            x, w = features(6, 5, seed=seed), torch.tensor(weight, dtype=torch.float64)
            expected = w * one(x)
            torch.testing.assert_close(other.scaled(x, w), expected, rtol=1e-12, atol=1e-12 * weight)
    for (key, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", list(PRIMITIVES))
def test_what_is_shared_between_edges_has_no_parameters(name):  # DESIGN: computed once a source
    for stride in STRIDES:
        operation = build(name, C, stride)
        assert operation.parameter_free == (not operation.state_dict())


def test_sets_have_ten_six_and_four_members():  # Table I
    assert {name: len(PRIMITIVE_SETS[name]) for name in PRIMITIVE_SETS} == {
        "full": 10,
        "reduced": 6,
        "conv_only": 4,
    }
    assert (
        primitive_set("full")
        == tuple(PRIMITIVES)
        == (
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
            "conv_1x1",
            "squeeze_excite",
            "avg_pool_3x3",
            "max_pool_3x3",
            "skip_connect",
            "none",
        )
    )
    for members in PRIMITIVE_SETS.values():
        assert len(set(members)) == len(members) and set(members) <= set(PRIMITIVES)
    assert all("conv" in name for name in primitive_set("conv_only"))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="unknown primitive 'sep_conv3x3'. Did you mean 'sep_conv_3x3'"):
        build("sep_conv3x3", C)
    with pytest.raises(UnknownName, match="Did you mean 'conv_only'"):
        primitive_set("convonly")


def test_a_stride_or_width_that_makes_no_primitive_is_refused():
    with pytest.raises(ValueError, match="stride is 3"):
        build("conv_1x1", C, 3)
    with pytest.raises(ValueError, match="at least 2"):
        build("skip_connect", 1, 2)

"""The ten primitives of the search space (section III-A.1, Eqs. 1-5) and the named sets of them.

Every primitive maps (B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)) for stride 1 or 2. `build` makes one by
name; `PRIMITIVES` keeps them in the order of alpha's last axis. A primitive has two forward forms: `forward(x)` is the
equation, `scaled(x, weight)` is `weight * forward(x)` for a weight > 0, with fewer operations where the equation allows
it. Mixed edges (`cells`) choose between the forms by the capabilities that a primitive declares, never by its name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.errors import UnknownName
from bionas.registry import Registry

PRIMITIVES: Registry[type[Primitive]] = Registry("primitive")


def build(name: str, channels: int, stride: int = 1) -> Primitive:
    """The primitive called `name` on `channels` feature maps.

    Raises:
        UnknownName: a name that is not in `PRIMITIVES`; the message lists the nearest.
        ValueError: a stride other than 1 or 2, or fewer than two channels.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride is {stride}; a primitive has stride 1 or 2")
    if channels < 2:
        raise ValueError(f"channels is {channels}; a primitive needs at least 2")
    return PRIMITIVES[name](channels, stride)


class Primitive(nn.Module):
    """A candidate operation of an edge, C channels in and out. Subclasses implement `forward`.

    Capabilities, as class or instance attributes; a mixed edge reads them in this order:

        gates: forward(x) is x * gate(x). Gates of an edge are added before they are multiplied with x.
        parameter_free: no parameters, so the result is the same on every edge that leaves the same tensor. It is
            computed once per source tensor, and the edge multiplies it by its weight.
        Neither: the mixed edge calls `scaled`, which a subclass may override.

    Attributes:
        identity: at stride 1 forward(x) is x itself (used for isomorphism in `genotype.cell_key`).
    """

    gates = False
    parameter_free = False
    identity = False

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def scaled(self, x: Tensor, weight: Tensor) -> Tensor:
        """weight (scalar, > 0) times forward(x)."""
        return weight * self(x)

    def gate(self, x: Tensor) -> Tensor:
        """g with forward(x) = x * g, of a shape that broadcasts with x. Required where `gates` is true."""
        raise NotImplementedError(f"{type(self).__name__} declares gates=True and has no gate()")


class _ConvBNReLU(Primitive):
    """ReLU(BN(convolutions)): what Eqs. 1-3 share. Subclasses fill `self.convolution`."""

    def __init__(self, channels: int, stride: int, convolution: nn.Module):
        super().__init__(channels, stride)
        self.convolution = convolution
        self.bn = nn.BatchNorm2d(channels)

    def convolve(self, x: Tensor) -> Tensor:
        return self.convolution(x)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.convolve(x)), inplace=True)

    def scaled(self, x: Tensor, weight: Tensor) -> Tensor:
        # weight > 0, so weight * relu(gamma x + beta) = relu((weight gamma) x + weight beta): no pass over the maps.
        return F.relu(scaled_batch_norm(self.bn, self.convolve(x), weight), inplace=True)


def scaled_batch_norm(bn: nn.BatchNorm2d, x: Tensor, weight: Tensor) -> Tensor:
    """weight * bn(x), the weight folded into the affine part; the running statistics advance as in `bn(x)`."""
    assert bn.num_batches_tracked is not None and bn.momentum is not None  # None only where asked for
    if bn.training:
        bn.num_batches_tracked.add_(1)
    normalise = getattr(bn, "normalise", None)  # its own way: over several processes (`training.distributed`)
    if normalise is not None:
        return normalise(x, weight * bn.weight, weight * bn.bias)
    return F.batch_norm(
        x,
        bn.running_mean,
        bn.running_var,
        weight * bn.weight,
        weight * bn.bias,
        bn.training,
        bn.momentum,
        bn.eps,
    )


class _SeparableConv(_ConvBNReLU):
    """Depthwise separable convolution D_k: y = ReLU(BN(W_pw * (x *_dw W_dw,k))) (Eq. 1; Howard et al. 2017)."""

    def __init__(self, channels: int, stride: int, kernel: int):
        super().__init__(
            channels,
            stride,
            nn.Sequential(
                nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
            ),
        )


@PRIMITIVES.register("sep_conv_3x3")
class SeparableConv3x3(_SeparableConv):
    """D_3 of Eq. 1."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride, kernel=3)


@PRIMITIVES.register("sep_conv_5x5")
class SeparableConv5x5(_SeparableConv):
    """D_5 of Eq. 1."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride, kernel=5)


class _SampledConv(_ConvBNReLU):
    """A convolution that at stride 2 reads even rows and columns only, computed as a dense one on x sampled there.

    Exact, and on a CPU two to three times faster with its gradients than the strided call.
    """

    def convolve(self, x: Tensor) -> Tensor:
        return self.convolution(x if self.stride == 1 else even(x))


def even(x: Tensor) -> Tensor:
    """x (B, C, H, W) at even rows and columns: (B, C, ceil(H/2), ceil(W/2))."""
    return x[:, :, ::2, ::2]


class _DilatedConv(_SampledConv):
    """Dilated convolution L_k, full over channels: y = ReLU(BN(Conv_kxk^{D=2}(x))) (Eq. 2; Yu and Koltun 2016).

    With dilation 2 and stride 2 every tap falls on an even position, so both are in the sampling.
    """

    def __init__(self, channels: int, stride: int, kernel: int):
        dilation = 2 if stride == 1 else 1
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, bias=False)
        super().__init__(channels, stride, convolution)


@PRIMITIVES.register("dil_conv_3x3")
class DilatedConv3x3(_DilatedConv):
    """L_3 of Eq. 2."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride, kernel=3)


@PRIMITIVES.register("dil_conv_5x5")
class DilatedConv5x5(_DilatedConv):
    """L_5 of Eq. 2."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride, kernel=5)


@PRIMITIVES.register("conv_1x1")
class Conv1x1(_SampledConv):
    """y = ReLU(BN(Conv_1x1,s(x))) (Eq. 3): mixes channels, and samples every s-th position."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride, nn.Conv2d(channels, channels, 1, bias=False))


MIN_HIDDEN = 4
"""Smallest hidden layer of squeeze-and-excitation: with fewer units a narrow network has no gate to speak of."""


@PRIMITIVES.register("squeeze_excite")
class SqueezeExcite(Primitive):
    """y = x . sigmoid(W_2 relu(W_1 GAP(x))) (Eq. 4; Hu et al. 2018), r = 4, at least 4 hidden units.

    The equation has no stride. At stride 2 the gate is computed from the whole map and x is averaged over 2x2
    (our assumption: a down-sampling that adds no parameter and loses no position).
    """

    def __init__(self, channels: int, stride: int = 1, reduction: int = 4):
        super().__init__(channels, stride)
        self.gates = stride == 1
        hidden = max(channels // reduction, MIN_HIDDEN)
        self.w1 = nn.Linear(channels, hidden)
        self.w2 = nn.Linear(hidden, channels)

    def gate(self, x: Tensor) -> Tensor:
        """g of Eq. 4, (B, C, 1, 1), in (0, 1)."""
        squeezed = x.mean(dim=(2, 3))
        return torch.sigmoid(self.w2(F.relu(self.w1(squeezed))))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return half(x, self.stride) * self.gate(x)

    def scaled(self, x: Tensor, weight: Tensor) -> Tensor:
        return half(x, self.stride) * (weight * self.gate(x))


def half(x: Tensor, stride: int) -> Tensor:
    """x averaged over 2x2 at stride 2 (odd sides: the last row and column by themselves), x itself at stride 1."""
    return x if stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


@PRIMITIVES.register("avg_pool_3x3")
class AvgPool3x3(Primitive):
    """P_a of Eq. 5: the sum over the 3x3 neighbourhood divided by |N| = 9, so the padding counts."""

    parameter_free = True

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=True)


@PRIMITIVES.register("max_pool_3x3")
class MaxPool3x3(Primitive):
    """P_m of Eq. 5: the maximum over the 3x3 neighbourhood."""

    parameter_free = True

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, self.stride, padding=1)


@PRIMITIVES.register("skip_connect")
class SkipConnect(Primitive):
    """y = x at stride 1; at stride 2 "down-sampling and concatenate shifted features" (text under Eq. 5).

    The shifted halves: a 1x1 convolution of x at even positions and one of x shifted by one pixel, C/2 channels each,
    concatenated and normalised, as in the factorised reduction of DARTS (Liu et al. 2019).
    """

    identity = True

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride)
        self.gates = self.parameter_free = stride == 1
        if stride == 2:
            self.even = nn.Conv2d(channels, channels // 2, 1, bias=False)
            self.odd = nn.Conv2d(channels, channels - channels // 2, 1, bias=False)
            self.bn = nn.BatchNorm2d(channels)

    def _halves(self, x: Tensor) -> Tensor:
        # The shift keeps the size (a zero row and column enter at the far side), so odd sides need no special case.
        return torch.cat([self.even(even(x)), self.odd(even(F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))))], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.stride == 1 else self.bn(self._halves(x))

    def scaled(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * x if self.stride == 1 else scaled_batch_norm(self.bn, self._halves(x), weight)

    def gate(self, x: Tensor) -> Tensor:
        return x.new_ones(())


@PRIMITIVES.register("none")
class Zero(Primitive):
    """y = 0, down-sampled at stride 2. Cells never compute it; its alpha only reduces the other weights."""

    parameter_free = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


PRIMITIVE_SETS: dict[str, tuple[str, ...]] = {
    "full": (
        "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "conv_1x1", "squeeze_excite", "avg_pool_3x3",
        "max_pool_3x3", "skip_connect", "none",
    ),
    "reduced": ("sep_conv_3x3", "dil_conv_3x3", "conv_1x1", "max_pool_3x3", "skip_connect", "none"),
    "conv_only": ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
}  # fmt: skip
"""Table I's three sets. The paper gives the counts 10, 6 and 4 only; the members of the last two are our assumption.

`conv_only` has neither conv_1x1 nor `none`: with four members the two kernel sizes of both convolutions are the only
regular choice, and every edge of such a network is kept."""


def primitive_set(name: str) -> tuple[str, ...]:
    """The primitives of a named set.

    Raises:
        UnknownName: not one of `PRIMITIVE_SETS`.
    """
    if name not in PRIMITIVE_SETS:
        raise UnknownName("primitive set", name, PRIMITIVE_SETS)
    return PRIMITIVE_SETS[name]

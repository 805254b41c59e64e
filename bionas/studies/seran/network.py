"""SERAN: squeeze-and-excitation and residual attention modules alternating in a ResNet, and what it is compared with.

`SEGate`, `Bottleneck` and `AttentionModule` are its three modules (sections 3.1 to 3.3), `CompanionNetwork` strings them
together after an `Architecture`, and `ROWS` holds every row of its Tables 1 and 2, and SENet-154, under one name each; `build` makes one
at any width. The text gives counts of modules and of parameters; which module stands where, how wide and how deep is our
assumption, kept as data in `seran_study.assumptions`. Shapes are (batch, C, H, W) throughout.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.errors import TrainingError, UnknownName
from bionas.registry import Registry
from bionas.specimens.metadata import Metadata

REDUCTION = 16
"""C over the width between the two excitation layers (Hu et al. 2018); the text gives none."""

POOLS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}

STAGE_WIDTHS = (256, 512, 1024, 2048)
"""C of the four stages at width 1, as in ResNet-50 and Attention-92; their maps are 56, 28, 14 and 7 at 224 px."""

GROUPS = 64
"""Of the 3x3 convolutions of SENet-154 at width 1 (Hu et al. 2018)."""

POOLINGS = (3, 2, 1)
"""Depth of the soft mask by stage: each mask reaches down to 1/32 of the image (maps of 56, 28 and 14 at 224 px)."""


class SEGate(nn.Module):
    """x * sigmoid(W2 relu(W1 mean(x)))   (section 3.2: squeeze by global pooling, excitation by two 1x1 convolutions)."""

    def __init__(self, channels: int):
        super().__init__()
        between = max(1, channels // REDUCTION)
        self.excitation = nn.Sequential(
            nn.Conv2d(channels, between, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(between, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, every channel weighted by its gate in 0..1."""
        return x * self.excitation(x.mean(dim=(2, 3), keepdim=True))


class Bottleneck(nn.Module):
    """Residual block of three convolutions, 1x1, 3x3, 1x1, each with BN; ReLU after the first two and after the sum.

    Args:
        inputs, channels: C in and out; C / 4 in between.
        stride: of the 3x3 convolution.
        gated: an SE gate on the residual branch before the identity is added: the SE-ResNet module.
    """

    def __init__(self, inputs: int, channels: int, stride: int = 1, gated: bool = False):
        super().__init__()
        between = channels // 4
        self.body = nn.Sequential(
            *_conv_bn(inputs, between, 1),
            nn.ReLU(inplace=True),
            *_conv_bn(between, between, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_bn(between, channels, 1),
        )
        self.gate = SEGate(channels) if gated else nn.Identity()
        same = inputs == channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(inputs, channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H / stride, W / stride)."""
        return F.relu(self.gate(self.body(x)) + self.shortcut(x))


class GroupedBottleneck(nn.Module):
    """Block of SENet-154 (Hu et al. 2018): 1x1 to C / 2, grouped 3x3 to C, 1x1, an SE gate, then the identity is added.

    Args:
        inputs, channels: C in and out.
        stride: of the 3x3 convolution; the shortcut is then a 3x3 convolution as well.
        groups: of the 3x3 convolution; they divide C / 2.
    """

    def __init__(self, inputs: int, channels: int, stride: int, groups: int):
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            *_conv_bn(inputs, half, 1),
            nn.ReLU(inplace=True),
            *_conv_bn(half, channels, 3, stride, groups),
            nn.ReLU(inplace=True),
            *_conv_bn(channels, channels, 1),
        )
        self.gate = SEGate(channels)
        same = inputs == channels and stride == 1
        kernel = 1 if stride == 1 else 3
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(inputs, channels, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H / stride, W / stride)."""
        return F.relu(self.gate(self.body(x)) + self.shortcut(x))


class SoftMask(nn.Module):
    """The mask branch M (section 3.3; Wang et al. 2017): bottom-up by pooling, top-down by interpolation, laterals between.

    Args:
        channels: C.
        poolings: how often the map is halved.
        r: residual blocks between two poolings.
        pool: a name of `POOLS`.
    """

    def __init__(self, channels: int, poolings: int, r: int = 1, pool: str = "max"):
        super().__init__()
        self.poolings = poolings
        self.pool = POOLS[pool](3, stride=2, padding=1)
        self.down = nn.ModuleList(_blocks(channels, r) for _ in range(poolings))
        self.lateral = nn.ModuleList(Bottleneck(channels, channels) for _ in range(poolings - 1))
        self.bottom = _blocks(channels, r)
        self.up = nn.ModuleList(_blocks(channels, r) for _ in range(poolings - 1))
        self.output = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> M of the same shape, in 0..1."""
        size, laterals = x.shape[-2:], []
        for i, blocks in enumerate(self.down):
            x = blocks(self.pool(x))
            if i < len(self.lateral):
                laterals.append(self.lateral[i](x))
        x = self.bottom(x)
        for lateral, blocks in zip(reversed(laterals), self.up, strict=True):
            x = blocks(_enlarged(x, lateral.shape[-2:]) + lateral)
        return self.output(_enlarged(x, size))


class AttentionModule(nn.Module):
    """H = (1 + M) * T between p residual blocks before and p after (section 3.3; Wang et al. 2017, Eq. 3).

    Args:
        channels: C, in and out.
        poolings: depth of the mask.
        p, t, r: residual blocks before and after the split, in the trunk, and between two poolings of the mask.
        pool: of the mask, a name of `POOLS`.
    """

    def __init__(self, channels: int, poolings: int, p: int = 1, t: int = 2, r: int = 1, pool: str = "max"):
        super().__init__()
        self.before = _blocks(channels, p)
        self.trunk = _blocks(channels, t)
        self.mask = SoftMask(channels, poolings, r, pool)
        self.after = _blocks(channels, p)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.before(x)
        return self.after((1 + self.mask(x)) * self.trunk(x))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a row is made of.

    Attributes:
        stages: four words, one a stage, a letter a module in order: r residual block, s SE-ResNet module, a attention
            module, g block of SENet-154. The first of a word sets the stage's width, and from the second stage on halves
            the map.
        stem: "three_3x3" (section 3.1), "three_3x3_wide" (SENet-154's, twice as wide) or "one_7x7" (the ResNets'); a pool
            of stride 2 follows each.
        pool: "max" or "avg", in the stem and in the masks.
        dropout: before the classifier.
    """

    stages: tuple[str, str, str, str]
    stem: str = "one_7x7"
    pool: str = "max"
    dropout: float = 0.0

    def count(self, letter: str) -> int:
        """How many modules of a kind."""
        return sum(stage.count(letter) for stage in self.stages)

    def without_gates(self) -> Architecture:
        """Every SE module replaced by a residual block (section 4.2)."""
        return self._replacing("s", "r")

    def without_attention(self) -> Architecture:
        """Every attention module removed (Table 2)."""
        return self._replacing("a", "")

    def _replacing(self, letter: str, by: str) -> Architecture:
        first, second, third, fourth = (stage.replace(letter, by) for stage in self.stages)
        return dataclasses.replace(self, stages=(first, second, third, fourth))


class CompanionNetwork(nn.Module):
    """Stem, four stages of modules, global average, dropout, linear classifier.

    Args:
        architecture: what stands where.
        n_classes: of the classifier.
        width: share of the full channels; 64 x width is a whole number, at least 4.

    Raises:
        TrainingError: a width that leaves a module without channels.
    """

    def __init__(self, architecture: Architecture, n_classes: int, width: float = 1.0):
        super().__init__()
        narrow = 64 * width
        if narrow < 4 or narrow != int(narrow):
            raise TrainingError(
                f"width={width:g}: it is a multiple of 1/64 and at least 1/16, such as 0.25 or 1."
            )
        self.architecture, self.width = architecture, width
        inputs = int(narrow) * (2 if architecture.stem == "three_3x3_wide" else 1)
        self.stem = _stem(architecture.stem, inputs, architecture.pool)
        modules: list[nn.Module] = []
        for stage, word in enumerate(architecture.stages):
            channels = int(STAGE_WIDTHS[stage] * width)
            for place, letter in enumerate(word):
                stride = 2 if stage and place == 0 else 1
                if letter == "g":
                    modules.append(GroupedBottleneck(inputs, channels, stride, int(GROUPS * width)))
                else:
                    modules.append(_module(letter, inputs, channels, stride, stage, architecture.pool))
                inputs = channels
        self.body = nn.Sequential(*modules)
        self.head = nn.Sequential(nn.Dropout(architecture.dropout), nn.Linear(inputs, n_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as the ResNets begin
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor, metadata: Metadata | None = None) -> Tensor:
        """image (B, 3, S, S), S at least 32 -> logits (B, n_classes); the metadata are left unread."""
        return self.head(self.body(self.stem(image)).mean(dim=(2, 3)))


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of its tables.

    Attributes:
        title: as this project writes it.
        architecture: what it is made of.
        published: the model's name in each published table that has it.
        published_parameters: with a 1000-way classifier; None where no text gives them.
        parameters_from: the source of `parameters`.
    """

    title: str
    architecture: Architecture
    published: dict[str, str]
    published_parameters: float | None = None
    parameters_from: str = ""


SENET_154_PARAMETERS = 115.089e6
"""SENet-154 with a 1000-way classifier (Hu et al. 2018), from which the text counts."""

SERAN_D = Architecture(
    ("rars", "rars", "rarsrars", "rrr" + "sr" * 4 + "ss"), stem="three_3x3", dropout=0.2
)  # ten SE modules, four attention modules
SERAN = dataclasses.replace(
    SERAN_D, stages=("rar", "rar", "rarsrrs", "rrr" + "r" * 4 + "ss")
)  # four and three

ROWS: Registry[Row] = Registry("row of SERAN's tables")
for _name, _row in {
    "resnet101": Row(
        "ResNet-101",
        Architecture(("rrr", "rrrr", "r" * 23, "rrr")),
        {"seran_table1": "ResNet-101"},
        44_549_160,
        "He et al. 2016, as torchvision counts it",
    ),
    "resnet152": Row(
        "ResNet-152",
        Architecture(("rrr", "r" * 8, "r" * 36, "rrr")),
        {"seran_table1": "ResNet-152"},
        60_192_808,
        "He et al. 2016, as torchvision counts it",
    ),
    "attention92": Row(
        "Attention-92",
        Architecture(("ra", "raa", "raaa", "rrr")),
        {"seran_table1": "Attention-92 (RAN)"},
        51.3e6,
        "Wang et al. 2017",
    ),
    "se_resnet101": Row(
        "SE-ResNet-101",
        Architecture(("sss", "ssss", "s" * 23, "sss")),
        {"seran_table1": "SE-ResNet-101"},
        49.33e6,
        "Hu et al. 2018, counted from the published network",
    ),
    "senet154": Row(
        "SENet-154",
        Architecture(("ggg", "g" * 8, "g" * 36, "ggg"), stem="three_3x3_wide", dropout=0.2),
        {"seran_text": "SENet-154"},
        SENET_154_PARAMETERS,
        "Hu et al. 2018, counted from the published network",
    ),
    "seran": Row(
        "SERAN",
        SERAN,
        {"seran_table1": "SERAN", "seran_table2": "SERAN (one RAN and six SE modules removed from SERAN-D)"},
        SENET_154_PARAMETERS - 21.6e6 - 28.7e6,
        "section 4.2: 2.87e7 fewer than SERAN-D",
    ),
    "seran_d": Row(
        "SERAN-D",
        SERAN_D,
        {"seran_table1": "SERAN-D", "seran_table2": "SERAN-D with max pooling"},
        SENET_154_PARAMETERS - 21.6e6,
        "section 4.2: 2.16e7 fewer than SENet-154",
    ),
    "seran_d_avg_pool": Row(
        "SERAN-D, average pooling",
        dataclasses.replace(SERAN_D, pool="avg"),
        {"seran_table2": "SERAN-D with avg pooling"},
    ),
    "seran_d_ran_only": Row(
        "SERAN-D, attention only",
        SERAN_D.without_gates(),
        {"seran_table2": "SERAN-D RAN only (all SE modules removed)"},
    ),
    "seran_d_se_only": Row(
        "SERAN-D, SE only",
        SERAN_D.without_attention(),
        {"seran_table2": "SERAN-D SE only (all RAN modules removed)"},
    ),
}.items():
    ROWS.register(_name)(_row)


@dataclasses.dataclass(frozen=True)
class Size:
    """A width and the side of the image in pixels that goes with it."""

    width: float
    image_size: int


SIZES: dict[str, Size] = {"full": Size(1.0, 224), "quarter": Size(0.25, 64), "tiny": Size(1 / 16, 64)}
"""`full` is the paper's. `quarter` and `tiny` are width-reduced versions, ours, for machines without a GPU: a quarter and a
sixteenth of every channel count, at the same depth."""


def size(name: str) -> Size:
    """A named size.

    Raises:
        UnknownName: not one of `SIZES`.
    """
    if name not in SIZES:
        raise UnknownName("size", name, SIZES)
    return SIZES[name]


def build(row: str, n_classes: int, width: float = 1.0) -> CompanionNetwork:
    """A row of `ROWS`, freshly initialised; below width 1 its width-reduced version.

    Raises:
        UnknownName: no such row.
        TrainingError: a width too small.
    """
    return CompanionNetwork(ROWS[row].architecture, n_classes, width)


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _blocks(channels: int, n: int) -> nn.Sequential:
    return nn.Sequential(*(Bottleneck(channels, channels) for _ in range(n)))


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _stem(kind: str, channels: int, pool: str) -> nn.Sequential:
    """(B, 3, S, S) -> (B, channels, S / 4, S / 4)."""
    if kind == "one_7x7":
        layers = [*_conv_bn(3, channels, 7, 2), nn.ReLU(inplace=True)]
    else:
        half = channels // 2
        layers = []
        for inputs, outputs, stride in ((3, half, 2), (half, half, 1), (half, channels, 1)):
            layers += [*_conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, POOLS[pool](3, stride=2, padding=1))


def _module(letter: str, inputs: int, channels: int, stride: int, stage: int, pool: str) -> nn.Module:
    if letter == "a":
        return AttentionModule(channels, POOLINGS[stage], pool=pool)
    return Bottleneck(inputs, channels, stride, gated=letter == "s")

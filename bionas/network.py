"""BioAutoML-NAS (section III-A.2): image encoder, metadata encoder (Eq. 10), fusion and head (Eq. 11).

`SearchNetwork` is the supernet with its architecture parameters theta; `DerivedNetwork` is built from a `Genotype`. Only
their cells differ. Sizes come as a `NetworkConfig`, by name from `PRESETS`. Both are called
`network(image, metadata) -> logits`; metadata may have no fields (image only). The paper gives no stem, depth or width:
those here are our assumption, declared in `NetworkConfig` and the presets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from bionas.cells import DerivedCell, FoldedSum, MixedEdge, Relaxation, SearchCell, kept
from bionas.errors import GenotypeError, SpecimenError, UnknownName
from bionas.fusion import FEATURES, FUSIONS, WITHOUT_METADATA, ImageFeatures, MetadataFeatures, Sizes, head
from bionas.fusion.interface import Fusion, Metadata
from bionas.genotype import EDGES, Genotype, derive
from bionas.operators import primitive_set
from bionas.registry import Registry

THETA_STD = {"sd": 1e-3, "variance": math.sqrt(1e-3)}
"""theta ~ N(0, 1e-3): 1e-3 read as a standard deviation (default, the convention of differentiable search) or as a
variance. The paper does not say which."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The sizes of a network.

    Attributes:
        image_size: side of the square input, pixels.
        channels: C of the first cells; doubled in the first reduction cell, `last_width` times C from the second on.
        cells: number of cells; those at 1/3 and 2/3 of the depth are reduction cells.
        stem: a name of `STEMS`, with an argument after a colon where the stem takes one.
        stem_stride: 1, 2 or 4: how much the stem of 3x3 convolutions down-samples.
        dropout: probability, in the head and the metadata encoder. The paper names dropout and no rate.
        embedding: d_f of Eq. 10, the same for every field.
        shared_theta: one theta for all cells instead of one per cell.
        theta_init: how theta ~ N(0, 1e-3) is read, a name of `THETA_STD`.
        last_width: channels after the second reduction, as a multiple of C. With 4 they double once more.
    """

    image_size: int = 64
    channels: int = 16
    cells: int = 4
    stem_stride: int = 2
    dropout: float = 0.2
    embedding: int = 16
    shared_theta: bool = False
    last_width: int = 4
    stem: str = "conv"
    theta_init: str = "sd"

    def __post_init__(self):
        if self.theta_init not in THETA_STD:
            raise UnknownName("theta_init", self.theta_init, THETA_STD)

    @property
    def reductions(self) -> tuple[bool, ...]:
        """Which cells halve the map and widen the channels: at 1/3 and 2/3 of the depth."""
        at = {self.cells // 3, 2 * self.cells // 3}
        return tuple(i in at for i in range(self.cells))

    def stages(self) -> list[tuple[int, int, int]]:
        """(channels, stride, out_channels) of each cell. A cell before a reduction cell already widens its output."""
        multiples = (1, 2, self.last_width)
        wide = [self.channels * multiples[sum(self.reductions[: i + 1])] for i in range(self.cells)]
        return [
            (wide[i], 2 if self.reductions[i] else 1, wide[min(i + 1, self.cells - 1)])
            for i in range(self.cells)
        ]

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Index of the last cell of each resolution: those before a reduction, and the last one."""
        return tuple(i for i in range(self.cells) if i + 1 == self.cells or self.reductions[i + 1])


PRESETS: dict[str, NetworkConfig] = {
    "tiny": NetworkConfig(image_size=64, channels=8, cells=3, stem_stride=4),
    "quick": NetworkConfig(image_size=64, channels=16, cells=3, stem_stride=4),
    "narrow": NetworkConfig(image_size=64, channels=8, cells=6, stem_stride=2),
    "laptop": NetworkConfig(image_size=64, channels=32, cells=6, stem_stride=4),
    "on_stem": NetworkConfig(image_size=224, channels=64, cells=2, last_width=2),
    "paper": NetworkConfig(image_size=224, channels=64, cells=8, stem_stride=4, last_width=8),
}
"""`tiny` and `quick` take seconds and minutes; `narrow` searches at full depth and twice the resolution of `laptop`
with few channels, for derived networks that are then trained as wide as their MACs allow (`Plan.max_mmacs`). `on_stem` has
few cells, for the small maps of a pretrained stem. `paper` is fitted to the 2.95 GFLOPs and 40.06 MB that the paper prints,
read as MACs and fp32 weights: the medians over random genotypes of the full set (`benchmarks/table1_cost.py`)."""


def preset(name: str) -> NetworkConfig:
    """A named size.

    Raises:
        UnknownName: not one of `PRESETS`.
    """
    if name not in PRESETS:
        raise UnknownName("network preset", name, PRESETS)
    return PRESETS[name]


STEMS: Registry[Callable[[NetworkConfig, str], nn.Module]] = Registry("stem")
"""Stem by name: called with the network's sizes and the text after the colon of `NetworkConfig.stem` ("" without one), it
returns a module (B, 3, S, S) -> (B, C, h, w), C = `config.stages()[0][0]`."""


def require_stem(name: str) -> None:
    """Raises UnknownName unless the part before the colon is one of `STEMS`."""
    if name.partition(":")[0] not in STEMS:
        raise UnknownName(STEMS.kind, name.partition(":")[0], STEMS)


def build_stem(config: NetworkConfig) -> nn.Module:
    """The stem that a configuration names.

    Raises:
        UnknownName: not one of `STEMS`.
    """
    name, _, argument = config.stem.partition(":")
    return STEMS[name](config, argument)


@STEMS.register("conv")
def _conv_stem(config: NetworkConfig, argument: str) -> nn.Sequential:
    """3x3 convolutions with BN and ReLU, trained from scratch; `config.stem_stride` 4 takes two. It has no argument."""
    channels, stride = config.stages()[0][0], config.stem_stride
    if argument:
        raise ValueError(f"stem is {config.stem!r}; 'conv' takes no argument")
    if stride not in (1, 2, 4):
        raise ValueError(f"stem_stride is {stride}; it is 1, 2 or 4")
    layers, inputs = [], 3
    for step in [2, 2] if stride == 4 else [stride]:
        layers += [
            nn.Conv2d(inputs, channels, 3, step, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        inputs = channels
    return nn.Sequential(*layers)


def to_features(channels: int) -> nn.Sequential:
    """The step to 256-d: 1x1 convolution, BN, ReLU, (B, channels, H, W) -> (B, 256, H, W); its average over the map is X_img.

    The paper says that image features are 256-d, not how they are obtained (our assumption). Widening each position
    before averaging keeps what a narrow network would lose by averaging first, as the last 1x1 convolution of
    MobileNetV2 does, for 256 C MACs per position.
    """
    return nn.Sequential(
        nn.Conv2d(channels, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU(inplace=True)
    )


class MetadataEncoder(nn.Module):
    """X_meta = F_meta(Concat[E1[m1], ..., EF[mF]])   (Eq. 10), a two-layer network to 256-d.

    The paper's fields are all categorical. Numeric ones (coordinates, measurements) are concatenated as they are,
    standardised; a missing one is replaced by a learned value and has a flag beside it.

    Args:
        vocabulary_sizes: V_f of each categorical field, index 0 (unknown or missing) included.
        n_numeric: number of numeric fields.
        embedding: d_f.
        dropout: between the two layers.
        fields: also make one token per field, for fusions that read them.
    """

    def __init__(
        self,
        vocabulary_sizes: Sequence[int],
        n_numeric: int = 0,
        embedding: int = 16,
        dropout: float = 0.2,
        fields: bool = False,
    ):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding) for size in vocabulary_sizes)
        self.missing = nn.Parameter(torch.zeros(n_numeric))
        inputs = len(self.embeddings) * embedding + 2 * n_numeric
        self.project = nn.Sequential(
            nn.Linear(inputs, FEATURES), nn.ReLU(), nn.Dropout(dropout), nn.Linear(FEATURES, FEATURES)
        )
        self.fields = FieldTokens(len(vocabulary_sizes), n_numeric, embedding) if fields else None

    def forward(self, metadata: Metadata) -> Tensor:
        """X_meta: categorical (B, F) int64, numeric (B, G) with NaN where missing -> (B, 256)."""
        return self.features(metadata).vector

    def features(self, metadata: Metadata) -> MetadataFeatures:
        """X_meta and what fusions may read beside it."""
        embedded = [table(metadata.categorical[:, f]) for f, table in enumerate(self.embeddings)]
        absent = torch.isnan(metadata.numeric)
        numeric = torch.where(absent, self.missing.expand_as(metadata.numeric), metadata.numeric)
        first, relu, drop, second = self.project
        hidden = relu(first(torch.cat([*embedded, numeric, absent.to(numeric.dtype)], dim=1)))
        return MetadataFeatures(
            vector=second(drop(hidden)),
            hidden=hidden,
            present=torch.cat([metadata.categorical != 0, ~absent], dim=1),
            fields=None if self.fields is None else self.fields(embedded, numeric),
        )


class FieldTokens(nn.Module):
    """One token per field: an embedding through a linear layer of its own; a number times a vector, plus a vector
    (the feature tokenizer of Gorishniy et al. 2021)."""

    def __init__(self, n_categorical: int, n_numeric: int, embedding: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(inputs, FEATURES) for inputs in [embedding] * n_categorical + [1] * n_numeric
        )

    def forward(self, embedded: Sequence[Tensor], numeric: Tensor) -> Tensor:
        """embedded: (B, d_f) per categorical field; numeric (B, G) -> (B, F + G, 256)."""
        fields = [*embedded, *numeric.split(1, dim=1)]
        return torch.stack([layer(field) for layer, field in zip(self.layers, fields, strict=True)], dim=1)


class MetadataNetwork(nn.Module):
    """The metadata encoder (Eq. 10) and the head (Eq. 11), without an image: the control on records alone.

    Args:
        config: for its embedding and dropout.
        n_classes, vocabulary_sizes, n_numeric: as in `SearchNetwork`; at least one field.

    Raises:
        ValueError: no field.
    """

    def __init__(
        self, config: NetworkConfig, n_classes: int, vocabulary_sizes: Sequence[int] = (), n_numeric: int = 0
    ):
        super().__init__()
        if not (len(vocabulary_sizes) or n_numeric):
            raise ValueError("a network of metadata alone needs at least one field")
        self.metadata_encoder = MetadataEncoder(vocabulary_sizes, n_numeric, config.embedding, config.dropout)
        self.head = head(FEATURES, n_classes, config.dropout)

    def forward(self, image: Tensor | None, metadata: Metadata) -> Tensor:
        """metadata of B specimens -> logits (B, n_classes); `image` is ignored."""
        return self.head(self.metadata_encoder(metadata))


class _Network(nn.Module):
    """What supernet and derived network share: stem, step to 256-d, metadata encoder, fusion, head.

    Raises:
        UnknownName: no such fusion or stem.
        SpecimenError: a fusion that joins images with metadata, and no metadata.
    """

    def __init__(
        self,
        config: NetworkConfig,
        cells: Sequence[nn.Module],
        n_classes: int,
        vocabulary_sizes: Sequence[int] = (),
        n_numeric: int = 0,
        fusion: str = "concatenation",
    ):
        super().__init__()
        self.config, self.n_classes = config, n_classes
        self.stem = build_stem(config)
        self.cells = nn.ModuleList(cells)
        self.to_features = to_features(config.stages()[-1][2])
        self.metadata_encoder: MetadataEncoder | None = None
        self.fusion: Fusion | None = None
        kind = FUSIONS[fusion]
        if len(vocabulary_sizes) or n_numeric:
            self.metadata_encoder = MetadataEncoder(
                vocabulary_sizes, n_numeric, config.embedding, config.dropout, kind.reads_fields
            )
            earlier = tuple(config.stages()[i][2] for i in config.resolutions[:-1])
            self.fusion = kind(Sizes(n_classes, earlier, config.dropout))
        elif fusion != WITHOUT_METADATA:
            raise SpecimenError(
                f"fusion={fusion!r} joins images with metadata, and there is no metadata here: the source has no fields, "
                f'or metadata="none". For images alone leave fusion={WITHOUT_METADATA!r}, which then joins nothing; for '
                "this fusion use records with metadata and a metadata preset that they fill."
            )
        if self.fusion is not None and self.fusion.predicts:
            self.head: nn.Module = nn.Identity()
        else:
            self.head = head(self.fusion.out_features if self.fusion else FEATURES, n_classes, config.dropout)
        self.to(memory_format=torch.channels_last)

    def maps(self, image: Tensor) -> Iterator[Tensor]:
        """image (B, 3, S, S) -> the output of each cell in turn."""
        x = self.stem(image)
        for cell in self.cells:
            x = cell(x)
            yield x

    def image_features(self, image: Tensor) -> ImageFeatures:
        """image (B, 3, S, S) -> X_img (B, 256) and what fusions may read beside it."""
        earlier = self.config.resolutions[:-1] if self.fusion is not None and self.fusion.reads_stages else ()
        stages = []
        for i, x in enumerate(self.maps(image)):
            if i in earlier:
                stages.append(x.mean(dim=(2, 3)))
        places = self.to_features(x)
        return ImageFeatures(places.mean(dim=(2, 3)), places, tuple(stages))

    def forward(self, image: Tensor, metadata: Metadata | None = None) -> Tensor:
        """image (B, 3, S, S), metadata of the same B -> logits (B, n_classes)   (Eq. 11)."""
        features = self.image_features(image)
        if self.fusion is None or self.metadata_encoder is None:
            return self.head(features.vector)
        assert metadata is not None  # a network with a fusion is given metadata
        return self.head(self.fusion(features, self.metadata_encoder.features(metadata)))


class SearchNetwork(_Network):
    """The supernet: every edge computes all its primitives, weighted by alpha = softmax(theta) (Eqs. 6 and 14).

    theta is a parameter, so it is in `state_dict`; `weights()` and `architecture()` are what the two optimisers update.
    Change theta in place (`with torch.no_grad(): theta.copy_(...)`), not through `theta.data`: the pruning mask is read
    anew when theta's version has changed.

    Args:
        config: sizes.
        n_classes: of the head.
        vocabulary_sizes, n_numeric: of the metadata encoding; both empty for images alone.
        primitives: name of a primitive set.
        fusion: name of a fusion.
        edge: the form of the mixed edge.
        relaxation: how theta becomes the weights of the operations; softmax unless given.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_classes: int,
        vocabulary_sizes: Sequence[int] = (),
        n_numeric: int = 0,
        primitives: str = "full",
        fusion: str = "concatenation",
        edge: type[MixedEdge] = FoldedSum,
        relaxation: Relaxation | None = None,
    ):
        names = primitive_set(primitives)
        cells = [SearchCell(c, stride, names, out, edge) for c, stride, out in config.stages()]
        super().__init__(config, cells, n_classes, vocabulary_sizes, n_numeric, fusion)
        self.primitive_set, self.primitives = primitives, names
        rows = 1 if config.shared_theta else config.cells
        self.theta = nn.Parameter(torch.randn(rows, len(EDGES), len(names)) * THETA_STD[config.theta_init])
        self.relaxation = Relaxation() if relaxation is None else relaxation
        self.frozen = frozenset(name for name, p in self.named_parameters() if not p.requires_grad)
        self._mask: tuple[Tensor, int, list] | None = None

    def alpha(self, theta: Tensor | None = None) -> Tensor:
        """(cells, 3, K), each edge summing to 1 (Eqs. 6 and 14); of another theta than the present one if given."""
        theta = self.theta if theta is None else theta
        return self.relaxation.alpha(theta).expand(self.config.cells, -1, -1)

    def maps(self, image: Tensor) -> Iterator[Tensor]:
        weights = self.relaxation(self.theta).expand(self.config.cells, -1, -1)
        keep, edges = self._kept(weights), self.relaxation.edge_weights()
        x = self.stem(image)
        for i, cell in enumerate(self.cells):
            x = cell(x, weights[i], keep[i], None if edges is None else edges[i])
            yield x

    def _kept(self, weights: Tensor) -> list:
        """`kept(weights)`, read once per update of theta: reading it makes a GPU wait."""
        theta = self.theta
        if self.relaxation.varies or not isinstance(
            theta, nn.Parameter
        ):  # a substituted theta has no history
            return kept(weights)
        if self._mask is None or self._mask[0] is not theta or self._mask[1] != theta._version:
            self._mask = (theta, theta._version, kept(weights))
        return self._mask[2]

    def architecture(self) -> list[nn.Parameter]:
        """theta and the relaxation's own parameters: what the odd steps of Algorithm 1 update."""
        return [self.theta, *self.relaxation.parameters()]

    def weights(self) -> list[nn.Parameter]:
        """w: everything else but what a pretrained stem keeps frozen; what the even steps update."""
        architecture = {id(p) for p in self.architecture()}
        return [p for n, p in self.named_parameters() if id(p) not in architecture and n not in self.frozen]

    def genotype(self) -> Genotype:
        """The network that would be derived now (section III-B.2)."""
        alphas = self.alpha().detach().cpu().double()
        weights = (alphas / alphas.sum(-1, keepdim=True)).numpy()
        return derive(weights, self.primitives, self.config.reductions, self.primitive_set)


class DerivedNetwork(_Network):
    """The network of a genotype: one primitive per edge.

    Args:
        genotype: as many cells as `config.cells`, reductions in the same places.
        config, n_classes, vocabulary_sizes, n_numeric, fusion: as in `SearchNetwork`.

    Raises:
        GenotypeError: the genotype is of another depth, or reduces elsewhere.
    """

    def __init__(
        self,
        genotype: Genotype,
        config: NetworkConfig,
        n_classes: int,
        vocabulary_sizes: Sequence[int] = (),
        n_numeric: int = 0,
        fusion: str = "concatenation",
    ):
        genotype.require(config.reductions)
        cells = [
            DerivedCell(c, stride, cell.operations, out)
            for (c, stride, out), cell in zip(config.stages(), genotype.cells)
        ]
        super().__init__(config, cells, n_classes, vocabulary_sizes, n_numeric, fusion)
        self.genotype = genotype

    def inherit(self, supernet: SearchNetwork) -> None:
        """Copy every weight that the supernet trained for the chosen primitives, and all weights outside the cells.

        Raises:
            GenotypeError: the supernet was built with other primitives than the genotype uses, or with other sizes.
        """
        used = {n for cell in self.genotype.cells for n in cell.operations} - {"none"}
        if missing := used - set(supernet.primitives):
            raise GenotypeError(
                f"the genotype uses {', '.join(sorted(missing))}, which the supernet's primitive set "
                f"{supernet.primitive_set!r} does not have. Derive it from a search over the same set."
            )
        apart = ("theta", "relaxation.", "cells.")
        states = (network.state_dict().items() for network in (supernet, self))
        trained, own = ({k: v for k, v in state if not k.startswith(apart)} for state in states)
        shapes, own_shapes = ({k: v.shape for k, v in part.items()} for part in (trained, own))
        if supernet.config.stages() != self.config.stages() or shapes != own_shapes:
            raise GenotypeError(
                "supernet and derived network differ in their sizes, classes, metadata or fusion: nothing can be inherited."
            )
        self.load_state_dict(trained, strict=False)  # strict would ask for the cells, which follow
        for cell, searched in zip(self.cells, supernet.cells):
            assert isinstance(cell, DerivedCell) and isinstance(searched, SearchCell)
            cell.inherit(searched)

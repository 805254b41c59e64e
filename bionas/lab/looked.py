"""What a network looked at: Grad-CAM (Selvaraju et al., ICCV 2017) on the last feature map of a backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bionas.lab.networks import Classifier


def last_map(backbone: nn.Module, size: int) -> nn.Module | None:
    """The last module of a backbone whose output still has a spatial extent, for images of `size` pixels."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            found.append(module)

    hooks = [module.register_forward_hook(note) for module in backbone.modules()]
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1] if found else None


def looked_at(network: Classifier, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Which parts of each photograph speak most for a class.

    Args:
        network: in inference mode.
        layer: from `last_map`.
        images: (B, 3, S, S) of 0..255.
        classes: (B,) the class asked about.

    Returns:
        uint8 (B, s, s), each photograph scaled to 0..255; zero where nothing speaks for the class.
    """
    kept: dict[str, Tensor] = {}

    def keep(_: nn.Module, __: tuple, output: Tensor) -> None:
        kept["map"] = output.requires_grad_(True)

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network.eval()(images)
            chosen = logits.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, kept["map"])
    finally:
        hook.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = torch.relu((weights * kept["map"].detach()).sum(dim=1))
    highest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return (255 * heat / highest).round().to(torch.uint8)

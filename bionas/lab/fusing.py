"""A copy of a network for inference: batch normalisation folded into the convolutions before it."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3
"""Largest difference of a feature, relative to the largest feature, that folding may cause."""


def folded(backbone: nn.Module, size: int) -> nn.Module:
    """The backbone with folded normalisation, or itself where folding would change what it computes.

    Folding takes a convolution and the normalisation that follows it in the same block to be called one after the
    other. Whether that holds is checked on random images of `size` pixels.
    """
    fast = copy.deepcopy(backbone).eval()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        _fold(fast)
        fast.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            plain, quick = backbone.eval()(images), fast(images)
    except (RuntimeError, AttributeError, TypeError):  # a block that uses its layers in another way
        return backbone
    return fast if (plain - quick).abs().max() <= TOLERANCE * plain.abs().max() else backbone


def _fold(module: nn.Module) -> None:
    children = list(module.named_children())
    for (name, convolution), (norm_name, norm) in pairwise(children):
        if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        if convolution.out_channels == norm.num_features:
            setattr(module, name, fuse_conv_bn_eval(convolution, norm))
            setattr(
                module, norm_name, getattr(norm, "act", nn.Identity())
            )  # timm's normalisation holds an activation
    for _, child in module.named_children():
        _fold(child)

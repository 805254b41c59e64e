"""CoAtNet-7 (Dai et al. 2021, Table III of the paper), assembled from timm's parts, as timm has no preset for it.

Stem 192 at 1/2; 2 MBConv 256 at 1/4; 4 MBConv 512 at 1/8; 8 MBConv 1024 and, past a 1x1 convolution to 2048, 42
transformer blocks at 1/16; 2 transformer blocks 3072 at 1/32; heads of 128. No weights of it were ever published (they were
learnt on JFT-3B, which is not public).
"""

from __future__ import annotations

from typing import Any

from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitStage, MaxxVitTransformerCfg
from torch import nn


def coatnet_7(
    n_classes: int,
    image_size: int,
    widths: tuple[int, ...] = (192, 256, 512, 1024, 2048, 3072),
    depths: tuple[int, ...] = (2, 4, 8, 42, 2),
    head_dim: int = 128,
) -> nn.Module:
    """(B, 3, S, S) -> (B, n_classes), or pooled features (B, `head_hidden_size`) where n_classes is 0.

    Args:
        image_size: S, a multiple of 32: the relative position biases are built for it.
        widths: channels of the stem and of each group of blocks, the third stage's two groups apart.
        depths: blocks of each group.
        head_dim: width of an attention head.
    """
    stem, first, second, convolutional, attending, last = widths
    transformer, convolution = MaxxVitTransformerCfg(dim_head=head_dim), MaxxVitConvCfg()
    config = MaxxVitCfg(
        embed_dim=(first, second, convolutional, last),
        depths=(*depths[:3], 0),
        block_type=("C", "C", "C", "T"),
        stem_width=(stem, stem),
        conv_cfg=convolution,
        transformer_cfg=transformer,
        head_hidden_size=last,
    )
    network = MaxxVit(config, img_size=image_size, num_classes=n_classes)

    def attention(inputs: int, outputs: int, depth: int, reduction: int) -> MaxxVitStage:
        stage = MaxxVitStage(
            inputs,
            outputs,
            stride=1 if inputs == outputs else 2,
            depth=depth,
            block_types="T",
            feat_size=(image_size // reduction,) * 2,
            transformer_cfg=transformer,
            conv_cfg=convolution,
            drop_path=[0.0] * depth,
        )
        blocks: Any = stage.blocks  # timm's, with methods of their own
        for block in blocks:
            block.init_weights(config.weight_init)
        return stage

    network.stages[2] = nn.Sequential(
        network.stages[2],
        nn.Conv2d(convolutional, attending, 1),
        attention(attending, attending, depths[3], 16),
    )
    network.stages[3] = attention(attending, last, depths[4], 32)
    return network

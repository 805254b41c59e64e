"""Drawings of whole networks, made from live models: BioAutoML-NAS (the paper's Fig. 1) and SERAN (its Fig. 2).

Shapes on the arrows are those of the tensors that the model computes for one blank image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bionas.figures.drawings.svg import (
    FAINT,
    QUIET,
    Drawing,
    arrow,
    box,
    document,
    group,
    number,
    text,
    text_width,
)
from bionas.figures.palette import GRID, INK, PAPER, PRIMITIVE_COLORS
from bionas.specimens.metadata import Metadata

if TYPE_CHECKING:  # what is drawn is given: nothing of it has to be imported
    from bionas.network import DerivedNetwork, MetadataEncoder, SearchNetwork
    from bionas.studies.seran.network import CompanionNetwork

WIDTH = 700
"""SVG units: drawings are read at 700 pixels."""

IMAGE_FILL, METADATA_FILL, JOINT_FILL = "#e7eef6", "#f6ecd9", "#f3e3ec"
"""Background of boxes that hold image features, metadata features, and both."""

EDGE_NAMES = ("x→z1", "x→z2", "z1→z2")


def network_svg(network: SearchNetwork | DerivedNetwork, title: str = "") -> Drawing:
    """Stem, cells with their operations, 256-d features, metadata encoder, fusion and head, with shapes on the arrows.

    Args:
        network: a `SearchNetwork` or `DerivedNetwork`; its parameters and statistics are left as they are.
        title: above the drawing; states what the network is.
    """
    shapes = _shapes(network)
    derived: Any = getattr(network, "genotype", None) if hasattr(network, "inherit") else None
    left, wide, step = 20, 420, 74
    centre = left + wide / 2
    title = title or (
        "The derived network" if derived else "The supernet: every edge computes all its primitives"
    )
    parts = [text(left, 32, title, size=16, weight=600)]
    y = 52
    parts.append(box(centre - 90, y, 180, 32, f"image  {_shape(shapes['image'])}", fill=IMAGE_FILL))
    rows: list[tuple[str, str | None, tuple[int, ...], Any]] = [
        ("stem", _stem_words(network.stem), shapes["stem"], None)
    ]
    for i, reduction in enumerate(network.config.reductions):
        name = f"cell {i}" + (" · reduction, stride 2" if reduction else "")
        operations = derived.cells[i].operations if derived else None
        rows.append((name, None, shapes[f"cell {i}"], operations))
    rows.append(("to 256 channels", "1×1 convolution, BN, ReLU", shapes["places"], None))
    y += 32
    for name, words, shape, operations in rows:
        parts.append(arrow([(centre, y), (centre, y + 22)]))
        y += 22
        if name.startswith("cell"):
            parts.append(_cell_row(left, y, wide, name, operations, getattr(network, "primitives", ())))
            y += step - 22
        else:
            parts.append(box(centre - 160, y, 320, 34, f"{name}: {words}", fill=IMAGE_FILL))
            y += 34
        parts.append(text(centre + 12, y + 15, _shape(shape), size=12, fill=QUIET))
    parts.append(arrow([(centre, y), (centre, y + 22)]))
    y += 22
    parts.append(box(centre - 160, y, 320, 34, "average over the map:  X_img  256", fill=IMAGE_FILL))
    bottom = y + 34
    encoder = network.metadata_encoder
    right = left + wide + 20
    if encoder is not None:
        parts.append(_metadata_column(encoder, right, WIDTH - 20 - right, bottom))
    y = bottom
    middle = WIDTH / 2 if encoder is not None else centre
    if network.fusion is not None:
        parts.append(arrow([(centre, y), (centre, y + 30)]))
        column = right + (WIDTH - 20 - right) / 2
        parts.append(arrow([(column, y), (column, y + 30)]))
        y += 30
        parts.append(
            box(left, y, WIDTH - 40, 36, f"fusion: {_fusion_name(network)}", fill=JOINT_FILL, weight=600)
        )
        y += 36
    parts.append(arrow([(middle, y), (middle, y + 26)]))
    if not (network.fusion is not None and network.fusion.predicts):
        parts.append(text(middle + 12, y + 17, _shape(shapes["fused"]), size=12, fill=QUIET))
        y += 26
        parts.append(
            box(middle - 200, y, 400, 34, "head: dropout, 256, ReLU, dropout, classes", fill=JOINT_FILL)
        )
        y += 34
        parts.append(arrow([(middle, y), (middle, y + 26)]))
    y += 26
    parts.append(box(middle - 90, y, 180, 32, f"{network.n_classes} logits", fill="#fff"))
    words = ", ".join(f"{row[0]}" + (f" ({', '.join(row[3])})" if row[3] else "") for row in rows)
    ending = "metadata encoder, fusion and head" if encoder is not None else "head"
    return document("".join(parts), WIDTH, y + 48, f"{title}: image, {words}, average, {ending}")


def seran_svg(network: CompanionNetwork, title: str = "") -> Drawing:
    """SERAN's architecture: stem, four stages of modules, average and classifier, from a `CompanionNetwork`.

    Args:
        network: its `architecture` says what is where; channels are read from the modules.
        title: above the drawing.
    """
    architecture = network.architecture
    counted = f"{architecture.count('s')} SE and {architecture.count('a')} attention modules"
    title = title or f"{counted} alternate in four stages"
    gated = PRIMITIVE_COLORS["squeeze_excite"]
    colors = {"r": "#cfd8e3", "s": gated, "a": PRIMITIVE_COLORS["dil_conv_3x3"], "g": gated}
    names = {
        "r": "residual block",
        "s": "SE-ResNet module",
        "a": "attention module",
        "g": "grouped SE block",
    }
    parts = [text(20, 32, title, size=16, weight=600)]
    x: float = 20
    for letter, name in names.items():
        if architecture.count(letter):
            parts.append(box(x, 48, 16, 16, fill=colors[letter], radius=3))
            parts.append(text(x + 23, 61, f"{name} ({architecture.count(letter)})", size=12.5))
            x += 40 + text_width(f"{name} ({architecture.count(letter)})", 12.5)
    y = 84
    kernels = [
        f"{m.kernel_size[0]}×{m.kernel_size[0]}" for m in network.stem.modules() if isinstance(m, nn.Conv2d)
    ]
    stem = f"image, stem: {len(kernels)} convolution{'s' * (len(kernels) > 1)} of {kernels[0]}, pool"
    parts.append(box(20, y, 430, 32, stem, fill=IMAGE_FILL))
    parts.append(text(466, y + 21, "side / 4", size=12, fill=QUIET))
    y += 32
    at = 0
    for stage, word in enumerate(architecture.stages):
        parts.append(arrow([(60, y), (60, y + 22)]))
        y += 22
        per_row = 14
        lines = [word[i : i + per_row] for i in range(0, len(word), per_row)] or [""]
        height = 20 + 34 * len(lines)
        parts.append(box(20, y, 430, height, fill=PAPER, stroke=GRID))
        for row, line in enumerate(lines):
            for column, letter in enumerate(line):
                place = (32 + column * 29, y + 12 + 34 * row, 24, 28)
                ink = "#fff" if letter in "sg" else INK
                parts.append(box(*place, letter, fill=colors[letter], radius=4, size=12.5, ink=ink))
        channels = _channels(network.body[at : at + len(word)])
        words = f"stage {stage + 1}: {channels} channels, side / {4 * 2**stage}"
        parts.append(text(466, y + height / 2 + 4, words, size=12, fill=QUIET))
        y, at = y + height, at + len(word)
    parts.append(arrow([(60, y), (60, y + 22)]))
    y += 22
    classes = network.head[-1].out_features
    parts.append(box(20, y, 430, 32, f"average over the map, dropout, {classes} logits", fill=JOINT_FILL))
    y += 62
    inset, inset_height = _attention_module(network)
    parts.append(group(inset, 20, y))
    return document(
        "".join(parts), WIDTH, y + inset_height + 14, f"{title}. Stages: {', '.join(architecture.stages)}"
    )


def _attention_module(network: CompanionNetwork) -> tuple[str, float]:
    """The inset: H = (1 + M) * T, with the number of blocks of the first attention module; "" without one."""
    module: Any = next((m for m in network.body if hasattr(m, "mask")), None)
    if module is None:
        return "", 0
    before, trunk, after = (len(part) for part in (module.before, module.trunk, module.after))
    color = PRIMITIVE_COLORS["dil_conv_3x3"]
    mask = ["mask M: pool, blocks,", "enlarge, sigmoid: 0 to 1"]
    parts = [
        text(0, 0, "One attention module: H = (1 + M) T", size=13.5, weight=600),
        box(0, 44, 120, 40, _blocks(before)),
        arrow([(120, 64), (140, 64), (140, 40), (164, 40)]),
        arrow([(120, 64), (140, 64), (140, 94), (164, 94)], color),
        box(164, 20, 190, 40, f"trunk T: {_blocks(trunk)}"),
        box(164, 74, 190, 44, mask, stroke=color, size=12.5),
        arrow([(354, 40), (398, 40), (398, 64), (418, 64)]),
        arrow([(354, 96), (398, 96), (398, 64), (418, 64)], color),
        box(418, 44, 90, 40, "(1 + M) T", stroke=color),
        arrow([(508, 64), (530, 64)]),
        box(530, 44, 120, 40, _blocks(after)),
    ]
    return "".join(parts), 124


def _blocks(n: int) -> str:
    return f"{n} block" + ("" if n == 1 else "s")


def _channels(modules: nn.Sequential) -> int:
    """Channels that leave the first block of a stage."""
    convolutions = [m for m in modules[0].modules() if isinstance(m, nn.Conv2d)]
    return max(m.out_channels for m in convolutions)


def _cell_row(
    x: float, y: float, wide: float, name: str, operations: Sequence[str] | None, primitives: Sequence[str]
) -> str:
    parts = [box(x, y, wide, 52, fill=PAPER, stroke=INK), text(x + 12, y + 18, name, size=12.5, weight=600)]
    each = (wide - 24) / 3
    for i, edge in enumerate(EDGE_NAMES):
        left = x + 12 + i * each
        if operations is None:  # a strip with a stripe per primitive
            stripe = (each - 46) / len(primitives)
            parts.append(text(left, y + 41, edge, size=11, fill=QUIET))
            for k, primitive in enumerate(primitives):
                color = PRIMITIVE_COLORS[primitive]
                parts.append(
                    f'<rect x="{number(left + 38 + k * stripe)}" y="{number(y + 29)}" width="{number(stripe - 1)}" '
                    f'height="15" fill="{color}"/>'
                )
            continue
        operation = operations[i]
        removed = operation == "none"
        color = FAINT if removed else PRIMITIVE_COLORS[operation]
        parts.append(f'<circle cx="{number(left + 5)}" cy="{number(y + 36)}" r="5" fill="{color}"/>')
        words = "removed" if removed else operation
        parts.append(text(left + 14, y + 40.5, words, size=12, fill=QUIET if removed else INK))
    return "".join(parts)


def _metadata_column(encoder: MetadataEncoder, x: float, wide: float, bottom: float) -> str:
    """Fields -> embeddings -> concatenation -> two layers -> X_meta, ending level with X_img."""
    categorical, numeric = len(encoder.embeddings), encoder.missing.numel()
    first, second = (layer for layer in encoder.project if isinstance(layer, nn.Linear))
    fields = [f"{n} {kind}" for n, kind in ((categorical, "categorical"), (numeric, "numeric")) if n]
    steps = [(["metadata", " + ".join(fields)], f"{categorical + numeric} fields")]
    if categorical:
        steps.append(([f"{categorical} embeddings of {encoder.embeddings[0].embedding_dim}"], ""))
    steps.append((["concatenation"], f"{first.in_features}"))
    steps.append(([f"linear {first.out_features}, ReLU", f"dropout, linear {second.out_features}"], ""))
    steps.append(([f"X_meta  {second.out_features}"], ""))
    heights = [24 + 18 * len(lines) for lines, _ in steps]
    gap, parts = 22, []
    y = bottom - sum(heights) - gap * (len(steps) - 1)
    for i, ((lines, shape), height) in enumerate(zip(steps, heights, strict=True)):
        parts.append(
            box(x, y, wide, height, lines, fill=METADATA_FILL, size=12.5, weight=600 if i == 0 else 400)
        )
        y += height
        if i + 1 < len(steps):
            parts.append(arrow([(x + wide / 2, y), (x + wide / 2, y + gap)]))
            parts.append(text(x + wide / 2 + 10, y + 15, shape, size=12, fill=QUIET))
            y += gap
    return "".join(parts)


def _stem_words(stem: nn.Module) -> str:
    convolutions = [m for m in stem.modules() if isinstance(m, nn.Conv2d)]
    if len(convolutions) > 3:
        return f"{type(stem).__name__}, {len(convolutions)} convolutions"
    kinds = " and ".join(f"3×3 stride {c.stride[0]}" for c in convolutions)
    return f"{kinds}, BN, ReLU"


def _fusion_name(network: SearchNetwork | DerivedNetwork) -> str:
    from bionas.fusion import FUSIONS

    return next(
        (name for name in FUSIONS if FUSIONS[name] is type(network.fusion)), type(network.fusion).__name__
    )


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)


@torch.no_grad()
def _shapes(network: SearchNetwork | DerivedNetwork) -> dict[str, tuple[int, ...]]:
    """name -> shape without the batch, measured with one blank image and one empty record."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        return lambda module, inputs, output: shapes.__setitem__(name, tuple(output.shape[1:]))

    watched = {"stem": network.stem, "places": network.to_features, "fused": network.fusion}
    watched |= {f"cell {i}": cell for i, cell in enumerate(network.cells)}
    hooks = [
        module.register_forward_hook(note(name)) for name, module in watched.items() if module is not None
    ]
    training, weight = network.training, next(network.parameters())
    side = network.config.image_size
    image = torch.zeros(1, 3, side, side, device=weight.device, dtype=weight.dtype)
    try:
        network.eval()(image, _empty_record(network, weight))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    features = shapes["places"][:1]
    return {"image": (3, side, side), "fused": features} | shapes


def _empty_record(network: SearchNetwork | DerivedNetwork, weight: Tensor) -> Metadata | None:
    encoder = network.metadata_encoder
    if encoder is None:
        return None
    categorical = torch.zeros(1, len(encoder.embeddings), dtype=torch.long, device=weight.device)
    numeric = torch.zeros(1, encoder.missing.numel(), device=weight.device, dtype=weight.dtype)
    return Metadata(categorical, numeric)

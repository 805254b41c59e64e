"""The colours of the project: one per primitive, strategy and taxonomic order, the same in every figure.

The nine primitives that compute something wear Paul Tol's "muted" scheme, which stays apart for readers with any of
the usual colour-vision deficiencies; `none`, which computes nothing, is light grey. Relatives are close: blues for the
separable convolutions, greens for the dilated ones. Plain data: nothing here draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

INK = "#22262b"
"""Text and axes."""
PAPER = "#fdfcf9"
"""Background of every drawing: drawings bring their own, so they read on light and dark pages alike."""
GRID = "#e3e0d8"
"""Grid lines, frames, empty bars."""
ACCENT = "#c8502d"
"""Highlight of a figure."""

PRIMITIVE_COLORS: dict[str, str] = {
    "sep_conv_3x3": "#88ccee",
    "sep_conv_5x5": "#332288",
    "dil_conv_3x3": "#44aa99",
    "dil_conv_5x5": "#117733",
    "conv_1x1": "#999933",
    "squeeze_excite": "#aa4499",
    "avg_pool_3x3": "#ddcc77",
    "max_pool_3x3": "#cc6677",
    "skip_connect": "#882255",
    "none": "#c9c9c9",
}

STRATEGY_COLORS: dict[str, str] = {
    "gradient": ACCENT,
    "reinforce": "#4477aa",
    "enas": "#66ccee",
    "random": "#6b6f76",
    "evolutionary": "#228833",
    "nao": "#aa3377",
    "fixed": "#ccbb44",
    "pc_darts": "#e07b39",
    "gdas": "#f2a65a",
    "beta_darts": "#a63d40",
    "fair_darts": "#e9b44c",
    "early_stopping": "#d1495b",
    "single_path": "#00798c",
    "halving": "#5f4bb6",
    "hyperband": "#8675d6",
    "dehb": "#3a7d44",
    "warm_start": "#2a9d8f",
    "synflow": "#9a9fa8",
    "most_macs": "#45484f",
    "recommended": "#1b1b8f",
}
"""One colour per search strategy. Differentiable ones are red to orange, multi-fidelity ones violet; those that learn
nothing (random search, the most expensive network, a score without training) are grey."""

SET_COLORS: dict[str, str] = {
    "full": "#4477aa",
    "reduced": "#228833",
    "conv_only": "#aa3377",
    "fixed": "#ccbb44",
}
"""One colour per primitive set; "fixed" is the network designed by hand."""

ORDER_COLORS: dict[str, str] = {
    "Diptera": "#4477aa",
    "Hymenoptera": "#e0a100",
    "Coleoptera": "#8c4a2f",
    "Hemiptera": "#228833",
    "Lepidoptera": "#aa3377",
    "Psocodea": "#66ccee",
    "Araneae": "#2b2b4f",
    "Thysanoptera": "#bbaa33",
    "Trichoptera": "#7a6a9b",
    "Orthoptera": "#6fae3f",
    "Blattodea": "#ee6677",
    "Neuroptera": "#44bb99",
    "Ephemeroptera": "#99bbdd",
    "Plecoptera": "#557755",
    "Odonata": "#0099a8",
    "Mantodea": "#b7d36a",
    "Dermaptera": "#5c3a21",
    "Phasmatodea": "#a38b5d",
    "Chilopoda": "#d55e00",
    "Scorpiones": "#7f1d3a",
    "Entomobryomorpha": "#c3a5e0",
    "Symphypleona": "#8f7fd0",
    "Trombidiformes": "#e08fa8",
    "Sarcoptiformes": "#c0728a",
    "Mesostigmata": "#9d5a74",
    "Poduromorpha": "#6a5acd",
    "Archaeognatha": "#8d99ae",
    "Zygentoma": "#adb5bd",
    "Strepsiptera": "#f4978e",
    "Other": "#9a9a9a",
}

_SPARE = (
    "#1f6f8b",
    "#d98e04",
    "#5b8e7d",
    "#bc4b51",
    "#8e7dbe",
    "#7c6a0a",
    "#3d5a80",
    "#b56576",
    "#588157",
    "#9c6644",
)


def class_color(index_or_name: int | str, class_names: Sequence[str]) -> str:
    """The hex colour of a class: fixed for the orders above, stable from the name alone for every other.

    Two unlisted classes of one collection get two colours as long as the spare ones last.
    """
    name = class_names[index_or_name] if not isinstance(index_or_name, str) else index_or_name
    if name in ORDER_COLORS:
        return ORDER_COLORS[name]
    taken: dict[str, str] = {}
    for other in sorted({*class_names, name} - set(ORDER_COLORS)):
        start = zlib.crc32(other.encode("utf-8")) % len(_SPARE)
        rotated = _SPARE[start:] + _SPARE[:start]
        taken[other] = next((color for color in rotated if color not in taken.values()), rotated[0])
    return taken[name]

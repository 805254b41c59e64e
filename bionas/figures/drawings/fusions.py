"""Drawings of the eight fusions of Table I: what each one reads of image and record, and how it joins them."""

from __future__ import annotations

from collections.abc import Callable

from bionas.figures.drawings.svg import QUIET, Drawing, arrow, box, document, text

WIDTH = 700

IMAGE_FILL, METADATA_FILL, JOINT_FILL = "#e7eef6", "#f6ecd9", "#f3e3ec"

TOP, BOTTOM = 52, 118
"""Upper edges of the rows of the image and of the metadata."""
BOX_HEIGHT = 40


def fusion_svg(name: str, title: str = "") -> Drawing:
    """The drawing of one fusion.

    Raises:
        KeyError: a fusion without a drawing.
    """
    content, words, height = _DRAWINGS[name]()
    parts = [text(20, 32, title or name, size=16, weight=600), content]
    return document("".join(parts), WIDTH, height, f"{title or name}: {words}")


def _two_inputs(image: str | list[str], metadata: str | list[str]) -> str:
    return _box(20, TOP, 150, image, IMAGE_FILL) + _box(20, BOTTOM, 150, metadata, METADATA_FILL)


def _box(
    x: float, y: float, width: float, lines: str | list[str], fill: str = "#fff", height: float = BOX_HEIGHT
) -> str:
    return box(x, y, width, height, lines, fill=fill, size=12.5)


def _across(x0: float, x1: float, y: float) -> str:
    return arrow([(x0, y + BOX_HEIGHT / 2), (x1, y + BOX_HEIGHT / 2)])


def _merged(x0: float, x1: float, middle: float = (TOP + BOTTOM + BOX_HEIGHT) / 2) -> str:
    """Two rows into one box that begins at x1."""
    bend = (x0 + x1) / 2
    return "".join(
        arrow([(x0, y + BOX_HEIGHT / 2), (bend, y + BOX_HEIGHT / 2), (bend, middle), (x1, middle)])
        for y in (TOP, BOTTOM)
    )


MIDDLE = (TOP + BOTTOM) / 2
"""Upper edge of a box between the two rows."""


def _concatenation() -> tuple[str, str, float]:
    parts = [
        _two_inputs("X_img  256", "X_meta  256"),
        _merged(170, 230),
        _box(230, MIDDLE, 150, "concatenate", JOINT_FILL),
        _across(380, 420, MIDDLE),
        _box(420, MIDDLE, 100, "512"),
    ]
    return "".join(parts), "both vectors one after the other", 176


def _bilinear_pooling() -> tuple[str, str, float]:
    parts = [
        _two_inputs("X_img  256", "X_meta  256"),
        _across(170, 196, TOP),
        _across(170, 196, BOTTOM),
        _box(196, TOP, 150, "linear 512, tanh", IMAGE_FILL),
        _box(196, BOTTOM, 150, "linear 512, tanh", METADATA_FILL),
        _merged(346, 396),
        _box(396, MIDDLE, 110, "product ⊙", JOINT_FILL),
        _across(506, 530, MIDDLE),
        _box(530, MIDDLE, 150, ["dropout,", "linear 256"], JOINT_FILL),
    ]
    return "".join(parts), "element-wise product of two projections, projected back", 176


def _gating() -> tuple[str, str, float]:
    gate = BOTTOM + 66
    parts = [
        _two_inputs("X_img  256", "X_meta  256"),
        _across(170, 196, TOP),
        _across(170, 196, BOTTOM),
        _box(196, TOP, 130, "linear, tanh", IMAGE_FILL),
        _box(196, BOTTOM, 130, "linear, tanh", METADATA_FILL),
        arrow([(95, BOTTOM + 40), (95, gate + 20), (196, gate + 20)]),
        _box(196, gate, 200, ["gate z = sigmoid(", "linear of both), 256"], JOINT_FILL),
        _merged(326, 420),
        arrow([(396, gate + 20), (530, gate + 20), (530, MIDDLE + 40)]),
        _box(420, MIDDLE, 220, "z ⊙ image + (1 − z) ⊙ record", JOINT_FILL),
    ]
    return "".join(parts), "a learned gate weighs the two sides for each feature", 244


def _progressive() -> tuple[str, str, float]:
    parts, names = [], ["1st resolution", "2nd resolution", "last: X_img"]
    for i, name in enumerate(names):
        x = 60 + 206 * i
        last = i + 1 == len(names)
        parts.append(_box(x, 46, 150, name, IMAGE_FILL))
        parts.append(_box(x, 182, 150, "last: X_meta" if last else "hidden layer", METADATA_FILL))
        parts.append(arrow([(x + 75, 86), (x + 75, 114)]))
        parts.append(arrow([(x + 75, 182), (x + 75, 154)]))
        parts.append(_box(x, 114, 150, "linear 256, ReLU", JOINT_FILL))
        if not last:
            parts.append(arrow([(x + 150, 134), (x + 206, 134)]))
    return "".join(parts), "joined at the end of each resolution, the previous result included", 236


def _cross_attention() -> tuple[str, str, float]:
    parts = [
        _two_inputs(["X_img and", "a token per place"], ["X_meta and", "a token per field"]),
        _across(170, 210, TOP),
        _across(170, 210, BOTTOM),
        _box(210, TOP, 160, ["attends", "to the fields"], JOINT_FILL),
        _box(210, BOTTOM, 160, ["attends", "to the places"], JOINT_FILL),
        arrow([(190, TOP + 20), (190, BOTTOM + 8), (210, BOTTOM + 8)], dashed=True),
        arrow([(180, BOTTOM + 20), (180, TOP + 32), (210, TOP + 32)], dashed=True),
        _across(370, 400, TOP),
        _across(370, 400, BOTTOM),
        _box(400, TOP, 130, "self-attention", IMAGE_FILL),
        _box(400, BOTTOM, 130, "self-attention", METADATA_FILL),
        _merged(530, 570),
        _box(570, MIDDLE, 110, ["first tokens,", "512"], JOINT_FILL),
        text(20, 190, "Dashed: keys and values come from the other stream.", size=12, fill=QUIET),
    ]
    return "".join(parts), "each stream attends to the other, then to itself", 206


def _transformer() -> tuple[str, str, float]:
    parts = [
        _two_inputs(["a token per place,", "+ “image”"], ["X_meta, a token per", "field, + “record”"]),
        _merged(170, 214),
        _box(214, MIDDLE, 140, ["[CLS], record,", "places"], JOINT_FILL),
        _across(354, 380, MIDDLE),
        _box(380, MIDDLE, 150, ["2 layers of", "self-attention"], JOINT_FILL),
        _across(530, 556, MIDDLE),
        _box(556, MIDDLE, 124, ["[CLS], norm,", "256"], JOINT_FILL),
    ]
    return "".join(parts), "one sequence of places and fields under a joint encoder", 176


def _multi_head() -> tuple[str, str, float]:
    parts = [
        _box(20, TOP, 150, ["X_meta queries", "the places"], IMAGE_FILL),
        _box(20, BOTTOM, 150, ["X_img queries", "the fields"], METADATA_FILL),
        _across(170, 210, TOP),
        _across(170, 210, BOTTOM),
        _box(210, TOP, 150, ["attention,", "8 heads"], JOINT_FILL),
        _box(210, BOTTOM, 150, ["attention,", "8 heads"], JOINT_FILL),
        _across(360, 400, TOP),
        _across(360, 400, BOTTOM),
        _box(400, TOP, 130, "+ X_img", IMAGE_FILL),
        _box(400, BOTTOM, 130, "+ X_meta", METADATA_FILL),
        _merged(530, 570),
        _box(570, MIDDLE, 110, ["concatenate,", "512"], JOINT_FILL),
    ]
    return (
        "".join(parts),
        "the vector of each side attends to the tokens of the other, in eight subspaces",
        176,
    )


def _ensemble() -> tuple[str, str, float]:
    heads = (("X_img", "head", IMAGE_FILL), ("both", "head", JOINT_FILL), ("X_meta", "head", METADATA_FILL))
    parts = []
    for i, (source, words, fill) in enumerate(heads):
        y = 48 + 56 * i
        parts += [
            _box(20, y, 150, source, fill),
            _across(170, 210, y),
            _box(210, y, 190, f"{words}, softmax", fill),
        ]
        parts.append(arrow([(400, y + 20), (430, y + 20), (430, 124), (460, 124)]))
    parts.append(_box(460, 104, 200, ["log of the mean", "probability per class"], JOINT_FILL))
    return "".join(parts), "three heads predict, their probabilities are averaged", 220


_DRAWINGS: dict[str, Callable[[], tuple[str, str, float]]] = {
    "concatenation": _concatenation,
    "bilinear_pooling": _bilinear_pooling,
    "gating": _gating,
    "progressive": _progressive,
    "cross_attention": _cross_attention,
    "transformer": _transformer,
    "multi_head": _multi_head,
    "ensemble": _ensemble,
}

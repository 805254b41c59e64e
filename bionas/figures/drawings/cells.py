"""Drawings of a cell (the paper's Fig. 2: x, two nodes, three edges, concatenation and 1x1 convolution).

`cell_svg` draws one cell, `genotype_svg` all cells of a network in rows of two. Colours are those of the palette; a
removed edge is grey and dashed. Input is names of primitives, not networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from bionas.figures.drawings.svg import FAINT, QUIET, Drawing, document, group, number, text, text_width
from bionas.figures.palette import INK, PAPER, PRIMITIVE_COLORS

WIDTH, HEIGHT = 444, 212
"""Size of one cell in SVG units."""

BAND = "#f6e7d3"
"""Under the selected edge."""
_DASH = ' stroke-dasharray="3 4"'
_LABEL = 12.5

# Centres of the nodes; path of the edges x->z1, x->z2, z1->z2, and where their labels are: centred on the first two,
# ending left of z1 -> z2 on the third.
_X, _Z1, _Z2, _CONCAT, _OUT = (30, 124), (240, 70), (240, 178), (340, 124), (412, 124)
_EDGES = (
    ("M44 112 C76 80 110 70 222 70", (128, 71)),
    ("M44 136 C76 168 110 178 222 178", (128, 177)),
    ("M240 88 V158", (266, 124)),
)


def cell_svg(
    operations: Sequence[str],
    alphas: Sequence[float] | None = None,
    title: str = "",
    reduction: bool = False,
) -> Drawing:
    """One cell as a complete <svg>.

    Args:
        operations: the primitives of x->z1, x->z2 and z1->z2.
        alphas: the weight of each; written on the edge and shown as its thickness.
        title: above the drawing and in its alternative text.
        reduction: mark the edges that leave x as strided.
    """
    return document(
        cell_group(operations, alphas, title, reduction), WIDTH, HEIGHT, described(operations, title)
    )


def genotype_svg(cells: Sequence[tuple[Sequence[str], bool]], title: str = "", columns: int = 2) -> Drawing:
    """(operations, reduction) of every cell -> one <svg>, numbered from the input to the head, in rows of `columns`."""
    columns = min(columns, len(cells))
    top, gap = (34 if title else 0), 8
    parts = [text(18, 25, title, size=16, weight=600)] if title else []
    for index, (operations, reduction) in enumerate(cells):
        row, column = divmod(index, columns)
        name = f"cell {index}" + (" · reduction" if reduction else "")
        content = cell_group(operations, None, name, reduction)
        parts.append(group(content, column * (WIDTH + gap), top + row * (HEIGHT + gap)))
    rows = -(-len(cells) // columns)
    names = ". ".join(described(operations, f"cell {index}") for index, (operations, _) in enumerate(cells))
    width, height = columns * (WIDTH + gap) - gap, top + rows * (HEIGHT + gap) - gap
    return document("".join(parts), width, height, f"{title}. {names}" if title else names)


def cell_group(
    operations: Sequence[str],
    alphas: Sequence[float] | None = None,
    title: str = "",
    reduction: bool = False,
    selected: int | None = None,
) -> str:
    """The content of `cell_svg` without the document, `WIDTH` x `HEIGHT`, to be placed in a larger drawing.

    `selected` is the index of an edge to mark with a light band.
    """
    heading = text(16, 24, title, size=14.5, weight=600) if title else ""
    if reduction:
        heading += text(WIDTH - 14, 24, "stride 2: half the side", size=12, fill=QUIET, anchor="end")
    removed = [operations[0] == "none", operations[1] == "none", "none" in (operations[0], operations[2])]
    lines, labels = [], []
    if selected is not None:
        path = _EDGES[selected][0]
        lines.append(
            f'<path d="{path}" fill="none" stroke="{BAND}" stroke-width="28" stroke-linecap="round"/>'
        )
    for index, name in enumerate(operations):
        alpha = None if alphas is None else float(alphas[index])
        lines.append(_edge(index, name, removed[index], stroke=3 if alpha is None else 1.6 + 4.5 * alpha))
        labels.append(_edge_label(index, name, removed[index], alpha))
    z1_empty, z2_empty = removed[0], removed[1] and removed[2]
    lines.append(_wire("M258 70 C286 70 282 112 303 112", 303, 112, z1_empty))
    lines.append(_wire("M258 178 C286 178 282 136 303 136", 303, 136, z2_empty))
    lines.append(_wire("M378 124 H394", 394, 124, z1_empty and z2_empty))
    nodes = [
        _node(*_X, "x"),
        _node(*_Z1, "z1", empty=z1_empty),
        _node(*_Z2, "z2", empty=z2_empty),
        _project(*_CONCAT),
        _node(*_OUT, "out"),
    ]
    return heading + "".join(lines) + "".join(nodes) + "".join(labels)


def described(operations: Sequence[str], title: str = "") -> str:
    """The cell in words, for the alternative text."""
    edges = ", ".join(
        f"{edge}: {name if name != 'none' else 'removed'}"
        for edge, name in zip(("x to z1", "x to z2", "z1 to z2"), operations, strict=True)
    )
    return f"{title}: {edges}" if title else edges


def _edge(index: int, name: str, removed: bool, stroke: float) -> str:
    path = _EDGES[index][0]
    if removed:
        return f'<path d="{path}" fill="none" stroke="{FAINT}" stroke-width="1.8" stroke-dasharray="3 6"/>'
    color = PRIMITIVE_COLORS[name]
    y = path.rsplit(" ", 1)[1]
    head = "M240 160 l-7 -12 h14 z" if index == 2 else f"M223 {y} l-12 -7 v14 z"
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{number(stroke)}" stroke-linecap="round"/>'
        f'<path d="{head}" fill="{color}"/>'
    )


def _edge_label(index: int, name: str, removed: bool, alpha: float | None) -> str:
    words = name if name == "none" or not removed else f"{name} (unfed)"
    if alpha is not None:
        words += f" · {alpha:.2f}"
    swatch = FAINT if removed else PRIMITIVE_COLORS[name]
    width = text_width(words, _LABEL) + 32
    x, y = _EDGES[index][1]
    left = x - width if index == 2 else x - width / 2
    return (
        f'<rect x="{number(left)}" y="{y - 12}" width="{number(width)}" height="24" rx="12" fill="#fff" '
        f'stroke="{swatch}" stroke-width="1.4"{_DASH if removed else ""}/>'
        f'<circle cx="{number(left + 12)}" cy="{y}" r="4.5" fill="{swatch}"/>'
        + text(left + 21, y + 4.3, words, size=_LABEL, fill=QUIET if removed else INK)
    )


def _wire(path: str, x: float, y: float, empty: bool) -> str:
    color, dash = (FAINT, _DASH) if empty else (INK, "")
    head = f'<path d="M{x} {y} l-9 -4.5 v9 z" fill="{color}"/>'
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.4"{dash}/>' + head


def _node(x: float, y: float, name: str, radius: float = 18, empty: bool = False) -> str:
    color, dash, fill = (FAINT, _DASH, PAPER) if empty else (INK, "", "#fff")
    ink = QUIET if empty else INK
    label = text(x, y + 4.6, name, size=13.5, anchor="middle", weight=600, fill=ink)
    if name in ("z1", "z2"):
        label = (
            f'<text x="{x}" y="{y + 4}" font-size="15" font-style="italic" text-anchor="middle" '
            f'fill="{ink}">z<tspan font-size="10.5" dy="4">{name[1]}</tspan></text>'
        )
    circle = (
        f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="{color}" stroke-width="1.6"{dash}/>'
    )
    return circle + label


def _project(x: float, y: float) -> str:
    return (
        f'<rect x="{x - 36}" y="{y - 26}" width="72" height="52" rx="9" fill="#fff" stroke="{INK}" stroke-width="1.6"/>'
        + text(x, y - 4, "concat", size=12.5, anchor="middle")
        + text(x, y + 14, "conv 1×1", size=12.5, anchor="middle")
    )

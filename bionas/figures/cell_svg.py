"""Drawings of a cell as inline SVG (Figure 2's cell: x, two nodes, three edges, concatenation and 1x1 convolution).

`cell_svg` draws one cell, `genotype_svg` all of them in rows of two. Colours are the project's; a removed edge is
grey and dashed. Plain strings in and out: a drawing knows names, not networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bionas.figures.palette import GRID, INK, PAPER, PRIMITIVE_COLORS

WIDTH, HEIGHT = 624, 226
"""Size of one cell in SVG units."""

FONT = "'Inter','Segoe UI','Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
QUIET = "#6f6b64"
BAND = "#f6e7d3"
_REMOVED = "#a9a69f"
_DASH = ' stroke-dasharray="3 4"'

# Centres of the nodes; (path, label centre) of the edges, in the order x->z1, x->z2, z1->z2.
_X, _Z1, _Z2, _CONCAT, _OUT = (42, 132), (304, 76), (304, 188), (480, 132), (582, 132)
_EDGES = (
    ("M58 122 C100 84 140 76 284 76", (170, 79)),
    ("M58 142 C100 180 140 188 284 188", (170, 185)),
    ("M304 95 V167", (304, 128)),
)


def cell_svg(
    operations: Sequence[str],
    alphas: Sequence[float] | None = None,
    title: str = "",
    reduction: bool = False,
) -> str:
    """One cell as a complete <svg>.

    Args:
        operations: the primitives of x->z1, x->z2 and z1->z2.
        alphas: the weight each of them had; written on the edge and shown as its thickness.
        title: above the drawing and, for those who listen to it, its name.
        reduction: mark the edges that leave x as strided.
    """
    return svg_document(
        cell_group(operations, alphas, title, reduction), WIDTH, HEIGHT, _spoken(operations, title)
    )


def genotype_svg(cells: Sequence[tuple[Sequence[str], bool]], title: str = "", columns: int = 2) -> str:
    """(operations, reduction) of every cell -> one <svg>, numbered from the input to the head, in rows of `columns`."""
    columns = min(columns, len(cells))
    top, gap = (34 if title else 0), 10
    parts = [text(18, 25, title, size=16, weight=600)] if title else []
    for index, (operations, reduction) in enumerate(cells):
        row, column = divmod(index, columns)
        name = f"cell {index}" + (" · reduction" if reduction else "")
        shift = f"translate({column * (WIDTH + gap)} {top + row * (HEIGHT + gap)})"
        parts.append(f'<g transform="{shift}">{cell_group(operations, None, name, reduction)}</g>')
    rows = -(-len(cells) // columns)
    spoken = ". ".join(_spoken(operations, f"cell {index}") for index, (operations, _) in enumerate(cells))
    width, height = columns * (WIDTH + gap) - gap, top + rows * (HEIGHT + gap) - gap
    return svg_document("".join(parts), width, height, f"{title}. {spoken}" if title else spoken)


def cell_group(
    operations: Sequence[str],
    alphas: Sequence[float] | None = None,
    title: str = "",
    reduction: bool = False,
    selected: int | None = None,
) -> str:
    """The drawing of `cell_svg` without the document around it, `WIDTH` x `HEIGHT`, to be placed in a larger one.

    `selected` is the edge, if any, to lay a light band under.
    """
    heading = text(18, 26, title, size=14.5, weight=600) if title else ""
    if reduction:
        heading += text(WIDTH - 18, 26, "stride 2: half the side", size=12, fill=QUIET, anchor="end")
    removed = [operations[0] == "none", operations[1] == "none", "none" in (operations[0], operations[2])]
    lines, labels = [], []
    if selected is not None:
        lines.append(_band(_EDGES[selected][0]))
    for index, name in enumerate(operations):
        path, (x, y) = _EDGES[index]
        alpha = None if alphas is None else float(alphas[index])
        lines.append(
            _edge(path, name, removed[index], alpha, stroke=3.2 if alpha is None else 1.6 + 4.5 * alpha)
        )
        labels.append(_edge_label(x, y, name, removed[index], alpha))
    z1_empty, z2_empty = removed[0], removed[1] and removed[2]
    lines.append(_wire("M323 76 C384 76 384 118 432 118", z1_empty))
    lines.append(_wire("M323 188 C384 188 384 146 432 146", z2_empty))
    lines.append(_wire("M522 132 H555", z1_empty and z2_empty))
    nodes = [
        _node(*_X, "x"),
        _node(*_Z1, "z1", empty=z1_empty),
        _node(*_Z2, "z2", empty=z2_empty),
        _project(*_CONCAT),
        _node(*_OUT, "out", radius=21),
    ]
    return heading + "".join(lines) + "".join(nodes) + "".join(labels)


def svg_document(content: str, width: float, height: float, spoken: str) -> str:
    """An <svg> that scales down with its column, on its own paper, with `spoken` as its accessible name."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" '
        f'style="max-width:100%;height:auto" role="img" font-family="{FONT}">'
        f"<title>{escape(spoken)}</title>"
        f'<rect x="0.5" y="0.5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="10" fill="{PAPER}" '
        f'stroke="{GRID}"/>{content}</svg>'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float = 13,
    fill: str = INK,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    """One line of text; where it crosses a line of the paper, the line stops short of it."""
    halo = f' stroke="{PAPER}" stroke-width="4" paint-order="stroke"'
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{fill}" text-anchor="{anchor}" '
        f'font-weight="{weight}"{halo}>{escape(words)}</text>'
    )


def _edge(path: str, name: str, removed: bool, alpha: float | None, stroke: float) -> str:
    if removed:
        return f'<path d="{path}" fill="none" stroke="{_REMOVED}" stroke-width="1.8" stroke-dasharray="3 6"/>'
    color = PRIMITIVE_COLORS[name]
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{_n(stroke)}" stroke-linecap="round"/>'
        + _arrow_head(path, color)
    )


def _band(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{BAND}" stroke-width="30" stroke-linecap="round"/>'


def _arrow_head(path: str, color: str) -> str:
    """A triangle where one of `_EDGES` ends: level, towards the right, or straight down."""
    if "V" in path:
        return f'<path d="M304 169 l-7 -12 h14 z" fill="{color}"/>'
    y = path.rsplit(" ", 1)[1]
    return f'<path d="M285 {y} l-12 -7 v14 z" fill="{color}"/>'


def _edge_label(x: float, y: float, name: str, removed: bool, alpha: float | None) -> str:
    words = name if name == "none" or not removed else f"{name} (unfed)"
    if alpha is not None:
        words += f" · {alpha:.2f}"
    swatch = _REMOVED if removed else PRIMITIVE_COLORS[name]
    width = text_width(words, 12.5) + 36
    left = x - width / 2
    return (
        f'<rect x="{_n(left)}" y="{_n(y - 12.5)}" width="{_n(width)}" height="25" rx="12.5" fill="#fff" '
        f'stroke="{swatch}" stroke-width="1.4"{_DASH if removed else ""}/>'
        f'<circle cx="{_n(left + 13)}" cy="{_n(y)}" r="5" fill="{swatch}"/>'
        + text(left + 23, y + 4.3, words, size=12.5, fill=QUIET if removed else INK)
    )


def text_width(words: str, size: float) -> float:
    """About how wide a line is set in `FONT`; narrow letters and digits told apart, which is enough for a box."""
    narrow = sum(letter in "ilt.:·()|_ r" for letter in words)
    return size * (0.56 * (len(words) - narrow) + 0.37 * narrow)


def _wire(path: str, empty: bool) -> str:
    color, dash = (_REMOVED, _DASH) if empty else (INK, "")
    x, y = path.replace("H", "").rsplit(" ", 2)[-2:] if "C" in path else ("555", "132")
    head = f'<path d="M{x} {y} l-9 -4.5 v9 z" fill="{color}"/>'
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.4"{dash}/>' + head


def _node(x: float, y: float, name: str, radius: float = 19, empty: bool = False) -> str:
    color, dash, fill = (_REMOVED, _DASH, PAPER) if empty else (INK, "", "#fff")
    label = text(x, y + 4.8, name, size=14, anchor="middle", weight=600, fill=QUIET if empty else INK)
    if name in ("z1", "z2"):
        label = (
            f'<text x="{x}" y="{y + 4}" font-size="15" font-style="italic" text-anchor="middle" '
            f'fill="{QUIET if empty else INK}">z<tspan font-size="10.5" dy="4">{name[1]}</tspan></text>'
        )
    return (
        f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="{color}" stroke-width="1.6"{dash}/>'
        + label
    )


def _project(x: float, y: float) -> str:
    return (
        f'<rect x="{x - 42}" y="{y - 27}" width="84" height="54" rx="9" fill="#fff" stroke="{INK}" stroke-width="1.6"/>'
        + text(x, y - 4, "concat", size=13, anchor="middle")
        + text(x, y + 14, "conv 1×1", size=13, anchor="middle")
    )


def _spoken(operations: Sequence[str], title: str) -> str:
    edges = ", ".join(
        f"{edge}: {name if name != 'none' else 'removed'}"
        for edge, name in zip(("x to z1", "x to z2", "z1 to z2"), operations)
    )
    return f"{title}: {edges}" if title else edges


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")

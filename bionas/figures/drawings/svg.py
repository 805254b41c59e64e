"""Parts of the SVG drawings: document, text, boxes, arrows; and `Drawing`, an SVG that a notebook can show.

Coordinates are SVG units; one unit is one pixel where the column is wide enough for the whole drawing.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from bionas.figures.palette import GRID, INK, PAPER
from bionas.system import files

FONT = "Inter,'Segoe UI','Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
QUIET = "#6f6b64"
"""Secondary text."""
FAINT = "#a9a69f"
"""What is removed, frozen or absent."""

LARGEST_SCALE = 1.3
"""A drawing grows with its column up to this factor."""
PNG_SCALE = 2.0
"""Pixels of the PNG copy per SVG unit."""


class Drawing(str):
    """An SVG document as a string that displays itself in a notebook as SVG and PNG, with alternative text.

    JupyterLab shows SVG only in trusted notebooks; in others it falls back on the PNG.
    """

    @property
    def alternative(self) -> str:
        """The content of <title>: what a screen reader says."""
        found = re.search(r"<title>(.*?)</title>", self, re.DOTALL)
        return unescape(found.group(1)) if found else "drawing"

    def png(self, scale: float = PNG_SCALE) -> bytes:
        """The drawing as PNG, `scale` pixels per SVG unit."""
        return _png(str(self), scale)

    def save(self, path: str | Path) -> None:
        """Write the SVG, or the PNG if `path` ends in .png."""
        if Path(path).suffix.lower() == ".png":
            with files.replacing(path) as file:
                file.write(self.png())
        else:
            files.write_text(path, str(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data = {
            "image/svg+xml": str(self),
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": self.alternative,
        }
        return data, {mime: {"alt": self.alternative} for mime in ("image/svg+xml", "image/png")}

    def __repr__(self) -> str:
        return f"<Drawing: {self.alternative}>"


@functools.lru_cache(maxsize=32)
def _png(svg: str, scale: float) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=scale, sans_serif_family="DejaVu Sans"))


def document(content: str, width: float, height: float, alternative: str) -> Drawing:
    """A complete <svg> that fills its column, on a background of its own, with `alternative` as its accessible name."""
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" width="100%" '
        f'style="max-width:{number(LARGEST_SCALE * width)}px;height:auto" role="img" font-family="{FONT}">'
        f"<title>{escape(alternative)}</title>"
        f'<rect x="0.5" y="0.5" width="{number(width - 1)}" height="{number(height - 1)}" rx="10" fill="{PAPER}" '
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
    italic: bool = False,
) -> str:
    """One line of text with its baseline at y. It has an outline in the background's colour, so that lines below
    it do not touch the letters."""
    halo = f' stroke="{PAPER}" stroke-width="4" paint-order="stroke"'
    style = ' font-style="italic"' if italic else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{fill}" text-anchor="{anchor}" '
        f'font-weight="{weight}"{style}{halo}>{escape(words)}</text>'
    )


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    lines: str | Sequence[str] = (),
    fill: str = "#fff",
    stroke: str = INK,
    size: float = 13,
    ink: str = INK,
    radius: float = 8,
    dashed: bool = False,
    weight: int = 400,
) -> str:
    """A rounded rectangle with its upper left corner at (x, y) and centred lines of text."""
    lines = [lines] if isinstance(lines, str) else list(lines)
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    parts = [
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
        f'rx="{number(radius)}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dash}/>'
    ]
    leading = 1.3 * size
    first = y + height / 2 - leading * (len(lines) - 1) / 2 + 0.36 * size
    for i, line in enumerate(lines):
        parts.append(
            f'<text x="{number(x + width / 2)}" y="{number(first + i * leading)}" font-size="{number(size)}" '
            f'fill="{ink}" text-anchor="middle" font-weight="{weight if i == 0 else 400}">{escape(line)}</text>'
        )
    return "".join(parts)


def arrow(
    points: list[tuple[float, float]],
    color: str = INK,
    width: float = 1.5,
    dashed: bool = False,
    head: bool = True,
) -> str:
    """A line through `points` with a head at its last one, pointing along the last segment."""
    (x0, y0), (x1, y1) = points[-2:]
    length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    back = 8 if head else 0
    end = (x1 - back * ux, y1 - back * uy)
    path = "M" + " L".join(f"{number(x)} {number(y)}" for x, y in [*points[:-1], end])
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    line = f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{number(width)}"{dash}/>'
    if not head:
        return line
    left, right = (end[0] - 4.5 * uy, end[1] + 4.5 * ux), (end[0] + 4.5 * uy, end[1] - 4.5 * ux)
    tip = " ".join(f"{number(x)},{number(y)}" for x, y in ((x1, y1), left, right))
    return line + f'<polygon points="{tip}" fill="{color}"/>'


def group(content: str, x: float, y: float) -> str:
    """`content` moved by (x, y)."""
    return f'<g transform="translate({number(x)} {number(y)})">{content}</g>'


def text_width(words: str, size: float) -> float:
    """The approximate width of a line in the widest font of `FONT`, from three classes of letters."""
    widths = (0.36 if letter in "ilt.:·()| '" else 0.9 if letter in "mwMW" else 0.6 for letter in words)
    return size * sum(widths)


def number(value: float) -> str:
    """At most two decimals, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")

"""The sheet every figure is drawn on: size, type, margins, axes; and how arrays become what a notebook can store.

plotly keeps arrays as binary blobs that no diff can read, so figures are given rounded lists (`plain`); pictures go in
as one PNG (`mosaic`), which is a tenth of the pixels written out.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from bionas.figures.palette import GRID, INK, PAPER
from bionas.system import files, places

WIDTH = 900
"""Pixels: the width of a README."""

HEAD = 92
"""Pixels above the plot: title, subtitle, air."""

FONT = "Open Sans, Helvetica Neue, Helvetica, Arial, sans-serif"

MUTED = "#6b6f76"
"""Subtitles, notes, reference lines."""

DIVERGING = [[0.0, "#a8641f"], [0.25, "#dcb384"], [0.5, "#f4f2ec"], [0.75, "#8fb3d4"], [1.0, "#2f659f"]]
BLUES = [[0.0, "#f4f2ec"], [0.25, "#c3d4e4"], [0.5, "#7fa6cc"], [0.75, "#3d6fa8"], [1.0, "#173f73"]]
"""From nothing to all, on `PAPER`."""


def keep(figure: go.Figure, name: str) -> go.Figure:
    """The same figure; while the committed notebooks are made, `figures/NAME.png` with it (that takes Chromium)."""
    if places.publishing():
        with files.replacing(places.figures() / f"{name}.png") as file:
            file.write(figure.to_image("png", scale=2))
    return figure


def sheet(
    figure: go.Figure,
    title: str,
    caption: str = "",
    *,
    height: int,
    left: int = 70,
    right: int = 30,
    bottom: int = 60,
    head: int = HEAD,
    **layout: Any,
) -> go.Figure:
    """Give `figure` its title, subtitle, size and the common look; `layout` goes to plotly as it is."""
    heading: dict[str, Any] = {
        "text": f"<b>{title}</b>",
        "font": {"size": 18, "color": INK},
        "x": 0.022,
        "xref": "container",
        "xanchor": "left",
        "y": 1 - 30 / height,
        "yref": "container",
        "yanchor": "middle",
    }
    if caption:
        heading["subtitle"] = {"text": caption, "font": {"size": 12.5, "color": MUTED}}
    figure.update_layout(
        template="none",
        title=heading,
        width=WIDTH,
        height=height,
        margin={"l": left, "r": right, "t": head, "b": bottom},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": FONT}},
        **layout,
    )
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "ticks": "",
        "title": {"standoff": 12, "font": {"size": 13}},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def rows(n: int, each: int) -> int:
    """The height of a figure of `n` rows of `each` pixels, head and axis included."""
    return HEAD + 58 + n * each


def plain(values: Iterable[Any], digits: int = 4) -> list[Any]:
    """A list of Python numbers rounded to `digits`, None where not finite; anything else as it is."""
    return [_plain(value, digits) for value in values]


def _plain(value: Any, digits: int) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value


def table(matrix: Any, digits: int = 4) -> list[list[Any]]:
    """A matrix as rows of `plain`."""
    return [plain(row, digits) for row in np.asarray(matrix)]


def percent(share: float, digits: int = 1) -> str:
    """0.7157 -> '71.6 %', with a no-break space."""
    return f"{100 * share:.{digits}f}\u00a0%"


def shorten(text: Any, length: int) -> str:
    text = str(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def hex_to_rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


def mosaic(
    tiles: Sequence[np.ndarray], columns: int, gap: int, foot: int
) -> tuple[str, list[tuple[float, float]], int, int]:
    """Tiles (S, S, 3) uint8 laid on the page in rows of `columns`, each with `foot` free pixels under it for a name.

    Returns:
        the PNG as a data URI, the (x, y) pixel under the middle of each tile, width and height in pixels.
    """
    side = tiles[0].shape[0]
    width, height = columns * side + (columns - 1) * gap, math.ceil(len(tiles) / columns) * (side + foot)
    page = np.full((height, width, 3), hex_to_rgb(PAPER), dtype=np.uint8)
    under = []
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (side + foot), (i % columns) * (side + gap)
        page[top : top + side, left : left + side] = tile
        under.append((left + side / 2 - 0.5, float(top + side)))
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), under, width, height


def picture(
    tiles: Sequence[np.ndarray],
    names: Sequence[str],
    columns: int,
    title: str,
    caption: str,
    smooth: bool = True,
) -> go.Figure:
    """A figure of tiles with a line of text under each."""
    side, left, right, bottom = tiles[0].shape[0], 24, 24, 14
    columns = min(columns, len(tiles))
    shown = min((WIDTH - left - right) / (columns * 1.06), 200.0)  # pixels of the screen a tile takes
    scale = side / shown
    gap, foot = max(round(0.06 * side), 1), max(round(24 * scale), 1)
    source, under, width, height = mosaic(tiles, columns, gap, foot)
    figure = go.Figure(go.Image(source=source, zsmooth="fast" if smooth else False, hoverinfo="skip"))
    letters = max(int(shown / 6.6), 4)
    for (x, y), name in zip(under, names):
        figure.add_annotation(
            x=round(x, 2),
            y=y,
            text=shorten(name, letters),
            showarrow=False,
            yanchor="top",
            yshift=-1,
            font={"size": 12},
        )
    head = HEAD - 8
    sheet(
        figure,
        title,
        caption,
        height=round(head + bottom + height / scale),
        left=left,
        bottom=bottom,
        head=head,
        right=round(WIDTH - left - width / scale),
    )
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], constrain="domain")
    return figure

"""The common form of every plotly figure: class, size, type, margins, axes; arrays as rounded lists, images as one PNG.

plotly keeps arrays as binary blobs that no diff can read, so figures are given rounded lists (`plain`); pictures go in
as one PNG (`mosaic`), a tenth of the size of the pixels written out.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from html import unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from bionas.figures.palette import GRID, INK, PAPER
from bionas.system import files, places

WIDTH = 800
"""Pixels of the PNG copy, which JupyterLab shows in its own size until the pointer is over it: a window of 1,280 pixels with
the file browser open leaves 833. Otherwise a figure is as wide as its column."""

NARROWEST = 600
"""Pixels of the narrowest column in which titles and captions are not cut."""

HEAD = 92
"""Pixels above the plot: title, subtitle, space."""

TITLE_LETTERS, CAPTION_LETTERS = 56, 84
"""Letters per line of title and caption that fit `NARROWEST`."""
TITLE_LINE, CAPTION_LINE = 22, 16
"""Pixels that each further line takes."""

NAME_LINE = 19
"""Pixels under a tile for one line of its name."""
NAME_SIZE, SMALLEST_NAME, LETTER = 11.5, 9.0, 6.2
"""Size of the names under tiles, the least one, and the pixels that a letter of the first takes on average."""

FONT = "Open Sans, Helvetica Neue, Helvetica, Arial, sans-serif"

MUTED = "#6b6f76"
"""Subtitles, notes, reference lines."""

DIVERGING = [[0.0, "#a8641f"], [0.25, "#dcb384"], [0.5, "#f4f2ec"], [0.75, "#8fb3d4"], [1.0, "#2f659f"]]
BLUES = [[0.0, "#f4f2ec"], [0.25, "#c3d4e4"], [0.5, "#7fa6cc"], [0.75, "#3d6fa8"], [1.0, "#173f73"]]
"""From nothing to all, on `PAPER`."""

ABOVE = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}
"""A legend between caption and plot."""
BELOW = {"orientation": "h", "x": 0.02, "xref": "container", "y": 0, "yref": "container", "yanchor": "bottom"}
"""A legend at the lower edge of the figure."""

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,  # "Share chart…" uploads the data: not for unpublished records
    "plotlyServerURL": "",
}
"""plotly's own settings, wherever one of our figures is displayed."""


class Chart(go.Figure):
    """A plotly figure that is displayed with `CONFIG` and, where it has a PNG copy, with alternative text."""

    @property
    def alternative(self) -> str:
        """Title and caption as one line of plain text."""
        title = self.layout.title
        parts = [title.text, title.subtitle.text if title.subtitle else None]
        lines = [" ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in parts if part]
        return unescape(". ".join(lines)) or "figure"

    def show(self, *args: Any, **options: Any) -> None:
        """Display in the notebook; options are those of plotly."""
        if args or options or not _in_notebook():
            super().show(*args, **{"config": CONFIG, **options})
        else:
            self._ipython_display_()

    def _ipython_display_(self) -> None:
        if os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):  # it does not draw plotly's own type
            super().show("notebook", config=CONFIG)
            return
        bundle = self._repr_mimebundle_(config=CONFIG, width=WIDTH)
        if not bundle:  # a renderer that opens a window
            super()._ipython_display_()
            return
        from IPython.display import display

        display(bundle, metadata={"image/png": {"alt": self.alternative}}, raw=True)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def panels(n_rows: int, n_columns: int, **options: Any) -> Chart:
    """A `Chart` of several plots; options are those of `make_subplots`."""
    return make_subplots(n_rows, n_columns, figure=Chart(), **options)


def keep(figure: Chart, name: str) -> Chart:
    """Return `figure`; when the committed notebooks are made, also write `figures/NAME.png` (needs Chromium)."""
    if places.publishing():
        with files.replacing(places.figures() / f"{name}.png") as file:
            file.write(figure.to_image("png", width=WIDTH, scale=2))
    return figure


def sheet(
    figure: Chart,
    title: str,
    caption: str = "",
    *,
    height: int,
    left: int = 70,
    right: int = 30,
    bottom: int = 60,
    head: int = HEAD,
    **layout: Any,
) -> Chart:
    """Give `figure` its title, subtitle, height and the common look; `layout` goes to plotly as it is.

    Title and caption are wrapped to fit `NARROWEST`; the figure grows by the lines that this adds.
    """
    title_lines = textwrap.wrap(title, TITLE_LETTERS, break_long_words=False)
    caption_lines = textwrap.wrap(caption, CAPTION_LETTERS, break_long_words=False)
    more = TITLE_LINE * (len(title_lines) - 1) + CAPTION_LINE * max(len(caption_lines) - 1, 0)
    height, head = height + more, head + more
    heading: dict[str, Any] = {
        "text": f"<b>{'<br>'.join(title_lines)}</b>",
        "font": {"size": 18, "color": INK},
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "pad": {"l": 20},
        "y": 1 - 20 / height,
        "yref": "container",
        "yanchor": "top",
    }
    if caption:
        heading["subtitle"] = {"text": "<br>".join(caption_lines), "font": {"size": 12.5, "color": MUTED}}
    figure.update_layout(
        template="none",
        title=heading,
        autosize=True,
        height=height,
        margin={"l": left, "r": right, "t": head, "b": bottom},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": FONT}},
        modebar={"remove": ["sendChartToCloud"]},
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
    """Tiles (S, S, 3) uint8 in rows of `columns`, each with `foot` free pixels under it for a name.

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
) -> Chart:
    """A figure of tiles with a line of text under each."""
    side, margin, bottom = tiles[0].shape[0], 24, 14
    columns = min(columns, len(tiles))
    cell = (WIDTH - 2 * margin) / (columns * 1.06)
    shown = min(cell, 200.0)  # pixels of the screen that a tile takes where there is room
    narrow = min(shown, (NARROWEST - 2 * margin) / (columns * 1.06))
    scale = side / shown
    gap = max(round(0.06 * side), 1)
    letters = max(int(narrow / LETTER), 4)
    lines = [textwrap.wrap(str(name), letters, break_long_words=False) for name in names]
    longest = max((len(line) for wrapped in lines for line in wrapped), default=1)
    size = max(NAME_SIZE * min(letters / longest, 1), SMALLEST_NAME)
    letters = max(int(narrow / LETTER * NAME_SIZE / size), 4)
    foot = NAME_LINE + (NAME_LINE - 4) * (max(map(len, lines), default=1) - 1)
    foot = math.ceil(foot * side / narrow)  # tiles shrink with the column, names do not
    source, under, width, height = mosaic(tiles, columns, gap, foot)
    figure = Chart(go.Image(source=source, zsmooth="fast" if smooth else False, hoverinfo="skip"))
    for (x, y), wrapped in zip(under, lines, strict=True):
        figure.add_annotation(
            x=round(x, 2),
            y=y,
            text="<br>".join(shorten(line, letters) for line in wrapped),
            showarrow=False,
            yanchor="top",
            yshift=-1,
            font={"size": round(size, 1)},
        )
    head = HEAD - 8
    total = round(head + bottom + height / scale)
    sheet(figure, title, caption, height=total, left=margin, right=margin, bottom=bottom, head=head)
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain", constraintoward="left")
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], constrain="domain", constraintoward="top")
    return figure

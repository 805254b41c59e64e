"""Where the names of points go, so that they cover neither each other, nor points, nor reference lines."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

POSITIONS = {
    "top center": (-0.5, 0.6),
    "bottom center": (-0.5, -1.6),
    "middle right": (0.0, -0.5),
    "middle left": (-1.0, -0.5),
    "top right": (0.0, 0.4),
    "top left": (-1.0, 0.4),
    "bottom right": (0.0, -1.4),
    "bottom left": (-1.0, -1.4),
}
"""plotly's text positions: left edge of the name in its own widths, lower edge in lines, from the middle of the point."""

LETTER, LINE, POINT = 0.0095, 0.036, 0.014
"""Width of a letter, height of a line and radius of a point, as shares of the plot (at about 800 pixels of width)."""

OUTSIDE = 0.02
"""The overlap that a name counts which leaves the plot at a side."""

Box = tuple[float, float, float, float]


def text_positions(
    across: pd.Series,
    up: pd.Series,
    names: pd.Series,
    levels: Sequence[float] = (),
    radii: pd.DataFrame | None = None,
) -> dict[Hashable, str]:
    """The text position of each name, chosen in order: the one that overlaps least with what is there already.

    Args:
        across, up: of each point, as shares of the plot; NaN where there is none. Indexed like `names`.
        levels: heights of horizontal reference lines, as shares of the plot.
        radii: columns across and up, of each point, as shares of the plot; `POINT` where there is none.
    """
    if radii is None:
        radii = pd.DataFrame({"across": POINT, "up": POINT}, index=names.index)
    taken: list[Box] = [
        (x - wide, y - high, x + wide, y + high)
        for x, y, wide, high in zip(across, up, radii["across"], radii["up"], strict=True)
        if pd.notna(x) and pd.notna(y)
    ]
    taken += [(0.0, level - 0.006, 1.0, level + 0.006) for level in levels]
    chosen = {}
    for label in names.index:
        x, y, width = across[label], up[label], LETTER * len(str(names[label]))
        if pd.isna(x) or pd.isna(y):
            chosen[label] = "top center"
            continue
        radius = radii.loc[label, "across"], radii.loc[label, "up"]
        boxes = {position: _box(x, y, width, position, *radius) for position in POSITIONS}
        chosen[label] = min(POSITIONS, key=lambda position: _cost(boxes[position], taken))
        taken.append(boxes[chosen[label]])
    return chosen


def _box(x: float, y: float, width: float, position: str, wide: float, high: float) -> Box:
    shift, lift = POSITIONS[position]
    row, side = position.split()
    further = (high - POINT) * {"top": 1, "bottom": -1}.get(row, 0)
    left = x + shift * width + wide * {"right": 1, "left": -1}.get(side, 0)
    foot = y + lift * LINE + further
    return left, foot, left + width, foot + LINE


def _cost(box: Box, taken: Sequence[Box]) -> float:
    outside = max(-box[0], 0) + max(box[2] - 1, 0)
    return sum(_overlap(box, other) for other in taken) + OUTSIDE * (outside > 0) + outside


def _overlap(one: Box, other: Box) -> float:
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0

"""Where specimens were collected: countries shaded by records, places as dots. Drawn offline, from outlines of our own.

plotly's own maps fetch their outlines from the network; these come from `data/geography/countries_110m.json` (Natural
Earth, public domain) and are drawn on plain degrees of longitude and latitude.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from bionas.figures.palette import ACCENT, GRID, PAPER
from bionas.figures.sheet import BELOW, BLUES, Chart, plain, sheet
from bionas.specimens.schema import missing
from bionas.system import places

OTHER_NAMES = {
    "aland": "Finland",
    "bosnia and herzegovina": "Bosnia and Herz.",
    "central african republic": "Central African Rep.",
    "czech republic": "Czechia",
    "democratic republic of the congo": "Dem. Rep. Congo",
    "dominican republic": "Dominican Rep.",
    "equatorial guinea": "Eq. Guinea",
    "eswatini": "eSwatini",
    "falkland islands": "Falkland Is.",
    "ivory coast": "Côte d'Ivoire",
    "republic of the congo": "Congo",
    "russian federation": "Russia",
    "solomon islands": "Solomon Is.",
    "south sudan": "S. Sudan",
    "svalbard and jan mayen": "Norway",
    "turkiye": "Turkey",
    "türkiye": "Turkey",
    "united states": "United States of America",
    "usa": "United States of America",
    "viet nam": "Vietnam",
    "western sahara": "W. Sahara",
}
"""Names that collections use, casefolded -> the name of the outline."""

STEPS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
CELL = 2.0
"""Degrees: dots that fall into one cell are drawn as one, in its mean place."""


def collected_where(records: pd.DataFrame, caption: str = "") -> Chart:
    """A map of the world: records per country (one shade per factor of ten) and per place (dots).

    Args:
        records: with `country`, or `coord-lat` and `coord-lon` in degrees, or both; values may be missing.

    Raises:
        ValueError: neither is there.
    """
    located = {"coord-lat", "coord-lon"} <= set(records)
    if "country" not in records and not located:
        raise ValueError("records have neither a country nor coordinates: there is nothing to put on a map")
    figure = Chart()
    counts = by_country(records["country"]) if "country" in records else pd.Series(dtype=int)
    shapes = outlines()
    on_map = counts[counts.index.isin(list(shapes))]
    shade = {name: _step(n) for name, n in on_map.items()}
    steps = sorted(set(shade.values()))
    _land(figure, [name for name in shapes if name not in shade], GRID, "no record", legend=False)
    for rank, step in enumerate(steps):
        color = sample_colorscale(BLUES, 0.15 + 0.85 * (rank + 1) / len(steps))[0]
        upper = STEPS[STEPS.index(step) + 1] - 1 if step < STEPS[-1] else None
        label = f"{step:,} to {upper:,} records" if upper else f"{step:,} records and more"
        _land(figure, [name for name, own in shade.items() if own == step], color, label, legend=True)
    dots = places_of(records) if located else pd.DataFrame()
    if len(dots):
        figure.add_scatter(
            x=plain(dots["lon"], 1),
            y=plain(dots["lat"], 1),
            mode="markers",
            name="places (area: records)",
            marker={
                "size": plain(3 + 2.2 * np.log10(dots["n"]), 1),
                "color": ACCENT,
                "opacity": 0.75,
                "line": {"color": PAPER, "width": 0.5},
            },
            customdata=[int(n) for n in dots["n"]],
            hovertemplate="%{y:.0f}°, %{x:.0f}°: %{customdata:,}<extra></extra>",
        )
    if len(counts) > len(on_map):
        unplaced = f"{len(counts) - len(on_map)} are too small for this map, or no country"
        caption = f"{caption}; {unplaced}" if caption else unplaced
    sheet(
        figure, _title(counts, len(records), dots), caption, height=560, left=20, right=20, bottom=70, head=96
    )
    blank = {"showgrid": False, "showticklabels": False, "ticks": "", "showline": False}
    figure.update_xaxes(range=[-170, 180], **blank)
    figure.update_yaxes(range=[-58, 84], scaleanchor="x", scaleratio=1.2, **blank)
    figure.update_layout(legend=BELOW | {"traceorder": "normal"})
    return figure


def by_country(column: pd.Series) -> pd.Series:
    """country -> records, largest first, under the names of the outlines; what has none keeps its own name."""
    counts = column[~missing(column)].astype(str).str.strip().value_counts()
    known = {name.casefold(): name for name in outlines()} | OTHER_NAMES
    return (
        counts.groupby([known.get(name.casefold(), name) for name in counts.index])
        .sum()
        .sort_values(ascending=False)
    )


def places_of(records: pd.DataFrame) -> pd.DataFrame:
    """lat, lon (degrees, the mean place) and n of every cell of `CELL` degrees that has a record."""
    places_ = records[["coord-lat", "coord-lon"]].astype("float64").set_axis(["lat", "lon"], axis=1).dropna()
    cells = [np.floor(places_[axis] / CELL).rename(f"{axis}_cell") for axis in places_]
    grouped = places_.groupby(cells)
    return grouped.mean().assign(n=grouped.size()).sort_values("n", ascending=False).reset_index(drop=True)


def _title(counts: pd.Series, total: int, dots: pd.DataFrame) -> str:
    if len(counts):
        return (
            f"Where they are from: {counts.sum():,} of {total:,} records name one of {len(counts)} countries"
        )
    return f"Where they are from: {int(dots['n'].sum()) if len(dots) else 0:,} of {total:,} records have coordinates"


def _land(figure: go.Figure, names: list[str], color: str, label: str, legend: bool) -> None:
    rings = [ring for name in names for ring in outlines()[name]]
    if not rings:
        return
    x = [value for ring in rings for value in [*ring[0::2], None]][:-1]
    y = [value for ring in rings for value in [*ring[1::2], None]][:-1]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        fill="toself",
        fillcolor=color,
        line={"color": PAPER, "width": 0.6},
        name=label,
        hoverinfo="skip",
        showlegend=legend,
    )


def _step(n: int) -> int:
    return max(step for step in STEPS if step <= n)


@functools.cache
def outlines() -> dict[str, list[list[float]]]:
    """Country -> its rings, each lon, lat, lon, lat, ... in degrees."""
    return json.loads(places.data("geography/countries_110m.json").read_text(encoding="utf-8"))["countries"]

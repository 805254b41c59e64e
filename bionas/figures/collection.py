"""Figures of a collection: class counts, photographs, completeness of the records, splits, accuracy of single fields."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bionas.figures.palette import ACCENT, GRID, INK, PAPER, class_color
from bionas.figures.sheet import ABOVE, Chart, hex_to_rgb, percent, picture, plain, rows, sheet
from bionas.specimens.schema import missing

LOGARITHMIC = 8
"""The ratio of largest to smallest class from which the axis is logarithmic and the distribution called a long tail."""
BALANCED = 1.5
"""The ratio below which classes count as balanced."""

SIDES = {"train": "#3d5a80", "val": "#9db8d6", "test": ACCENT}


def long_tail(counts: pd.Series, caption: str = "", threshold: int | None = None) -> Chart:
    """Specimens per class: logarithmic where classes differ `LOGARITHMIC`-fold; what `threshold` folds is pale.

    Args:
        counts: class -> n, largest first; empty classes are left out.
    """
    counts = counts[counts > 0]
    names = [str(name) for name in counts.index]
    n, total = [int(v) for v in counts], int(counts.sum())
    shares = [percent(v / total) if v / total >= 0.0005 else "< 0.1\u00a0%" for v in n]
    pale = [threshold is not None and v < threshold and name != "Other" for name, v in zip(names, n)]
    logarithmic = max(n) >= LOGARITHMIC * min(n)
    figure = Chart(
        go.Bar(
            y=names,
            x=n,
            orientation="h",
            marker={
                "color": [class_color(name, names) for name in names],
                "opacity": [0.4 if p else 1 for p in pale],
            },
            text=[f"{v:,}  ·  {share}" for v, share in zip(n, shares)],
            textposition="outside",
            textfont={"size": 12, "color": INK},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:,}<extra></extra>",
        )
    )
    if logarithmic:
        title = f"Long tail: {names[0]} is {percent(n[0] / total)} of {total:,} specimens"
    elif max(n) >= BALANCED * min(n):
        title = f"{total:,} specimens: {min(n):,} to {max(n):,} in each of {len(n)} classes"
    else:
        title = f"Balanced: {total:,} specimens, {min(n):,} to {max(n):,} in each of {len(n)} classes"
    sheet(figure, title, caption, height=rows(len(n), 24) + 16, left=150, right=130, bottom=64, bargap=0.28)
    if logarithmic:
        low, high = math.log10(min(n)), math.log10(max(n))
        ticks = [digit * 10**power for power in range(8) for digit in ((1, 3) if high - low < 2 else (1,))]
        figure.update_xaxes(
            type="log",
            title_text="specimens (logarithmic)",
            range=[round(low - 0.35, 3), round(high + 0.03, 3)],
            tickvals=ticks,
            ticktext=[f"{tick:,}" for tick in ticks],
        )
    else:
        figure.update_xaxes(
            title_text="specimens", range=[0, round(1.03 * max(n), 2)], nticks=6, tickformat=",d"
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    if threshold is not None and any(pale):
        figure.add_vline(x=threshold, line={"color": ACCENT, "width": 1.5, "dash": "dot"}, layer="below")
        figure.add_annotation(
            x=round(math.log10(threshold), 4) if logarithmic else threshold,
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text=f"under {threshold:,}: folded into Other",
            font={"color": ACCENT, "size": 12},
        )
    return figure


def specimen_grid(
    images: np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int = 6,
    caption: str = "",
    heading: str = "",
) -> Chart:
    """Photographs in rows of `columns`.

    Args:
        images: uint8 (n, S, S, 3).
        titles: one per photograph.
        heading: the title of the whole.
    """
    titles = [""] * len(images) if titles is None else [str(t) for t in titles]
    return picture(list(images), titles, columns, heading or f"{len(images)} specimens", caption)


def look_alikes(images: np.ndarray, labels: Sequence[str], n: int = 5, caption: str = "") -> Chart:
    """Similar specimens of different classes above, different appearances of one class below (SERAN's Fig. 1).

    Similarity is the distance of photographs averaged down to 8x8 pixels: it compares outline, pose and colour, not
    the animals' characters.

    Args:
        images: uint8 (N, S, S, 3).
        labels: the class of each.
        n: per row; fewer where there are fewer classes, or specimens of a class.
    """
    of_image = np.asarray(labels)
    similar, varied = _similar_classes(images, of_image, n), _varied_specimens(images, of_image, n)
    columns = max(len(similar), len(varied))
    blank = np.full_like(images[0], hex_to_rgb(PAPER))
    tiles, names = [], []
    for chosen in (similar, varied):
        tiles += [images[i] for i in chosen] + [blank] * (columns - len(chosen))
        names += [str(labels[i]) for i in chosen] + [""] * (columns - len(chosen))
    title = f"Above: {len(similar)} similar specimens of different classes; below: {labels[varied[0]]} in {len(varied)} looks"
    return picture(tiles, names, columns, title, caption)


def _thumbnails(images: np.ndarray, side: int = 8) -> np.ndarray:
    """(N, S, S, 3) -> (N, side * side * 3) block averages."""
    edges = np.linspace(0, images.shape[1], side + 1).astype(int)[:-1]
    means = np.add.reduceat(np.add.reduceat(images.astype(float), edges, axis=1), edges, axis=2)
    return means.reshape(len(images), -1)


def _similar_classes(images: np.ndarray, labels: np.ndarray, n: int) -> list[int]:
    """A specimen and its nearest ones of n - 1 other classes: the set with the smallest sum of distances."""
    points = _thumbnails(images)
    best: tuple[float, list[int]] = (math.inf, [0])
    for i, point in enumerate(points):
        distance = np.linalg.norm(points - point, axis=1)
        nearest = []
        for name in np.unique(labels[labels != labels[i]]):
            own = np.flatnonzero(labels == name)
            nearest.append(int(own[distance[own].argmin()]))
        nearest = sorted(nearest, key=lambda j: distance[j])[: n - 1]
        total = float(distance[nearest].sum())
        if nearest and total < best[0]:
            best = (total, [i, *nearest])
    return best[1]


def _varied_specimens(images: np.ndarray, labels: np.ndarray, n: int) -> list[int]:
    """Of the class with the largest spread, n specimens far from each other."""
    points = _thumbnails(images)
    names, counts = np.unique(labels, return_counts=True)
    enough = names[counts >= min(n, counts.max())]
    spread = {name: float(points[labels == name].std(axis=0).mean()) for name in enough}
    own = np.flatnonzero(labels == max(spread, key=spread.__getitem__))
    chosen = [int(own[0])]
    while len(chosen) < min(n, len(own)):
        to_chosen = np.linalg.norm(points[own][:, None] - points[chosen][None], axis=2).min(axis=1)
        chosen.append(int(own[to_chosen.argmax()]))
    return chosen


def missingness(records: pd.DataFrame, caption: str = "") -> Chart:
    """The share of records that have each field, in the order of the columns."""
    fields = [str(c) for c in records.columns]
    given = [float(1 - missing(records[c]).mean()) for c in records.columns]
    figure = Chart()
    figure.add_bar(
        y=fields,
        x=[100.0] * len(fields),
        orientation="h",
        marker={"color": GRID},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_bar(
        y=fields,
        x=plain([100 * g for g in given], 2),
        orientation="h",
        marker={"color": "#3d5a80"},
        text=[percent(g, 0 if g in (0, 1) else 1) for g in given],
        textposition=["inside" if g > 0.12 else "outside" for g in given],
        insidetextanchor="end",
        textangle=0,
        textfont={"size": 11.5},
        insidetextfont={"color": PAPER},
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        showlegend=False,
    )
    full = sum(g == 1 for g in given)
    title = f"Fields of the records: {full} of {len(fields)} fields are complete"
    sheet(
        figure,
        title,
        caption,
        height=rows(len(fields), 21),
        left=210,
        barmode="overlay",
        bargap=0.22,
        bottom=58,
    )
    counted = f"records that have the field (% of {len(records):,})"
    figure.update_xaxes(title_text=counted, range=[0, 100], showgrid=False)
    figure.update_yaxes(
        autorange="reversed", showgrid=False, ticksuffix="  ", tickmode="array", tickvals=fields
    )
    return figure


def split_sizes(frame: pd.DataFrame, caption: str = "") -> Chart:
    """How each class is divided.

    Args:
        frame: class, train, val, test: counts, one row per class.
    """
    total = frame[list(SIDES)].sum(axis=1)
    names = [str(c) for c in frame["class"]]
    figure = Chart()
    for side, color in SIDES.items():
        share = (100 * frame[side] / total.where(total > 0)).fillna(0)
        figure.add_bar(
            y=names,
            x=plain(share, 2),
            name=f"{side} ({int(frame[side].sum()):,})",
            orientation="h",
            marker={"color": color, "line": {"color": PAPER, "width": 1}},
            text=[f"{int(n):,}" if s >= 4 else "" for n, s in zip(frame[side], share)],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"size": 11.5, "color": INK if side == "val" else PAPER},
            hovertemplate="%{y}: %{x:.1f} %<extra>" + side + "</extra>",
        )
    sheet(
        figure,
        f"{int(total.sum()):,} specimens in three splits, class by class",
        caption,
        height=rows(len(names), 24) + 20,
        left=150,
        barmode="stack",
        bargap=0.2,
        head=118,
        legend=ABOVE,
    )
    figure.update_xaxes(
        title_text="share of the class (%); numbers are specimens", range=[0, 100], showgrid=False
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure


def split_schemes(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Ways to divide one collection side by side: how large their sides are, and what crosses from one to another.

    Args:
        frame: scheme; train, val, test: specimens; drift (points); bins_crossing, countries_crossing (missing where there
            are none); refused: why the scheme does not fit, else "". One row per scheme.
    """
    names = [f"{scheme} " for scheme in frame["scheme"]]
    figure = Chart()
    for side, color in SIDES.items():
        counts = frame[side].fillna(0).astype(int)
        figure.add_bar(
            y=names,
            x=counts.tolist(),
            name=side,
            orientation="h",
            marker={"color": color},
            text=[f"{n:,}" if n > 0.05 * frame[list(SIDES)].sum(axis=1).max() else "" for n in counts],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"size": 12, "color": INK if side == "val" else PAPER},
            hovertemplate="%{y}: %{x:,}<extra>" + side + "</extra>",
        )
    widest = int(frame[list(SIDES)].fillna(0).sum(axis=1).max())
    for name, row in zip(names, frame.to_dict("records"), strict=True):
        refused = bool(row["refused"])
        figure.add_annotation(
            y=name,
            x=0 if refused else 1.012 * widest,
            text=row["refused"] if refused else _crossing(row),
            xanchor="left",
            align="left",
            showarrow=False,
            font={"size": 12, "color": INK},
        )
    sheet(
        figure,
        _disjoint_title(frame),
        caption,
        height=rows(len(names), 58) + 20,
        left=170,
        right=20,
        barmode="stack",
        bargap=0.35,
        head=118,
        legend=ABOVE,
    )
    figure.update_xaxes(
        title_text="specimens", range=[0, round(1.5 * widest)], tickformat=",d", showgrid=False
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _disjoint_title(frame: pd.DataFrame) -> str:
    counted = frame[frame["bins_crossing"].notna()]
    if counted.empty:
        return "Split schemes of one collection"
    disjoint = int((counted["bins_crossing"] == 0).sum())
    return f"{disjoint} of {len(counted)} split schemes keep every BIN on one side"


def _crossing(row: dict) -> str:
    crossing = [
        f"{int(row[name]):,} {word} on more than one side"
        for name, word in (("bins_crossing", "BINs"), ("countries_crossing", "countries"))
        if not pd.isna(row[name])
    ]
    return "<br>".join([*crossing, f"class shares drift by {row['drift']:.1f} points at most"])


def leakage_bars(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Accuracy of each metadata field alone, by looking its value up, above the majority class.

    Args:
        frame: field, accuracy, majority (shares of 1), one row per field.
    """
    fields = [str(f) for f in frame["field"]]
    accuracy, majority = frame["accuracy"].to_numpy(float), float(frame["majority"].iloc[0])
    best = int(accuracy.argmax())
    figure = Chart()
    figure.add_bar(
        y=fields,
        x=plain(100 * np.minimum(accuracy, majority), 2),
        orientation="h",
        marker={"color": "#b9bdc4"},
        name=f"majority class ({percent(majority)})",
        hoverinfo="skip",
    )
    figure.add_bar(
        y=fields,
        x=plain(100 * np.maximum(accuracy - majority, 0), 2),
        orientation="h",
        marker={"color": ACCENT},
        name="above it, from the field alone",
        hovertemplate="%{y}: + %{x:.1f} points<extra></extra>",
    )
    figure.add_scatter(
        y=fields,
        x=plain(100 * np.maximum(accuracy, majority) + 0.6, 2),
        text=[f"{100 * a:.1f}" for a in accuracy],
        mode="text",
        textposition="middle right",
        textfont={"size": 12},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
    )
    sheet(
        figure,
        f"{fields[best]} alone predicts {percent(accuracy[best])}, the majority class {percent(majority)}",
        caption,
        height=rows(len(fields), 27) + 24,
        left=210,
        right=60,
        barmode="stack",
        bargap=0.3,
        head=118,
        legend=ABOVE,
    )
    figure.add_vline(x=round(100 * majority, 2), line={"color": INK, "width": 1.2, "dash": "dot"})
    figure.update_xaxes(
        title_text="accuracy of a look-up in the training records (%)", range=[0, 105], dtick=20
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure

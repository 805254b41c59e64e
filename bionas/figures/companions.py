"""Figures of the neighbouring papers: SERAN's attention and errors, EB-LNAST's population and what its networks cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bionas.figures.palette import ACCENT, GRID, INK, PAPER
from bionas.figures.placement import text_positions
from bionas.figures.sheet import ABOVE, HEAD, MUTED, Chart, hex_to_rgb, panels, picture, plain, rows, sheet

ACTIVATION_COLORS = {"relu": "#4477aa", "leaky_relu": "#66ccee", "tanh": "#e0a100", "sigmoid": "#aa3377"}
"""One per activation of EB-LNAST's space."""

OURS, THEIRS = "#3d5a80", "#b9bdc4"

PANELS = 3
"""Small multiples per row."""


def attention(image: np.ndarray, trunk: np.ndarray, mask: np.ndarray, caption: str = "") -> Chart:
    """A specimen and, for its most active channels, trunk T, mask M and H = (1 + M) * T.

    Args:
        image: uint8 (S, S, 3).
        trunk, mask: (K, H, W) numbers, one map per channel. T and H of a channel share one scale, M runs from 0 (paper) to 1
            (ink).
    """
    product = (1 + mask) * trunk
    tiles, names = [], []
    for k, (t, m, h) in enumerate(zip(trunk, mask, product), 1):
        low, high = float(min(t.min(), h.min())), float(max(t.max(), h.max()))
        tiles += [image, _tile(t, low, high), _tile(m, 0, 1), _tile(h, low, high)]
        names += [
            "specimen" if k == 1 else "",
            f"trunk T, channel {k}",
            f"mask M, {m.min():.2f} to {m.max():.2f}",
            "H = (1 + M) T",
        ]
    side = max(tile.shape[0] for tile in tiles)
    tiles = [_enlarged(tile, side) for tile in tiles]
    return picture(
        tiles,
        names,
        4,
        f"Attention on one specimen: masks between {mask.min():.2f} and {mask.max():.2f}",
        caption,
        smooth=False,
    )


def published_errors(frame: pd.DataFrame, error: str = "test_top1_error", caption: str = "") -> Chart:
    """Ours and the published error of each network, in a panel of its own each: they are of other images and classes.

    Args:
        frame: model, `error` of ours as <error>_mean and <error>_sd, published as published_<error>; NaN where not run or
            not printed. Per cent.
    """
    models = [str(m) for m in frame["model"]]
    where = list(range(len(models)))
    figure = panels(1, 2, shared_yaxes=True, horizontal_spacing=0.09, subplot_titles=("ours", "as published"))
    ours, spread = frame[f"{error}_mean"], frame[f"{error}_sd"].fillna(0)
    for column, (values, wide, color) in enumerate(
        ((ours, spread, OURS), (frame[f"published_{error}"], spread * 0, THEIRS)), 1
    ):
        known = values.notna().to_numpy()
        figure.add_scatter(
            x=plain(values[known], 2),
            y=[y for y, k in zip(where, known) if k],
            mode="markers",
            showlegend=False,
            marker={"color": color, "size": 11, "line": {"color": MUTED, "width": 1}},
            error_x={"type": "data", "array": plain(wide[known], 2), "color": color, "thickness": 2},
            hovertemplate="%{x:.2f} %<extra></extra>",
            row=1,
            col=column,
        )
        for y in (y for y, k in zip(where, known) if not k):
            note = "not run" if column == 1 else "not printed"
            figure.add_annotation(
                x=0.02,
                xref=f"x{'' if column == 1 else column} domain",
                y=y,
                yref="y" if column == 1 else "y2",
                text=note,
                showarrow=False,
                xanchor="left",
                font={"size": 12, "color": MUTED},
            )
        figure.update_xaxes(title_text=f"{error.replace('_', ' ')} (%)", nticks=6, row=1, col=column)
        if not known.any():
            figure.update_xaxes(range=[0, 100], row=1, col=column)
    sheet(
        figure,
        "Errors by network: each panel has its own images, classes and scale",
        caption,
        height=rows(len(models), 34) + 30,
        left=190,
        right=40,
        head=HEAD + 18,
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=where,
        ticktext=models,
        range=[len(models) - 0.5, -0.5],
        gridcolor=GRID,
        ticksuffix="  ",
    )
    return figure


def error_curves(courses: pd.DataFrame, caption: str = "") -> Chart:
    """Training and validation error by epoch, a panel per network: the mean over runs, and each run as a thin line.

    Args:
        courses: model, seed, epoch, train_error, val_error (shares of one).
    """
    models = list(dict.fromkeys(courses["model"]))
    across = min(2, len(models))
    down = math.ceil(len(models) / across)
    figure = panels(down, across, shared_yaxes=True, vertical_spacing=0.12, subplot_titles=models)
    looks = {"train_error": ("training", ACCENT), "val_error": ("validation", OURS)}
    for place, model in enumerate(models):
        of_model = courses[courses["model"] == model]
        at = {"row": place // across + 1, "col": place % across + 1}
        for column, (name, color) in looks.items():
            for _, run in of_model.groupby("seed"):
                x, y = run["epoch"].tolist(), plain(100 * run[column], 1)
                thin = {"color": color, "width": 0.7}
                figure.add_scatter(
                    x=x, y=y, mode="lines", line=thin, opacity=0.5, showlegend=False, hoverinfo="skip", **at
                )
            mean = of_model.groupby("epoch")[column].mean()
            figure.add_scatter(
                x=mean.index.tolist(), y=plain(100 * mean, 1), mode="lines", line={"color": color, "width": 2.4}, name=name,
                showlegend=place == 0, hovertemplate="epoch %{x}: %{y:.1f} %<extra></extra>", **at,
            )  # fmt: skip
    ends = courses[courses["epoch"] == courses["epoch"].max()].groupby("model", sort=False)
    gaps = 100 * (ends["val_error"].mean() - ends["train_error"].mean())
    widest = str(gaps.idxmax())
    title = f"Validation error ends {gaps.max():.0f} points above training error in {widest}"
    if len(models) > 1:
        title += f", {gaps.min():.0f} in {gaps.idxmin()}"
    sheet(figure, title, caption, height=230 * down + 60, head=HEAD + 18)
    figure.update_xaxes(title_text="epoch", row=down)
    figure.update_yaxes(title_text="top-1 error (%)", rangemode="tozero", gridcolor=GRID, col=1)
    return figure


def population_evolution(history: pd.DataFrame, generations: Sequence[int] = (), caption: str = "") -> Chart:
    """A population, one panel per generation: size against performance, one colour per activation.

    Args:
        history: generation, member, activation, parameters, performance (a share of 1), objective, one row per generation
            and member, as `search.Found` holds it.
        generations: those to show; six from the first to the last where not given. The member with the smallest
            objective of each is ringed.
    """
    known = sorted(int(g) for g in history["generation"].unique())
    chosen = list(generations) or sorted(
        {known[round((len(known) - 1) * s)] for s in (0, 0.07, 0.2, 0.4, 0.7, 1)}
    )
    n_rows = math.ceil(len(chosen) / PANELS)
    figure = panels(
        n_rows,
        min(PANELS, len(chosen)),
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=0.24 / n_rows,
        subplot_titles=[f"generation {g}" for g in chosen],
    )
    for i, generation in enumerate(chosen):
        row, column = i // PANELS + 1, i % PANELS + 1
        members = history[history["generation"] == generation]
        for activation, color in ACTIVATION_COLORS.items():
            of = members[members["activation"] == activation]
            figure.add_scatter(
                x=plain(of["parameters"]),
                y=plain(100 * of["performance"], 2),
                mode="markers",
                name=activation,
                legendgroup=activation,
                showlegend=i == 0 and activation in set(history["activation"]),
                marker={"color": color, "size": 10, "opacity": 0.8, "line": {"color": PAPER, "width": 1}},
                hovertemplate="%{x} parameters, %{y:.1f} %<extra>" + activation + "</extra>",
                row=row,
                col=column,
            )
        best = members.loc[members["objective"].idxmin()]
        figure.add_scatter(
            x=[int(best["parameters"])],
            y=[round(100 * float(best["performance"]), 2)],
            mode="markers",
            name="smallest objective",
            legendgroup="best",
            showlegend=i == 0,
            hoverinfo="skip",
            marker={
                "color": ACCENT,
                "size": 18,
                "symbol": "circle-open",
                "line": {"color": ACCENT, "width": 2},
            },
            row=row,
            col=column,
        )
    sheet(
        figure,
        _size_title(history, chosen),
        caption,
        height=HEAD + 120 + 205 * n_rows,
        left=76,
        head=HEAD + 46,
        legend=ABOVE | {"y": 1 + 0.16 / n_rows},
    )
    low = 100 * float(history["performance"].min())
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title_text="parameters", row=n_rows)
    figure.update_yaxes(range=[round(low - 2, 1), 101], title_text="performance (%)", col=1)
    return figure


def _size_title(history: pd.DataFrame, generations: Sequence[int]) -> str:
    first, last = (
        history.loc[history["generation"] == g, "parameters"].median()
        for g in (generations[0], generations[-1])
    )
    change = "falls" if last < first else "rises" if last > first else "stays"
    return f"Median size {change} from {first:,.0f} to {last:,.0f} parameters"


def colour_readings(
    rgb: np.ndarray, labels: np.ndarray, class_names: Sequence[str], caption: str = ""
) -> Chart:
    """Readings of a colour sensor, one tile per class.

    Args:
        rgb: (N, 3) in [0, 1]; of each class the first 36 at most, as many of each.
        labels: (N,) positions in `class_names`.
    """
    fewest = int(np.bincount(labels, minlength=len(class_names)).min())
    side = min(6, math.isqrt(fewest))
    tiles = []
    for label in range(len(class_names)):
        of = np.round(255 * rgb[labels == label][: side**2]).astype(np.uint8).reshape(side, side, 3)
        tiles.append(np.kron(of, np.ones((72 // side, 72 // side, 1), dtype=np.uint8)))
    return picture(
        tiles, class_names, 5, "Readings under varying light, by name of the surface", caption, smooth=False
    )


def pareto(
    frame: pd.DataFrame, score: str = "accuracy", highlight: Sequence[str] = (), caption: str = ""
) -> Chart:
    """Size against performance, one point per model; the line joins those that no smaller model equals.

    Args:
        frame: model, parameters, `score`, <score>_sd (per cent), one row per model.
        highlight: models to see first.
    """
    ordered = frame.sort_values(["parameters", score], ascending=[True, False])
    front = ordered[ordered[score] > ordered[score].cummax().shift(fill_value=-math.inf)]
    figure = Chart()
    figure.add_scatter(
        x=plain(front["parameters"]),
        y=plain(front[score], 2),
        mode="lines",
        showlegend=False,
        hoverinfo="skip",
        line={"color": MUTED, "width": 1.2, "dash": "dot", "shape": "hv"},
    )
    for mark, of in (
        (OURS, ~ordered["model"].isin(list(highlight))),
        (ACCENT, ordered["model"].isin(list(highlight))),
    ):
        part = ordered[of]
        figure.add_scatter(
            x=plain(part["parameters"]),
            y=plain(part[score], 2),
            mode="markers",
            showlegend=False,
            marker={"color": mark, "size": 11},
            text=[str(m) for m in part["model"]],
            error_y={
                "type": "data",
                "array": plain(part[f"{score}_sd"].fillna(0), 2),
                "color": mark,
                "thickness": 1.3,
            },
            hovertemplate="%{text}: %{x:,} parameters, %{y:.2f} %<extra></extra>",
        )
    named = score.replace("_", " ")
    sheet(
        figure,
        f"Size against {named}: the dotted line joins what no smaller model equals",
        caption,
        height=540,
        right=60,
    )
    least = float(ordered[score].nsmallest(2).iloc[-1])
    below = ordered[ordered[score] < least - 10]
    span = float(ordered[score].max()) - least if len(below) else float(np.ptp(ordered[score]))
    shown = ordered.drop(below.index)
    cost = np.log10(shown["parameters"].astype(float))
    across = (cost - cost.min()) / (np.ptp(cost) or 1)
    positions = text_positions(
        0.05 + 0.9 * across, 0.15 + 0.7 * (shown[score] - least) / (span or 1), shown["model"]
    )
    figure.add_scatter(
        x=plain(shown["parameters"]),
        y=plain(shown[score], 2),
        mode="markers+text",  # plotly keeps text off the marker, here an invisible one
        marker={"size": 11, "opacity": 0},
        text=[str(m) for m in shown["model"]],
        textposition=[positions[i] for i in shown.index],
        textfont={"size": 11.5, "color": INK},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
    )
    if len(below):
        named_below = ", ".join(f"{m} {v:.1f} %" for m, v in zip(below["model"], below[score]))
        figure.add_annotation(
            x=0,
            xref="paper",
            y=0,
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            xshift=8,
            yshift=6,
            showarrow=False,
            text=f"below the axis: {named_below}",
            font={"size": 12, "color": MUTED},
        )
        figure.update_yaxes(range=[round(least - 0.2 * span, 2), round(least + 1.2 * span, 2)])
    figure.update_xaxes(type="log", dtick=1, title_text="numbers kept in order to predict (median)")
    figure.update_yaxes(title_text=f"{named} (%), mean and spread over repeats")
    return figure


def _tile(numbers: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) numbers -> uint8 (H, W, 3), from paper at `low` through blue to ink at `high`."""
    share = (numbers - low) / (high - low) if high > low else np.zeros_like(numbers, dtype=float)
    stops = np.array([hex_to_rgb(c) for c in (PAPER, "#7fa6cc", INK)], dtype=float)
    return (
        np.stack([np.interp(share, (0, 0.55, 1), stops[:, c]) for c in range(3)], axis=-1)
        .round()
        .astype(np.uint8)
    )


def _enlarged(tile: np.ndarray, side: int) -> np.ndarray:
    """(S, S, 3) to (side, side, 3), every pixel a square."""
    at = np.arange(side) * tile.shape[0] // side
    return tile[at][:, at]

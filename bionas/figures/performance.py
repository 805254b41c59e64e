"""Figures of results: confusion, one-vs-rest curves, calibration, models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bionas.figures.palette import ACCENT, GRID, INK, PAPER, class_color
from bionas.figures.sheet import ABOVE, BLUES, HEAD, MUTED, Chart, panels, plain, rows, sheet, table

CURVE_POINTS = 150
"""Corners of a ROC curve that are drawn."""


def confusion(matrix: Any, class_names: Sequence[str], normalise: bool = True, caption: str = "") -> Chart:
    """The confusion matrix, rows the truth.

    Args:
        matrix: (C, C) counts.
        normalise: colour and numbers are the share of the true class in per cent; otherwise counts.
    """
    matrix = np.asarray(matrix)
    n = matrix.sum(axis=1)
    names, right = [str(c) for c in class_names], int(np.trace(matrix))
    share = np.divide(100.0 * matrix, n[:, None], out=np.full(matrix.shape, np.nan), where=n[:, None] > 0)
    shown = share if normalise else matrix.astype(float)
    least, unit = (0.5, "% of the true class") if normalise else (1, "specimens")
    cell = max(min(36, 620 // len(names)), 16)
    figure = Chart(
        go.Heatmap(
            z=table(shown, 1),
            x=names,
            y=[f"{name}  ({count:,})" for name, count in zip(names, n)],
            colorscale=BLUES,
            zmin=0,
            zmax=100 if normalise else int(matrix.max()),
            text=[[f"{v:.0f}" if v >= least else "" for v in line] for line in shown],
            texttemplate="%{text}",
            textfont={"size": 11 if cell > 24 else 9},
            xgap=1.5,
            ygap=1.5,
            customdata=matrix.tolist(),
            hovertemplate="%{y} taken for %{x}: %{customdata}<extra></extra>",
            colorbar={
                "title": {"text": unit, "side": "right", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
            },
        )
    )
    sheet(
        figure,
        f"Confusion: {right:,} of {int(n.sum()):,} specimens are right",
        caption,
        height=HEAD + 135 + cell * len(names),
        left=190,
        right=110,
        bottom=135,
    )
    figure.update_xaxes(
        title_text="predicted", tickangle=-45, showgrid=False, tickmode="array", tickvals=names
    )
    figure.update_yaxes(
        title_text="truth (specimens)", autorange="reversed", showgrid=False, ticksuffix=" ", nticks=len(n)
    )
    return figure


def roc_curves(roc: pd.DataFrame | dict[str, tuple[Any, Any, float]], caption: str = "") -> Chart:
    """Each class against the rest, hardest class first in the legend (as the paper's Fig. 5).

    Args:
        roc: class, fpr, tpr, auc as in a run's roc.csv, or class -> (fpr, tpr, auc).
    """
    if not isinstance(roc, pd.DataFrame):
        columns = ("fpr", "tpr", "auc")
        roc = pd.concat(
            pd.DataFrame({"class": name, **dict(zip(columns, curve))}) for name, curve in roc.items()
        )
    if roc.empty:  # a split of a single class
        return sheet(
            go.Figure(), "No ROC curve: these specimens are all of one class", caption, height=HEAD + 90
        )
    auc = roc.groupby("class", sort=False)["auc"].first().sort_values(kind="stable")
    names = [str(c) for c in auc.index]
    figure = Chart()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": MUTED, "dash": "dot", "width": 1.2},
        showlegend=False,
        hoverinfo="skip",
    )
    for name in names:
        curve = roc[roc["class"] == name]
        keep = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_POINTS)).round().astype(int))
        figure.add_scatter(
            x=plain(curve["fpr"].iloc[keep], 3),
            y=plain(curve["tpr"].iloc[keep], 3),
            mode="lines",
            name=f"{auc[name]:.3f}  {name}",
            line={"color": class_color(name, names), "width": 2},
            hovertemplate="false %{x:.2f}, true %{y:.2f}<extra>" + name + "</extra>",
        )
    title = f"One class against the rest: AUC {auc.min():.3f} ({names[0]}) to {auc.max():.3f}"
    sheet(
        figure,
        title,
        caption,
        height=max(560, HEAD + 90 + 21 * len(names)),
        right=300,
        legend={
            "x": 1.03,
            "y": 1,
            "yanchor": "top",
            "title": {"text": "AUC    class"},
            "font": {"size": 12.5},
        },
    )
    figure.update_xaxes(title_text="false positive rate", range=[-0.01, 1], dtick=0.2)
    figure.update_yaxes(title_text="true positive rate", range=[0, 1.015], dtick=0.2)
    return figure


def reliability(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Confidence against accuracy, and how many specimens are in each bin.

    Args:
        frame: low, high, confidence, accuracy, n, one row per bin, as in a run's reliability.csv.
    """
    filled = frame[frame["n"] > 0]
    gap = filled["accuracy"] - filled["confidence"]
    ece = float((gap.abs() * filled["n"]).sum() / filled["n"].sum())
    lean = "too sure" if float((gap * filled["n"]).sum()) < 0 else "not sure enough"
    middle, width = plain((filled["low"] + filled["high"]) / 2), plain(filled["high"] - filled["low"])
    figure = panels(2, 1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.05)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": MUTED, "dash": "dot", "width": 1.2},
        name="perfectly calibrated",
        row=1,
        col=1,
    )
    figure.add_bar(
        x=middle,
        y=plain(filled["accuracy"]),
        width=width,
        name="share that is right",
        marker={"color": "#3d5a80", "line": {"color": PAPER, "width": 1}},
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=plain(filled["confidence"]),
        y=plain(filled["confidence"]),
        mode="markers",
        name="mean confidence",
        marker={"color": ACCENT, "size": 9, "symbol": "line-ew", "line": {"color": ACCENT, "width": 3}},
        row=1,
        col=1,
    )
    figure.add_bar(
        x=middle,
        y=plain(filled["n"]),
        width=width,
        marker={"color": "#b9bdc4", "line": {"color": PAPER, "width": 1}},
        showlegend=False,
        row=2,
        col=1,
    )
    sheet(
        figure,
        f"Calibration: off by {100 * ece:.1f} points on average, {lean}",
        caption,
        height=560,
        head=HEAD + 28,
        legend=ABOVE,
        bargap=0,
    )
    figure.update_xaxes(range=[0, 1], dtick=0.2)
    figure.update_xaxes(title_text="confidence of the answer", row=2, col=1)
    figure.update_yaxes(title_text="share that is right", range=[0, 1], row=1, col=1)
    figure.update_yaxes(title_text="specimens", nticks=4, row=2, col=1)
    return figure


def comparison(
    frame: pd.DataFrame, metric: str = "balanced_accuracy", caption: str = "", highlight: str | None = None
) -> Chart:
    """Models side by side: one dot per training, a bar for the mean, numbers at the right. Rows keep the frame's order.

    Args:
        frame: model, `metric` (a share of 1), one row per model and seed.
        highlight: the model to see first.
    """
    models = [str(m) for m in frame["model"].unique()]
    values = {m: 100 * frame.loc[frame["model"] == m, metric].astype(float) for m in models}
    figure = Chart()
    for y, model in enumerate(models):
        color = ACCENT if model == highlight else "#3d5a80"
        mean = float(values[model].mean())
        figure.add_scatter(
            x=plain(values[model], 2),
            y=[y] * len(values[model]),
            mode="markers",
            showlegend=False,
            marker={"color": color, "size": 11, "opacity": 0.55, "line": {"color": PAPER, "width": 1}},
            hovertemplate="%{x:.1f} %<extra>" + model + "</extra>",
        )
        figure.add_shape(
            type="line",
            x0=round(mean, 2),
            x1=round(mean, 2),
            y0=y - 0.3,
            y1=y + 0.3,
            line={"color": color, "width": 3},
        )
        spread = f" ± {values[model].std(ddof=1):.1f}" if len(values[model]) > 1 else ""
        figure.add_annotation(
            x=1.015,
            xref="paper",
            y=y,
            xanchor="left",
            showarrow=False,
            font={"color": INK, "size": 12.5},
            text=f"{mean:.1f}{spread}  (n = {len(values[model])})",
        )
    named = metric.replace("_", " ")
    best = max(models, key=lambda m: float(values[m].mean()))
    low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
    pad = max(0.08 * (high - low), 1.0)
    sheet(
        figure,
        f"{best} has the highest {named}: {values[best].mean():.1f} %",
        caption,
        height=rows(len(models), 38) + 10,
        left=210,
        right=150,
    )
    figure.update_xaxes(
        title_text=f"{named} on the test split (%)",
        range=[round(max(low - pad, 0), 1), round(min(high + pad, 100), 1)],
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(models))),
        ticktext=models,
        range=[len(models) - 0.5, -0.5],
        gridcolor=GRID,
        ticksuffix="  ",
    )
    return figure

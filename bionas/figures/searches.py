"""The study of searches as a figure: every strategy's networks on test, and what it adds to random search."""

from __future__ import annotations

import pandas as pd

from bionas.figures.palette import INK, STRATEGY_COLORS
from bionas.figures.sheet import BELOW, MUTED, Chart, panels, plain, rows, sheet

CONTROL = "random"


def searches_compared(table: pd.DataFrame, runs: pd.DataFrame, caption: str = "") -> Chart:
    """Left: balanced accuracy of each search and its mean with a 95 % interval. Right: the difference from random search.

    Args:
        table: strategy, n_searches, balanced_accuracy, low, high, difference, difference_low, difference_high and
            core_minutes, in percent and points, as `bionas searches` writes it; rows without searches are left out, the
            majority class is a line.
        runs: strategy, seed, balanced_accuracy (a share of one).
    """
    majority = table.loc[table["strategy"] == "majority class", "balanced_accuracy"]
    done = table[table["n_searches"] > 0].sort_values("balanced_accuracy", kind="stable")
    names = list(done["strategy"])
    labels = [f"{n} ({m:.1f} min)" for n, m in zip(names, done["core_minutes"])]
    label_of = dict(zip(names, labels))
    colors = [_color(name) for name in names]
    figure = panels(
        1,
        2,
        shared_yaxes=True,
        column_widths=[0.58, 0.42],
        horizontal_spacing=0.04,
    )
    single = runs[runs["strategy"].isin(names)]
    figure.add_scatter(
        x=plain(100 * single["balanced_accuracy"], 2),
        y=[label_of[name] for name in single["strategy"]],
        mode="markers",
        name="one search",
        marker={"size": 7, "color": MUTED, "opacity": 0.55},
        customdata=[int(seed) for seed in single["seed"]],
        hovertemplate="%{y}, seed %{customdata}: %{x:.1f} %<extra></extra>",
        row=1,
        col=1,
    )
    _dots(
        figure, done["balanced_accuracy"], done["low"], done["high"], labels, colors, 1, "mean, 95 % interval"
    )
    compared = done.dropna(subset="difference")
    _dots(
        figure,
        compared["difference"],
        compared["difference_low"],
        compared["difference_high"],
        [label_of[name] for name in compared["strategy"]],
        [_color(name) for name in compared["strategy"]],
        2,
        "difference, 95 % interval",
    )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1.2}, row=1, col=2)
    if len(majority):
        figure.add_vline(
            x=round(float(majority.iloc[0]), 2), line={"color": INK, "width": 1, "dash": "dot"}, row=1, col=1
        )
    above = int((compared["difference_low"] > 0).sum())
    title = f"{above} of {len(compared)} are above random search"
    sheet(
        figure,
        title,
        caption,
        height=rows(len(names), 42) + 40,
        left=170,
        bottom=100,
        showlegend=True,
        legend=BELOW,
    )
    figure.update_xaxes(title_text="balanced accuracy on test (%)", row=1, col=1)
    figure.update_xaxes(title_text="points above random search", row=1, col=2)
    figure.update_yaxes(
        categoryorder="array", categoryarray=labels, range=[-0.6, len(names) - 0.4], ticksuffix="  "
    )
    return figure


def _color(name: str) -> str:
    return STRATEGY_COLORS["fixed"] if name == "hand_drawn" else STRATEGY_COLORS.get(name, MUTED)


def _dots(
    figure: Chart,
    means: pd.Series,
    low: pd.Series,
    high: pd.Series,
    labels: list[str],
    colors: list[str],
    column: int,
    name: str,
) -> None:
    figure.add_scatter(
        x=plain(means, 2),
        y=labels,
        mode="markers",
        name=name,
        marker={"size": 12, "color": colors},
        error_x={
            "type": "data",
            "array": plain(high - means, 2),
            "arrayminus": plain(means - low, 2),
            "thickness": 1.6,
            "width": 5,
            "color": MUTED,
        },
        hovertemplate="%{y}: %{x:.1f}<extra>" + name + "</extra>",
        row=1,
        col=column,
        showlegend=column == 1,
    )

"""Figures of Table I: accuracy against cost, what searches add to random search, regret, skips, costs of networks.

Tables are those of `data/results/` as they are read (`ablation_results`). Published figures have traces of their own,
open or diamond-shaped where ours are filled, and can be switched.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bionas.figures.palette import ACCENT, GRID, INK, PAPER, SET_COLORS, STRATEGY_COLORS
from bionas.figures.placement import text_positions
from bionas.figures.sheet import ABOVE, BELOW, HEAD, MUTED, Chart, panels, plain, rows, sheet

COSTS = {
    "flops": ("mmacs", "multiply-accumulates (millions)", "paper_gflops", "GFLOPs, as printed"),
    "latency": (
        "cpu_ms",
        "one specimen on one CPU thread (ms)",
        "paper_cpu_ms",
        "CPU latency (ms), as printed",
    ),
}
"""What accuracy is drawn against: our column and its axis, the paper's column and its axis."""

SEEDS = ("#4477aa", "#228833", "#aa3377", "#ccbb44", "#66ccee")
"""Colours of runs that differ only in their seed."""

REFERENCE = "E009"
"""The row that the comparison of both starts from: the paper's own network."""


def front(cost: pd.Series, score: pd.Series) -> list:
    """The Pareto front: labels of points that no other point beats at the same or lower cost, by cost."""
    kept, best = [], -np.inf
    for label in (
        pd.DataFrame({"cost": cost, "score": -score}).sort_values(["cost", "score"], kind="stable").index
    ):
        if score[label] > best:
            kept.append(label)
            best = score[label]
    return kept


def accuracy_against_cost(table: pd.DataFrame, cost: str = "flops", caption: str = "") -> Chart:
    """One dot per experiment, the Pareto front as a line; buttons change between ours, the paper's, and both.

    Cost is on a log scale: fusions over tokens cost ten times the others.

    Both together are drawn relative to E009, since neither the data nor the sizes are the same: times its cost, points
    above its accuracy.

    Args:
        table: row, strategy, n, accuracy_mean, accuracy_sd, our cost and the paper's columns, as in the summary of a
            grid; rows that were not run are only drawn as the paper's.
        cost: a name of `COSTS`.
    """
    column, axis, theirs, their_axis = COSTS[cost]
    table = table.dropna(subset="strategy").set_index("row")
    done = table[table["n"] > 0]
    paper = table.dropna(subset="paper_accuracy")
    views: dict[str, tuple[list[go.Scatter], str, str]] = {}  # name -> traces, names of the axes
    if len(done):
        frame = _points(done, column, "accuracy_mean", done["accuracy_sd"])
        views["ours"] = (_cloud(frame), axis, "accuracy on the test split (%)")
    printed = _points(paper, theirs, "paper_accuracy")
    views["the paper's"] = (_cloud(printed, open_=True), their_axis, "accuracy, as printed (%)")
    if REFERENCE in done.index:
        both = _cloud(_relative(frame), name="ours: ")
        # The same labels again would cover each other: the paper's are shown on hover.
        both += _cloud(_relative(printed), open_=True, name="the paper's: ", named=False)
        views["both"] = (
            both,
            f"times the cost of {REFERENCE}",
            f"accuracy above that of {REFERENCE} (points)",
        )
    subject = {"flops": "multiply-accumulates", "latency": "latency"}[cost]
    counted = {
        "ours": _on_front(done, column, "accuracy_mean") if len(done) else "",
        "the paper's": _on_front(paper, theirs, "paper_accuracy"),
        "both": f"relative to {REFERENCE}",
    }
    titles = {name: f"Accuracy against {subject}, {name}: {counted[name]}" for name in views}
    first = next(iter(views))
    traces = [trace.update(visible=name == first) for name, (of, _, _) in views.items() for trace in of]
    figure = Chart(traces)
    buttons = []
    for name, (_, x, y) in views.items():
        shown = [name == other for other, (of, _, _) in views.items() for _ in of]
        change = {
            "title.text": f"<b>{titles[name]}</b>",
            "xaxis.title.text": x,
            "yaxis.title.text": y,
            "xaxis.autorange": True,
            "yaxis.autorange": True,
        }
        buttons.append({"label": name, "method": "update", "args": [{"visible": shown}, change]})
    title = titles[first]
    sheet(
        figure,
        title,
        caption,
        height=520,
        head=HEAD + 40,
        right=190,
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "active": 0,
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "pad": {"t": 0, "b": 4},
                "font": {"size": 12},
                "bgcolor": PAPER,
                "bordercolor": GRID,
            }
        ],
    )
    ticks = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 1.5, 2, 3, 5, 7)]
    labels = [f"{tick:,g}" for tick in ticks]
    figure.update_xaxes(title_text=views[first][1], type="log", tickvals=ticks, ticktext=labels)
    figure.update_yaxes(title_text=views[first][2])
    return figure


def _on_front(table: pd.DataFrame, cost: str, score: str) -> str:
    return f"{len(front(table[cost], table[score]))} of {len(table)} rows on the front"


def _points(table: pd.DataFrame, cost: str, score: str, spread: pd.Series | None = None) -> pd.DataFrame:
    """Indexed by row: strategy, cost, score, spread."""
    columns = {"strategy": table["strategy"], "cost": table[cost], "score": table[score]}
    return pd.DataFrame(columns | {"spread": np.nan if spread is None else spread}).dropna(
        subset=["cost", "score"]
    )


def _relative(points: pd.DataFrame) -> pd.DataFrame:
    start = points.loc[REFERENCE]
    return points.assign(cost=points["cost"] / start["cost"], score=points["score"] - start["score"])


def _cloud(points: pd.DataFrame, open_: bool = False, name: str = "", named: bool = True) -> list[go.Scatter]:
    """One trace per strategy, and the front; `named` writes the row beside each point."""
    across, up = np.log10(points["cost"]), points["score"]
    labels = text_positions(_share(across), _share(up), pd.Series(points.index, points.index))
    best = points.loc[front(points["cost"], points["score"])]
    traces = [
        go.Scatter(
            x=plain(best["cost"]),
            y=plain(best["score"], 2),
            mode="lines",
            name=f"{name}front",
            hoverinfo="skip",
            line={"color": MUTED, "width": 1.4, "dash": "dot" if open_ else "solid", "shape": "hv"},
        )
    ]
    for strategy, group in points.groupby("strategy", sort=False):
        color = STRATEGY_COLORS.get(strategy, MUTED)
        spread = None if group["spread"].isna().all() else plain(group["spread"], 2)
        traces.append(
            go.Scatter(
                x=plain(group["cost"]),
                y=plain(group["score"], 2),
                mode="markers+text" if named else "markers",
                name=f"{name}{strategy}",
                text=list(group.index),
                textposition=[labels[row] for row in group.index],
                textfont={"size": 10.5, "color": INK},
                error_y=None
                if spread is None
                else {"type": "data", "array": spread, "thickness": 0.7, "width": 0, "color": MUTED},
                marker={
                    "color": color,
                    "size": 10,
                    "symbol": "diamond-open" if open_ else "circle",
                    "line": {"color": color, "width": 2 if open_ else 0},
                },
                hovertemplate="%{text}: %{y:.2f} at %{x:.4g}<extra>" + f"{name}{strategy}" + "</extra>",
            )
        )
    return traces


def _share(values: pd.Series) -> pd.Series:
    """Values as shares of a plot with a margin at either side."""
    low, high = values.min(), values.max()
    return 0.05 + 0.9 * (values - low) / ((high - low) or 1)


def gains(frame: pd.DataFrame, against: str, caption: str = "") -> Chart:
    """What each row is above another one, in points: a dot with two standard errors, the paper's as an open diamond.

    Args:
        frame: label, strategy, gain, error (of the difference, one standard error) and paper_gain; gain may be missing.
        against: what the zero is, in words.
    """
    labels, ours = list(frame["label"]), frame.dropna(subset="gain")
    figure = Chart()
    figure.add_vline(x=0, line={"color": MUTED, "width": 1.2})
    figure.add_scatter(
        x=plain(frame["paper_gain"], 2),
        y=labels,
        mode="markers",
        name="the paper's",
        marker={"symbol": "diamond-open", "size": 11, "color": INK, "line": {"width": 1.8}},
        hovertemplate="%{y}: %{x:+.2f} points<extra>the paper's</extra>",
    )
    figure.add_scatter(
        x=plain(ours["gain"], 2),
        y=list(ours["label"]),
        mode="markers",
        name="ours, ± 2 standard errors",
        error_x={
            "type": "data",
            "array": plain(2 * ours["error"], 2),
            "thickness": 1.6,
            "width": 5,
            "color": MUTED,
        },
        marker={"size": 11, "color": [STRATEGY_COLORS.get(s, MUTED) for s in ours["strategy"]]},
        hovertemplate="%{y}: %{x:+.2f} points<extra>ours</extra>",
    )
    beyond = int((ours["gain"].abs() > 2 * ours["error"]).sum())
    title = f"Points above {against}" + (
        f": {beyond} of {len(ours)} beyond two standard errors" if len(ours) else ""
    )
    sheet(
        figure,
        title,
        caption,
        height=rows(len(labels), 40) + 20,
        head=HEAD + 26,
        left=170,
        legend=ABOVE,
        showlegend=True,
    )
    figure.update_xaxes(title_text="points of test accuracy")
    order = {"categoryorder": "array", "categoryarray": labels[::-1]}
    figure.update_yaxes(range=[-0.6, len(labels) - 0.4], ticksuffix="  ", **order)
    return figure


def regret_curves(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Mean regret by budget, one line per strategy; 0 is the best of the space.

    Args:
        frame: strategy, candidates, regret_mean (a share of one), repeats, verdict; those without any are left out.
    """
    known = frame.dropna(subset="regret_mean")
    figure = Chart()
    better, others = 0, known["strategy"].nunique() - ("random" in set(known["strategy"]))
    for strategy, curve in known.groupby("strategy", sort=False):
        better += str(curve["verdict"].iloc[0]).startswith("better")
        figure.add_scatter(
            x=plain(curve["candidates"]),
            y=plain(100 * curve["regret_mean"], 3),
            mode="lines+markers",
            name=f"{strategy} ({int(curve['repeats'].max())})",
            marker={"size": 5},
            line={
                "color": STRATEGY_COLORS.get(strategy, MUTED),
                "width": 2.4,
                "dash": "dash" if strategy == "random" else "solid",
            },
            hovertemplate="%{x} candidates: %{y:.2f} points<extra>" + strategy + "</extra>",
        )
    sheet(
        figure,
        f"Regret: {better} of {others} strategies are better than random search",
        caption,
        height=440,
        right=190,
        legend={"title": {"text": "strategy (repeats)"}},
    )
    figure.update_xaxes(title_text="budget (candidates trained)")
    figure.update_yaxes(title_text="regret (points of validation accuracy)", rangemode="tozero")
    return figure


def skip_courses(epochs: pd.DataFrame, caption: str = "") -> Chart:
    """Edges led by skip_connect by epoch: one panel per kind of search, one line per seed, a cross where it was stopped.

    Args:
        epochs: model (the kind), seed, epoch, leading_skips, max_skips (missing: no limit), edges, search_epochs.
    """
    kinds = list(epochs["model"].unique())
    edges, last = int(epochs["edges"].iloc[0]), int(epochs["search_epochs"].iloc[0])
    columns = len(kinds) if len(kinds) <= 4 else -(-len(kinds) // 2)
    rows = -(-len(kinds) // columns)
    figure = panels(
        rows,
        columns,
        shared_yaxes=True,
        shared_xaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.13,
        subplot_titles=kinds,
    )
    most = 0
    for panel, kind in enumerate(kinds):
        place = {"row": 1 + panel // columns, "col": 1 + panel % columns}
        own = epochs[epochs["model"] == kind]
        limit = own["max_skips"].iloc[0]
        for i, (seed, line) in enumerate(own.groupby("seed")):
            most = max(most, int(line["leading_skips"].max()))
            figure.add_scatter(
                x=plain(line["epoch"]),
                y=plain(line["leading_skips"]),
                mode="lines",
                name=f"seed {seed}",
                legendgroup=str(seed),
                showlegend=panel == 0,
                line={"color": SEEDS[i % len(SEEDS)], "width": 2.2, "shape": "hv"},
                **place,
            )
            if line["epoch"].max() < last:
                figure.add_scatter(
                    x=[int(line["epoch"].max())],
                    y=[int(line["leading_skips"].iloc[-1])],
                    mode="markers",
                    marker={"symbol": "x", "size": 10, "color": ACCENT},
                    hovertemplate="stopped<extra></extra>",
                    showlegend=False,
                    **place,
                )
        if pd.notna(limit):
            figure.add_hline(y=float(limit), line={"color": MUTED, "width": 1.2, "dash": "dash"}, **place)
    figure.update_annotations(font={"size": 13.5})
    sheet(
        figure,
        f"skip_connect leads {most} of {edges} edges at the most",
        caption,
        height=400 + 220 * (rows - 1),
        head=HEAD + 24,
        bottom=96,
        legend=BELOW,
    )
    figure.update_xaxes(range=[0, last])
    figure.update_xaxes(title_text="epoch", row=rows)
    figure.update_yaxes(range=[-0.2, min(edges, most + 2) + 0.2], tickformat="d")
    figure.update_yaxes(title_text="edges led by skip_connect", col=1)
    return figure


def cost_clouds(
    genotypes: pd.DataFrame, experiments: pd.DataFrame, lines: pd.DataFrame, caption: str = ""
) -> Chart:
    """Weights against multiply-accumulates of random genotypes, one dot per genotype; the paper's experiments and their line.

    Args:
        genotypes: primitive_set, gmacs, weights_mb.
        experiments: exp_id, primitive_set, gmacs_median, weights_mb_median, paper_gflops, paper_memory_mb; a set of one
            network ("fixed") is drawn where its cost is known.
        lines: points, slope_mb_per_giga, intercept_mb, correlation; the first row is that of the paper's experiments.
    """
    figure = Chart()
    for name, group in genotypes.groupby("primitive_set", sort=False):
        figure.add_scatter(
            x=plain(group["gmacs"], 3),
            y=plain(group["weights_mb"], 2),
            mode="markers",
            name=f"random, {name}",
            marker={"color": SET_COLORS.get(name, MUTED), "size": 5.5, "opacity": 0.45},
            hoverinfo="skip",
        )
    hand = experiments[(experiments["primitive_set"] == "fixed") & experiments["gmacs_median"].notna()]
    if len(hand):
        figure.add_scatter(
            x=plain(hand["gmacs_median"], 3),
            y=plain(hand["weights_mb_median"], 2),
            mode="markers",
            name="made by hand",
            marker={
                "color": SET_COLORS["fixed"],
                "size": 15,
                "symbol": "star",
                "line": {"color": INK, "width": 1},
            },
        )
    theirs = lines.iloc[0]
    ends = np.array([0.9 * experiments["paper_gflops"].min(), 1.05 * experiments["paper_gflops"].max()])
    figure.add_scatter(
        x=plain(ends, 3),
        y=plain(theirs["slope_mb_per_giga"] * ends + theirs["intercept_mb"], 2),
        mode="lines",
        name="line through the paper's",
        line={"color": INK, "width": 1.2, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=plain(experiments["paper_gflops"], 3),
        y=plain(experiments["paper_memory_mb"], 2),
        mode="markers",
        name="the paper's experiments",
        text=list(experiments["exp_id"]),
        marker={"color": ACCENT, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
        hovertemplate="%{text}: %{x} GFLOPs, %{y} MB<extra>as printed</extra>",
    )
    title = f"What networks cost: the paper's on one line (r\u00a0=\u00a0{theirs['correlation']:.4f}), random ones in a cloud"
    sheet(figure, title, caption, height=520, right=210)
    of_x = "billions of multiply-accumulates; the paper: GFLOPs, as printed"
    figure.update_xaxes(title_text=of_x, rangemode="tozero")
    figure.update_yaxes(title_text="fp32 weights (MB); the paper: memory, as printed", rangemode="tozero")
    return figure

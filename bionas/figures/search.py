"""Figures of the search: what the primitives do and cost, how the losses fell, the weights of the edges by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bionas.figures.palette import ACCENT, GRID, INK, PAPER, PRIMITIVE_COLORS, class_color
from bionas.figures.sheet import (
    ABOVE,
    BELOW,
    DIVERGING,
    HEAD,
    MUTED,
    Chart,
    hex_to_rgb,
    panels,
    picture,
    plain,
    rows,
    sheet,
    table,
)
from bionas.training.skips import leaders, leading_skips

LINES = {
    "train_loss": ("training", "#3d5a80"),
    "val_loss": ("validation", ACCENT),
    "theta_loss": ("architecture step", "#e0a100"),
    "train_accuracy": ("training", "#3d5a80"),
    "val_accuracy": ("validation", ACCENT),
}

QUANTITIES = {
    "macs": "multiply-accumulates",
    "flops": "FLOPs (2 × MACs)",
    "parameters": "parameters",
    "weights_mb": "weights (MB, fp32)",
    "median_ms": "forward pass (ms)",
}
"""Columns of a cost table and what their axis says."""


def loss_curves(history: pd.DataFrame, caption: str = "") -> Chart:
    """Loss and accuracy by epoch.

    Args:
        history: a run's history.csv; of epoch, phase, train_loss, val_loss, theta_loss, train_accuracy and val_accuracy
            what there is is drawn.
    """
    phase = {"search": "Search", "fit": "Training"}.get(str(history["phase"].iloc[0]), "Training")
    last = history.iloc[-1]
    title = f"{phase}: validation accuracy {100 * last['val_accuracy']:.1f}\u00a0% after {_epochs(int(last['epoch']))}"
    figure = panels(1, 2, horizontal_spacing=0.11)
    for panel, names in enumerate(
        (("train_loss", "val_loss", "theta_loss"), ("train_accuracy", "val_accuracy")), 1
    ):
        for name in names:
            if name not in history or history[name].isna().all():
                continue
            label, color = LINES[name]
            scale = 100 if panel == 2 else 1
            figure.add_scatter(
                x=plain(history["epoch"]),
                y=plain(scale * history[name]),
                name=label,
                legendgroup=label,
                showlegend=panel == 1,
                mode="lines+markers",
                line={"color": color, "width": 2.4, "dash": "dot" if name == "theta_loss" else "solid"},
                marker={"size": 6 if len(history) < 30 else 3},
                row=1,
                col=panel,
            )
    sheet(
        figure,
        title,
        caption,
        height=400,
        head=HEAD + 26,
        legend=ABOVE,
    )
    figure.update_xaxes(title_text="epoch", dtick=_step(history["epoch"], 10))
    figure.update_yaxes(title_text="cross-entropy loss (nats)", row=1, col=1)
    figure.update_yaxes(title_text="accuracy (%)", row=1, col=2)
    return figure


def alpha_trajectories(alphas: pd.DataFrame, cell: int, caption: str = "") -> Chart:
    """The softmaxed weights of one cell by epoch: one panel per edge, one line per primitive.

    Args:
        alphas: a run's alphas.csv: epoch, cell, reduction, edge, primitive, alpha.
    """
    own = alphas[alphas["cell"] == cell]
    edges, primitives = list(own["edge"].unique()), list(own["primitive"].unique())
    kind = "reduction cell" if bool(own["reduction"].iloc[0]) else "normal cell"
    figure = panels(1, len(edges), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=_arrows(edges))
    for panel, edge in enumerate(edges, 1):
        for name in primitives:
            line = own[(own["edge"] == edge) & (own["primitive"] == name)].sort_values("epoch")
            figure.add_scatter(
                x=plain(line["epoch"]),
                y=plain(line["alpha"]),
                name=name,
                legendgroup=name,
                showlegend=panel == 1,
                mode="lines" if len(line) > 2 else "lines+markers",
                line={"color": _color(name), "width": 2.2, "dash": "dot" if name == "none" else "solid"},
                row=1,
                col=panel,
            )
    figure.update_annotations(font={"size": 14})
    last = own[own["epoch"] == own["epoch"].max()]
    ends = last.groupby("edge")["alpha"].max()
    even = 1 / len(primitives)
    figure.add_hline(y=round(even, 4), line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.add_annotation(
        x=1.006,
        y=round(even, 4),
        xref="paper",
        xanchor="left",
        showarrow=False,
        align="left",
        text=f"1/{len(primitives)}: no<br>preference",
        font={"size": 11, "color": MUTED},
    )
    sheet(
        figure,
        f"Cell {cell} ({kind}): leaders end at {ends.min():.3f} to {ends.max():.3f}",
        caption,
        height=500,
        head=HEAD + 24,
        bottom=165,
        right=84,
        legend=BELOW | {"entrywidth": 135},
    )
    figure.update_xaxes(title_text="epoch", dtick=_step(own["epoch"], 6))
    figure.update_yaxes(title_text="weight alpha", row=1, col=1)
    return figure


def alpha_heatmap(
    alphas: pd.DataFrame, epoch: int | None = None, caption: str = "", furthest: float | None = None
) -> Chart:
    """The weights of every edge at one epoch: one heat map per cell, edge x primitive, leaders framed.

    Colours run from below to above 1/K, where all weights begin; their range is the largest distance from it.

    Args:
        alphas: a run's alphas.csv.
        epoch: the last one if not given.
        furthest: distance from 1/K at the ends of the colours, to compare two searches; that of this epoch if not given.
    """
    epoch = int(alphas["epoch"].max()) if epoch is None else epoch
    now = alphas[alphas["epoch"] == epoch]
    return _heatmap(now, _weights_title(now, epoch), caption, furthest)


def alpha_epochs(alphas: pd.DataFrame, caption: str = "") -> Chart:
    """`alpha_heatmap` with a slider over the epochs. All epochs are in the figure: it works without a kernel.

    Args:
        alphas: a run's alphas.csv.
    """
    epochs = sorted(int(e) for e in alphas["epoch"].unique())
    of_epoch = {epoch: alphas[alphas["epoch"] == epoch] for epoch in epochs}
    last = of_epoch[epochs[-1]]
    even = 1 / alphas["primitive"].nunique()
    furthest = float((alphas["alpha"] - even).abs().max())
    figure = _heatmap(last, _weights_title(last, epochs[-1]), caption, furthest, slider=True)
    cells = sorted(last["cell"].unique())
    steps = []
    for epoch, now in of_epoch.items():
        tables = [_alpha_table(now, cell) for cell in cells]
        drawn = {"z": [table(t) for t in tables], "text": [_three_digits(t) for t in tables]}
        frames = [frame for row, t in enumerate(tables, 1) for frame in _leader_frames(t, row)]
        change = {"shapes": frames, "title.text": f"<b>{_weights_title(now, epoch)}</b>"}
        steps.append({"label": str(epoch), "method": "update", "args": [drawn, change]})
    slider = {
        "active": len(steps) - 1,
        "steps": steps,
        "currentvalue": {"prefix": "epoch "},
        "x": 0,
        "y": 0,
        "yanchor": "top",
        "pad": {"t": 92},
        "len": 1.0,
    }
    return figure.update_layout(sliders=[slider])


def _heatmap(
    now: pd.DataFrame, title: str, caption: str, furthest: float | None = None, slider: bool = False
) -> Chart:
    """One epoch; `furthest` from 1/K is the end of the colours, that of this epoch if not given."""
    cells, edges, primitives = (list(now[c].unique()) for c in ("cell", "edge", "primitive"))
    reduction = now.groupby("cell")["reduction"].first()
    each, gap = 30 * len(edges), 34
    inner = len(cells) * each + (len(cells) - 1) * gap
    figure = panels(
        len(cells),
        1,
        shared_xaxes=True,
        vertical_spacing=gap / inner if len(cells) > 1 else 0,
        subplot_titles=[f"cell {c} · {'reduction' if reduction[c] else 'normal'}" for c in cells],
    )
    for row, cell in enumerate(cells, 1):
        alpha = _alpha_table(now, cell)
        figure.add_trace(
            go.Heatmap(
                z=table(alpha),
                x=primitives,
                y=_arrows(edges),
                coloraxis="coloraxis",
                text=_three_digits(alpha),
                texttemplate="%{text}",
                textfont={"size": 12},
                xgap=2,
                ygap=2,
                hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        for frame in _leader_frames(alpha, row):
            figure.add_shape(frame)
    even = 1 / len(primitives)
    reach = max(float((now["alpha"] - even).abs().max()) if furthest is None else furthest, 1e-3)
    below = 190 if slider else 100
    sheet(
        figure,
        title,
        caption,
        height=HEAD + 26 + inner + below,
        head=HEAD + 26,
        left=84,
        bottom=below,
        right=96,
        coloraxis={
            "colorscale": DIVERGING,
            "cmin": round(even - reach, 4),
            "cmax": round(even + reach, 4),
            "colorbar": {
                "title": {"text": "alpha", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
                "lenmode": "pixels",
                "len": max(inner, 150),
                "nticks": 5,
            },
        },
    )
    figure.update_xaxes(showgrid=False, tickangle=-30, showticklabels=False)
    figure.update_xaxes(showticklabels=True, row=len(cells), col=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ")
    for note in figure.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 12.5, "color": MUTED})
    return figure


def _weights_title(now: pd.DataFrame, epoch: int) -> str:
    held = now.groupby(["cell", "edge"])["alpha"].max()
    return f"Edge weights after epoch {epoch}: leaders hold {held.min():.3f} to {held.max():.3f}"


def _alpha_table(now: pd.DataFrame, cell: int) -> pd.DataFrame:
    """Edges x primitives of one cell, in the order of the frame."""
    own = now[now["cell"] == cell]
    return own.pivot(index="edge", columns="primitive", values="alpha").loc[
        list(own["edge"].unique()), list(own["primitive"].unique())
    ]


def _three_digits(alpha: pd.DataFrame) -> list[list[str]]:
    return [[f"{v:.3f}".lstrip("0") for v in line] for line in alpha.to_numpy()]


def _leader_frames(alpha: pd.DataFrame, row: int) -> list[dict]:
    """A frame around the largest weight of each edge, on the axes of panel `row`."""
    axis = "" if row == 1 else str(row)
    return [
        {
            "type": "rect",
            "xref": f"x{axis}",
            "yref": f"y{axis}",
            "x0": int(k) - 0.48,
            "x1": int(k) + 0.48,
            "y0": y - 0.46,
            "y1": y + 0.46,
            "line": {"color": ACCENT, "width": 2.5},
        }
        for y, k in enumerate(alpha.to_numpy().argmax(axis=1))
    ]


def skip_count(alphas: pd.DataFrame, caption: str = "") -> Chart:
    """How many edges each primitive leads, by epoch; a search that fails in the known way fills up with skips.

    Args:
        alphas: a run's alphas.csv.
    """
    led = leaders(alphas)
    n_edges, skips = int(led.iloc[-1].sum()), int(leading_skips(alphas).iloc[-1])
    figure = Chart()
    for name in led:
        figure.add_bar(
            x=plain(led.index),
            y=plain(led[name]),
            name=name,
            marker={"color": _color(name), "line": {"color": PAPER, "width": 1}},
            hovertemplate="epoch %{x}: %{y} edges<extra>" + name + "</extra>",
        )
    title = f"skip_connect leads {skips} of {n_edges} edges at the end"
    legend = {"traceorder": "reversed"}
    sheet(figure, title, caption, height=400, right=180, barmode="stack", bargap=0.15, legend=legend)
    figure.update_xaxes(title_text="epoch (0: before training)", dtick=_step(led.index, 12), showgrid=False)
    figure.update_yaxes(title_text="edges led", tickformat="d", range=[0, n_edges])
    return figure


def primitive_responses(images: Mapping[str, np.ndarray], caption: str = "", columns: int = 4) -> Chart:
    """One image through each primitive.

    Args:
        images: name -> uint8 (S, S, 3), shown as it is, or (S, S) numbers, drawn from their least to their greatest
            value (a map of zeros stays blank).
    """
    tiles = [_tile(np.asarray(image), name) for name, image in images.items()]
    side = max(tile.shape[0] for tile in tiles)
    tiles = [np.kron(t, np.ones((side // t.shape[0],) * 2 + (1,), dtype=np.uint8)) for t in tiles]
    title = "One image through each primitive"
    return picture(tiles, list(images), columns, title, caption, smooth=False)


def cost_bars(frame: pd.DataFrame, caption: str = "", title: str = "") -> Chart:
    """One panel per quantity, one bar per row; the title names the most expensive row unless given.

    Args:
        frame: the first column names the rows (primitives keep their colours), the others are those of `QUANTITIES`.
    """
    names = [str(n) for n in frame.iloc[:, 0]]
    columns = [c for c in frame.columns[1:] if c in QUANTITIES]
    figure = panels(1, len(columns), shared_yaxes=True, horizontal_spacing=0.07)
    dearest = names[int(frame[columns[0]].astype(float).to_numpy().argmax())]
    title = title or f"{dearest} costs most {QUANTITIES[columns[0]]}"
    colors = [_color(name) if name in PRIMITIVE_COLORS else class_color(name, names) for name in names]
    for i, column in enumerate(columns, 1):
        values = frame[column].astype(float)
        factor, unit = _unit(values.max()) if column in ("macs", "flops", "parameters") else (1, "")
        figure.add_bar(
            y=names,
            x=plain(values / factor),
            orientation="h",
            marker={"color": colors},
            text=[f"{v / factor:.3g}" if v else "0" for v in values],
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            row=1,
            col=i,
        )
        figure.update_xaxes(
            title_text=QUANTITIES[column] + (f" ({unit})" if unit else ""),
            range=[0, round(1.18 * float(values.max()) / factor, 4) or 1],
            row=1,
            col=i,
        )
    sheet(figure, title, caption, height=rows(len(names), 27), left=150, right=40, bargap=0.3)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure


def _tile(image: np.ndarray, name: str) -> np.ndarray:
    """(S, S) numbers -> uint8 (S, S, 3), from paper to the primitive's colour, then to ink."""
    if image.ndim == 3:
        return image.astype(np.uint8)
    low, high = float(image.min()), float(image.max())
    share = (image - low) / (high - low) if high > low else np.zeros_like(image, dtype=float)
    stops = np.array([hex_to_rgb(c) for c in (GRID, PRIMITIVE_COLORS.get(name, "#7fa6cc"), INK)], dtype=float)
    channels = [np.interp(share, (0, 0.55, 1), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _color(primitive: str) -> str:
    return PRIMITIVE_COLORS.get(primitive, MUTED)


def _arrows(edges: list[str]) -> list[str]:
    return [edge.replace("->", " → ") for edge in edges]


def _epochs(n: int) -> str:
    return f"{n} epoch" + ("" if n == 1 else "s")


def _step(epochs: pd.Series | pd.Index, ticks: int) -> int:
    """Whole epochs between two ticks."""
    least = (epochs.max() - epochs.min()) / ticks
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, math.ceil(least)) if step >= least)


def _unit(largest: float) -> tuple[float, str]:
    for factor, unit in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
        if largest >= factor:
            return factor, unit
    return 1.0, ""
